package operation

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	moves   *prometheus.CounterVec // by the state that was reached
	refused *prometheus.CounterVec // failed approvals by reason, a closed set
	retries prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		moves: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signet_operation_states_total",
			Help: "Operations that reached a state.",
		}, []string{"state"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signet_operation_failures_total",
			Help: "Approvals that did not fit the operation and were counted.",
		}, []string{"reason"}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signet_operation_cas_retries_total",
			Help: "Changes decided again because another request changed the operation first.",
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.moves, m.refused, m.retries} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("operation: metrics: %w", err)
		}
	}
	return m, nil
}
