package hsm

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one token. Labels are bounded: mechanisms are the names in this
// package, outcomes and classes those of class.go.
type metrics struct {
	operations *prometheus.HistogramVec // seconds in the module and in healing, by mechanism, outcome
	wait       prometheus.Histogram     // seconds until a lane was free, only when there was a wait
	inUse      prometheus.Gauge
	waiting    prometheus.Gauge
	sessions   prometheus.Gauge
	logins     *prometheus.CounterVec // by outcome
	heals      *prometheus.CounterVec // by class

	registerer prometheus.Registerer
	registered []prometheus.Collector
}

func newMetrics(reg prometheus.Registerer, token string) (*metrics, error) {
	m := &metrics{
		operations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "signet_hsm_operation_seconds", Help: "Time of one HSM operation with its heal and retry, without the wait for a lane.",
			Buckets: prometheus.ExponentialBuckets(25e-6, 2.5, 14), // 25 us .. 3.7 s
		}, []string{"mechanism", "outcome"}),
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
	}
	if reg == nil {
		return m, nil
	}
	m.registerer = prometheus.WrapRegistererWith(prometheus.Labels{"token": token}, reg)
	for _, c := range []prometheus.Collector{m.operations, m.wait, m.inUse, m.waiting, m.sessions, m.logins, m.heals} {
		if err := m.registerer.Register(c); err != nil {
			m.unregister()
			return nil, err
		}
		m.registered = append(m.registered, c)
	}
	return m, nil
}

func (m *metrics) unregister() {
	for _, c := range m.registered {
		m.registerer.Unregister(c)
	}
	m.registered = nil
}
