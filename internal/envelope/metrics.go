package envelope

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	unwraps *prometheus.CounterVec // outcome: ok, unavailable, corrupt
	corrupt prometheus.Counter
	cached  prometheus.Gauge

	resealed prometheus.Counter
	keys     *prometheus.GaugeVec // state: as in table dek
	age      *prometheus.GaugeVec // kind: data_key, kek
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
		resealed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signet_envelope_resealed_total", Help: "Values sealed anew because their data key retires.",
		}),
		keys: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "signet_envelope_stored_keys", Help: "Data keys in the database, by state.",
		}, []string{"state"}),
		age: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "signet_envelope_oldest_primary_seconds", Help: "Age of the oldest key that seals, by kind (data_key, kek).",
		}, []string{"kind"}),
	}
	if r != nil {
		r.MustRegister(m.unwraps, m.corrupt, m.cached, m.resealed, m.keys, m.age)
	}
	return m
}
