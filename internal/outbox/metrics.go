package outbox

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	deliveries *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	age        *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signet_outbox_attempts_total",
			Help: "Attempts to deliver, by consumer and result: ok, retry, later, dead.",
		}, []string{"consumer", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "signet_outbox_attempt_seconds", Help: "Duration of an attempt.",
			Buckets: prometheus.ExponentialBuckets(0.005, 4, 7),
		}, []string{"consumer"}),
		age: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "signet_outbox_age_seconds", Help: "Time from the event to its delivery.",
			Buckets: prometheus.ExponentialBuckets(0.05, 5, 9),
		}, []string{"consumer"}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.deliveries, m.seconds, m.age} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("outbox: metrics: %w", err)
		}
	}
	return m, nil
}
