package rest

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Labels are bounded: route ids come from the table, reasons from sentinels.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	problems *prometheus.CounterVec
	inFlight prometheus.Gauge
	panics   prometheus.Counter
}

func newMetrics(r prometheus.Registerer, dialect string) (*metrics, error) {
	l := prometheus.Labels{"api": dialect}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signet_http_requests_total", ConstLabels: l,
			Help: "Requests by route (inventory id) and status class.",
		}, []string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "signet_http_request_seconds", ConstLabels: l,
			Help:                        "Time from the request's header to its answer.",
			Buckets:                     prometheus.ExponentialBuckets(0.00025, 2, 16),
			NativeHistogramBucketFactor: 1.1,
		}, []string{"route"}),
		problems: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signet_http_problems_total", ConstLabels: l,
			Help: "Error answers by reason.",
		}, []string{"reason"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "signet_http_in_flight", ConstLabels: l,
			Help: "Requests being served.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signet_http_panics_total", ConstLabels: l,
			Help: "Handlers that panicked.",
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.problems, m.inFlight, m.panics} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("rest: metrics of %s: %w", dialect, err)
		}
	}
	return m, nil
}
