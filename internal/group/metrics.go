package group

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	size    prometheus.Histogram
	refused prometheus.Counter
}

func newMetrics(name string, r prometheus.Registerer) (*metrics, error) {
	label := prometheus.Labels{"group": name}
	m := &metrics{
		size: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "signet_group_size", Help: "Items that shared one flush.",
			ConstLabels: label, Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signet_group_refused_total", Help: "Calls refused because the queue was full or their deadline too near.",
			ConstLabels: label,
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.size, m.refused} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("group: metrics: %w", err)
		}
	}
	return m, nil
}
