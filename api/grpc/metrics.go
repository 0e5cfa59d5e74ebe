package grpc

import (
	"fmt"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/signet-hsm/signet/access"
)

// Labels are bounded: only registered methods reach an interceptor.
type metrics struct {
	methods  map[string]*method
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
	m.methods = make(map[string]*method, len(privileges))
	for name, allow := range privileges {
		m.methods[name] = &method{name: name, allow: allow, public: allow.Has(access.Public), of: m}
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

// of finds a method. One without a row is nobody's to call: a server that had one
// would not have started.
func (m *metrics) of(name string) *method {
	if known, ok := m.methods[name]; ok {
		return known
	}
	return &method{name: name, of: m}
}

// method is what is known of one before it is called. Its series are looked up when
// they are first needed, so that what is never called is not shown, and kept.
type method struct {
	name   string
	allow  access.Set
	public bool
	of     *metrics

	codes   [codes.Unauthenticated + 1]atomic.Pointer[prometheus.Counter]
	seconds atomic.Pointer[prometheus.Observer]
}

func (m *method) code(c codes.Code) prometheus.Counter {
	if int(c) >= len(m.codes) {
		return m.of.calls.WithLabelValues(m.name, c.String())
	}
	if have := m.codes[c].Load(); have != nil {
		return *have
	}
	made := m.of.calls.WithLabelValues(m.name, c.String())
	m.codes[c].Store(&made)
	return made
}

func (m *method) took() prometheus.Observer {
	if have := m.seconds.Load(); have != nil {
		return *have
	}
	made := m.of.seconds.WithLabelValues(m.name)
	m.seconds.Store(&made)
	return made
}
