package push

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct{ sent *prometheus.CounterVec }

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{sent: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "signet_push_total",
		Help: "Attempts to push, by platform and result: sent, failed, pruned, expired, no_credential.",
	}, []string{"platform", "result"})}
	if r == nil {
		return m, nil
	}
	if err := r.Register(m.sent); err != nil {
		return nil, fmt.Errorf("push: metrics: %w", err)
	}
	return m, nil
}
