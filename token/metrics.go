package token

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	verdicts     *prometheus.CounterVec // by outcome, a closed set
	hits, misses prometheus.Counter
	seconds      prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	cache := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "signet_token_cache_total",
		Help: "Look-ups of a token in this process's cache.",
	}, []string{"result"})
	m := &metrics{
		verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signet_token_verdicts_total",
			Help: "Token verdicts that were answered; errors have outcome unavailable or internal.",
		}, []string{"outcome"}),
		hits:   cache.WithLabelValues("hit"),
		misses: cache.WithLabelValues("miss"),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "signet_token_verify_seconds",
			Help:    "Time of a token verification, with its database round trips.",
			Buckets: prometheus.ExponentialBuckets(100e-6, 2, 16),
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{cache, m.verdicts, m.seconds} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("token: metrics: %w", err)
		}
	}
	return m, nil
}
