package hsm

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of a front. Labels are bounded: mechanisms are the names in engine.go,
// outcomes those of class.go.
type metrics struct {
	registered
	operations *prometheus.HistogramVec // by mechanism, outcome
	// ok holds the observers of good ends, by operation and scheme: a look-up in
	// the vector costs an allocation.
	ok    [OpInfo + 1][SchemePSS + 1]prometheus.Observer
	wrong prometheus.Counter // signatures kept back
}

func newMetrics(reg prometheus.Registerer, token string) (*metrics, error) {
	m := &metrics{
		operations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "signet_hsm_operation_seconds", Help: "Time of one HSM operation, with the wait for a lane, heals and retries.",
			Buckets: prometheus.ExponentialBuckets(25e-6, 2.5, 14), // 25 us .. 3.7 s
		}, []string{"mechanism", "outcome"}),
		wrong: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signet_hsm_wrong_signatures_total", Help: "Signatures that were not the key's and were kept back.",
		}),
	}
	for op := range m.ok {
		for s := range m.ok[op] {
			if name := mechanismName(Op(op), Scheme(s)); name != "" {
				m.ok[op][s] = m.operations.WithLabelValues(name, outcome(nil))
			}
		}
	}
	return m, m.register(reg, token, m.operations, m.wrong)
}

// mechanismName is the label of an operation; "" for a pair that does not exist.
func mechanismName(op Op, s Scheme) string {
	switch {
	case op == OpSign && s != 0:
		return s.String()
	case op != OpSign && op != 0 && s == 0:
		return op.String()
	}
	return ""
}

func (m *metrics) done(op Op, s Scheme, took time.Duration, err error) {
	if err == nil {
		m.ok[op][s].Observe(took.Seconds())
		return
	}
	m.operations.WithLabelValues(mechanismName(op, s), outcome(err)).Observe(took.Seconds())
}

// laneMetrics of an engine in this process.
type laneMetrics struct {
	registered
	wait     prometheus.Histogram // seconds until a lane was free, only when there was a wait
	inUse    prometheus.Gauge
	waiting  prometheus.Gauge
	sessions prometheus.Gauge
	logins   *prometheus.CounterVec // by outcome
	heals    *prometheus.CounterVec // by class

	left      prometheus.Counter     // calls whose caller left first
	abandoned prometheus.Gauge       // of those, how many are still in the module
	down      prometheus.Gauge       // instances out of service
	open      prometheus.Gauge       // 1 while the breaker is open
	repairs   *prometheus.CounterVec // by outcome
	replaced  prometheus.Counter
}

func newLaneMetrics(reg prometheus.Registerer, token string) (*laneMetrics, error) {
	m := &laneMetrics{
		wait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "signet_hsm_lane_wait_seconds", Help: "Time callers waited for a free lane, when none was free.",
			Buckets: prometheus.ExponentialBuckets(25e-6, 2.5, 14),
		}),
		inUse:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "signet_hsm_lanes_in_use", Help: "Lanes handed out."}),
		waiting:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "signet_hsm_lanes_waiting", Help: "Callers waiting for a lane."}),
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{Name: "signet_hsm_sessions", Help: "Open sessions of the lanes."}),
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signet_hsm_logins_total", Help: "C_Login calls.",
		}, []string{"outcome"}),
		heals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signet_hsm_heals_total", Help: "Operations retried after a heal, by error class.",
		}, []string{"class"}),
		left: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signet_hsm_calls_left_total", Help: "Calls whose caller left at its deadline while the module was at work.",
		}),
		abandoned: prometheus.NewGauge(prometheus.GaugeOpts{Name: "signet_hsm_calls_abandoned", Help: "Calls in the module that nobody waits for any more."}),
		down:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "signet_hsm_instances_down", Help: "Instances of the module out of service."}),
		open:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "signet_hsm_breaker_open", Help: "1 while no instance is in service and callers are refused at once."}),
		repairs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signet_hsm_repairs_total", Help: "Attempts to initialise the module anew.",
		}, []string{"outcome"}),
		replaced: prometheus.NewCounter(prometheus.CounterOpts{Name: "signet_hsm_instances_replaced_total", Help: "Instances given up because a call in them never ended."}),
	}
	return m, m.register(reg, token, m.wait, m.inUse, m.waiting, m.sessions, m.logins, m.heals,
		m.left, m.abandoned, m.down, m.open, m.repairs, m.replaced)
}

// registered are collectors that one token has at a registry.
type registered struct {
	registerer prometheus.Registerer
	collectors []prometheus.Collector
}

// register adds all of them under the token's label, or none.
func (r *registered) register(reg prometheus.Registerer, token string, list ...prometheus.Collector) error {
	if reg == nil {
		return nil
	}
	if r.registerer = reg; token != "" {
		r.registerer = prometheus.WrapRegistererWith(prometheus.Labels{"token": token}, reg)
	}
	for _, c := range list {
		if err := r.registerer.Register(c); err != nil {
			r.unregister()
			return err
		}
		r.collectors = append(r.collectors, c)
	}
	return nil
}

func (r *registered) unregister() {
	for _, c := range r.collectors {
		r.registerer.Unregister(c)
	}
	r.collectors = nil
}
