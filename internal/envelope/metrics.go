package envelope

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	unwraps *prometheus.CounterVec // outcome: ok, unavailable, corrupt
	corrupt prometheus.Counter
	cached  prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		unwraps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signet_envelope_unwraps_total", Help: "Data keys unwrapped by the HSM, by outcome (ok, unavailable, corrupt).",
		}, []string{"outcome"}),
		corrupt: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signet_envelope_corrupt_total", Help: "Sealed values that did not open in their place.",
		}),
		cached: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "signet_envelope_data_keys", Help: "Unwrapped data keys in memory.",
		}),
	}
	if r != nil {
		r.MustRegister(m.unwraps, m.corrupt, m.cached)
	}
	return m
}
