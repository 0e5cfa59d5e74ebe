package registration

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	verdicts *prometheus.CounterVec // by outcome, a closed set
	retries  prometheus.Counter
	keyHits  prometheus.Counter
	keyMiss  prometheus.Counter
	seconds  prometheus.Histogram

	cacheBytes prometheus.Gauge
	evictions  prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	keys := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "signet_registration_key_cache_total",
		Help: "Look-ups of a registration's keys in this process's cache.",
	}, []string{"result"})
	m := &metrics{
		verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signet_registration_verdicts_total",
			Help: "Signature verdicts that were answered; errors have outcome unavailable or error.",
		}, []string{"outcome"}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signet_registration_cas_retries_total",
			Help: "Changes decided again because another request changed the registration first.",
		}),
		keyHits: keys.WithLabelValues("hit"),
		keyMiss: keys.WithLabelValues("miss"),
		cacheBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "signet_registration_cache_bytes", Help: "Memory of the registrations that are held ready.",
		}),
		evictions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signet_registration_cache_evictions_total", Help: "Registrations that made room for others.",
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "signet_registration_verify_seconds",
			Help:    "Time of a signature verification, with its database round trips.",
			Buckets: prometheus.ExponentialBuckets(100e-6, 2, 16),
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{keys, m.verdicts, m.retries, m.seconds, m.cacheBytes, m.evictions} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("registration: metrics: %w", err)
		}
	}
	return m, nil
}
