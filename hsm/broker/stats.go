package broker

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	dto "github.com/prometheus/client_model/go"

	"github.com/signet-hsm/signet/hsm/broker/wire"
)

const (
	// statsWithin bounds what a scrape waits for a worker, which need not call its
	// module for this.
	statsWithin = time.Second
	// maxSeries bounds what one worker may tell.
	maxSeries = 500
)

// workerStats tells the resident size of each worker and what the engine in it
// counts (lanes, sessions, logins, heals), with the worker as a label.
type workerStats struct{ b *Broker }

var residentDesc = prometheus.NewDesc("signet_hsm_worker_resident_bytes", "Resident size of an HSM worker.", []string{"worker"}, nil)

// Describe says nothing: what workers tell is not known beforehand.
func (s *workerStats) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (s *workerStats) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(s.b.ctx, statsWithin)
	defer cancel()
	for _, l := range *s.b.links.Load() {
		name := strconv.Itoa(l.seat)
		out <- prometheus.MustNewConstMetric(residentDesc, prometheus.GaugeValue, float64(l.resident()), name)
		n := 0
		for _, f := range s.b.ask(ctx, l) {
			// A worker's word is not trusted with names of others.
			if !strings.HasPrefix(f.GetName(), "signet_hsm_") || strings.HasPrefix(f.GetName(), "signet_hsm_worker") {
				continue
			}
			for _, m := range f.GetMetric() {
				if n++; n > maxSeries {
					return
				}
				if c := convert(f, m, name); c != nil {
					out <- c
				}
			}
		}
	}
}

// ask gets a worker's metrics; none when it does not answer.
func (b *Broker) ask(ctx context.Context, l *link) []*dto.MetricFamily {
	c := newCall(0)
	c.frame = wire.Append(c.frame[:0], wire.Frame{Kind: wire.KindStats})
	if !l.send(c) {
		c.free()
		return nil
	}
	if !l.wait(ctx, c) {
		return nil
	}
	defer c.free()
	if c.lost != nil || c.kind != wire.KindOK {
		return nil
	}
	list, err := wire.ParseFamilies(c.answer)
	if err != nil {
		l.kill(err.Error())
		return nil
	}
	return list
}

// convert makes a metric of ours of one that was told; nil when it is of a kind
// that engines do not use.
func convert(f *dto.MetricFamily, m *dto.Metric, worker string) prometheus.Metric {
	labels := prometheus.Labels{"worker": worker}
	for _, p := range m.GetLabel() {
		labels[p.GetName()] = p.GetValue()
	}
	desc := prometheus.NewDesc(f.GetName(), f.GetHelp(), nil, labels)
	var (
		c   prometheus.Metric
		err error
	)
	switch {
	case m.Counter != nil:
		c, err = prometheus.NewConstMetric(desc, prometheus.CounterValue, m.Counter.GetValue())
	case m.Gauge != nil:
		c, err = prometheus.NewConstMetric(desc, prometheus.GaugeValue, m.Gauge.GetValue())
	case m.Histogram != nil:
		buckets := map[float64]uint64{}
		for _, b := range m.Histogram.GetBucket() {
			buckets[b.GetUpperBound()] = b.GetCumulativeCount()
		}
		c, err = prometheus.NewConstHistogram(desc, m.Histogram.GetSampleCount(), m.Histogram.GetSampleSum(), buckets)
	default:
		return nil
	}
	if err != nil {
		return nil
	}
	return c
}
