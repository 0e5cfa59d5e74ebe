package audit

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type sealerMetrics struct {
	sealed, checkpoints, alarms prometheus.Counter
	failures                    *prometheus.CounterVec // by step, a closed set
}

func newSealerMetrics(r prometheus.Registerer) (*sealerMetrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &sealerMetrics{
		sealed:      counter("signet_audit_sealed_total", "Audit events appended to their tenant's hash chain."),
		checkpoints: counter("signet_audit_checkpoints_total", "Checkpoints signed in the HSM and stored."),
		alarms:      counter("signet_audit_alarms_total", "Signs of a changed audit chain: run audit verify."),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signet_audit_seal_failures_total", Help: "Steps of sealing that failed and will be tried again.",
		}, []string{"step"}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.sealed, m.checkpoints, m.alarms, m.failures} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("audit: metrics: %w", err)
		}
	}
	return m, nil
}
