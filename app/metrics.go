package app

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	cache *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{cache: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "signet_app_cache_total",
		Help: "Look-ups of applications and application keys in this process's cache.",
	}, []string{"cache", "result"})}
	if r == nil {
		return m, nil
	}
	if err := r.Register(m.cache); err != nil {
		return nil, fmt.Errorf("app: metrics: %w", err)
	}
	return m, nil
}
