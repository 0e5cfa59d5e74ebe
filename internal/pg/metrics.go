package pg

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// Collector tells a pool's figures to Prometheus. It reads them when asked and
// keeps nothing, so it needs no closing; unregister it with the pool.
func Collector(pool *pgxpool.Pool) prometheus.Collector { return collector{pool} }

type collector struct{ pool *pgxpool.Pool }

var (
	descAcquired = desc("connections_acquired", "Connections in use.")
	descIdle     = desc("connections_idle", "Connections waiting for use.")
	descMax      = desc("connections_max", "Most connections the pool may open.")
	descAcquires = desc("acquires_total", "Connections taken from the pool.")
	descWaits    = desc("acquire_waits_total", "Of those, how many had to wait for a connection.")
	descSeconds  = desc("acquire_wait_seconds_total", "Time spent waiting for a connection.")
	descCanceled = desc("acquires_canceled_total", "Callers that gave up waiting.")
)

func desc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("signet_pg_"+name, help, nil, nil)
}

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	s := c.pool.Stat()
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	counter := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v)
	}
	gauge(descAcquired, float64(s.AcquiredConns()))
	gauge(descIdle, float64(s.IdleConns()))
	gauge(descMax, float64(s.MaxConns()))
	counter(descAcquires, float64(s.AcquireCount()))
	counter(descWaits, float64(s.EmptyAcquireCount()))
	counter(descSeconds, s.EmptyAcquireWaitTime().Seconds())
	counter(descCanceled, float64(s.CanceledAcquireCount()))
}
