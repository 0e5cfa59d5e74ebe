package broker

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics of a broker. Labels are bounded: operations are those of package hsm.
type metrics struct {
	starts       prometheus.Counter
	failedStarts prometheus.Counter
	ends         *prometheus.CounterVec // by cause: died, killed, replaced
	repeats      *prometheus.CounterVec // by operation and cause: lost, outage
	recovery     prometheus.Histogram   // seconds from an empty seat to a ready worker
	waiting      prometheus.Gauge
	dropped      prometheus.Counter

	registerer prometheus.Registerer
	collectors []prometheus.Collector
}

func newMetrics(reg prometheus.Registerer, b *Broker) (*metrics, error) {
	m := &metrics{
		starts:       prometheus.NewCounter(prometheus.CounterOpts{Name: "signet_hsm_worker_starts_total", Help: "HSM workers that became ready."}),
		failedStarts: prometheus.NewCounter(prometheus.CounterOpts{Name: "signet_hsm_worker_failed_starts_total", Help: "HSM workers that did not become ready."}),
		ends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signet_hsm_worker_ends_total", Help: "HSM workers that ended: died by themselves, killed because they hung or lied, replaced by another.",
		}, []string{"cause"}),
		repeats: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signet_hsm_worker_repeats_total", Help: "Operations repeated on another worker: the first was lost, or answered with an outage.",
		}, []string{"mechanism", "cause"}),
		recovery: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "signet_hsm_worker_recovery_seconds", Help: "Time from the end of a worker to its successor's readiness.",
			Buckets: prometheus.ExponentialBuckets(0.01, 2, 12), // 10 ms .. 20 s
		}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{Name: "signet_hsm_worker_waiting", Help: "Callers waiting for a ready worker."}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{Name: "signet_hsm_worker_output_dropped_total", Help: "Lines of worker output that were not logged."}),
	}
	if reg == nil {
		return m, nil
	}
	m.registerer = reg
	for _, c := range []prometheus.Collector{
		m.starts, m.failedStarts, m.ends, m.repeats, m.recovery, m.waiting, m.dropped,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "signet_hsm_workers_ready", Help: "HSM workers that take requests."},
			func() float64 { return float64(len(*b.links.Load())) }),
		&workerStats{b},
	} {
		if err := reg.Register(c); err != nil {
			m.unregister()
			return nil, err
		}
		m.collectors = append(m.collectors, c)
	}
	return m, nil
}

func (m *metrics) unregister() {
	for _, c := range m.collectors {
		m.registerer.Unregister(c)
	}
	m.collectors = nil
}
