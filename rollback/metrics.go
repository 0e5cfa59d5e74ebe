package rollback

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	held     prometheus.Gauge
	found    prometheus.Counter
	failures prometheus.Counter
	written  prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		held: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "signet_rollback_held", Help: "Tenants whose verdicts are refused because the database was set back.",
		}),
		found: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signet_rollback_found_total", Help: "Steps back of the database that this node found.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signet_rollback_failures_total", Help: "Beats that failed, and marks that could not be written.",
		}),
		written: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "signet_rollback_mark_written_seconds", Help: "When the mark file was last written, as Unix time.",
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.held, m.found, m.failures, m.written} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("rollback: metrics: %w", err)
		}
	}
	return m, nil
}
