package grpc

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Labels are bounded: only registered methods reach an interceptor.
type metrics struct {
	calls    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inFlight prometheus.Gauge
	panics   prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signet_grpc_requests_total", Help: "Calls by method and status code.",
		}, []string{"method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "signet_grpc_request_seconds", Help: "Time from a call's message to its answer.",
			Buckets:                     prometheus.ExponentialBuckets(0.00025, 2, 16),
			NativeHistogramBucketFactor: 1.1,
		}, []string{"method"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "signet_grpc_in_flight", Help: "Calls being served."}),
		panics:   prometheus.NewCounter(prometheus.CounterOpts{Name: "signet_grpc_panics_total", Help: "Handlers that panicked."}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.calls, m.seconds, m.inFlight, m.panics} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("grpc: metrics: %w", err)
		}
	}
	return m, nil
}
