package rest

import (
	"fmt"
	"strconv"
	"sync/atomic"

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

// of a route: its series are looked up when they are first needed, and kept.
func (m *metrics) of(route string) *routeMetrics { return &routeMetrics{all: m, id: route} }

type routeMetrics struct {
	all *metrics
	id  string

	classes [6]atomic.Pointer[prometheus.Counter]
	seconds atomic.Pointer[prometheus.Observer]
}

// class counts answers of a status class, 1 to 5.
func (m *routeMetrics) class(status int) prometheus.Counter {
	c := status / 100
	if c < 0 || c >= len(m.classes) {
		c = 0
	}
	if have := m.classes[c].Load(); have != nil {
		return *have
	}
	made := m.all.requests.WithLabelValues(m.id, strconv.Itoa(c)+"xx")
	m.classes[c].Store(&made)
	return made
}

func (m *routeMetrics) took() prometheus.Observer {
	if have := m.seconds.Load(); have != nil {
		return *have
	}
	made := m.all.seconds.WithLabelValues(m.id)
	m.seconds.Store(&made)
	return made
}
