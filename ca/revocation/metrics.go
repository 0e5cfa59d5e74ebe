package revocation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg"
)

// metrics of one publisher. Issuers are no label: there are as many as signers.
// The gauges are about all CRLs of the installation, the same on each node.
type metrics struct {
	builds  *prometheus.CounterVec   // by outcome
	answers *prometheus.CounterVec   // by status
	seconds *prometheus.HistogramVec // by what

	dirty, waiting, total, overdue, age, largest, bytes, entries prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		builds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signet_crl_builds_total", Help: "CRLs made by this process, by outcome.",
		}, []string{"outcome"}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signet_ocsp_answers_total", Help: "OCSP requests by answer: good, revoked, or why there was no response.",
		}, []string{"status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "signet_revocation_sign_seconds", Help: "Time to encode and sign a CRL, an OCSP response, or a responder's certificate.",
			Buckets: prometheus.ExponentialBuckets(250e-6, 2.5, 11), // 250 us .. 2.4 s
		}, []string{"what"}),
		dirty:   gauge("signet_crl_dirty", "CRLs that a revocation has made out of date."),
		waiting: gauge("signet_crl_waiting_seconds", "Age of the oldest revocation that is on no CRL yet; 0 when there is none."),
		total:   gauge("signet_crl_shards", "CRLs that are kept up to date."),
		overdue: gauge("signet_crl_overdue", "CRLs past their nextUpdate, or never made."),
		age:     gauge("signet_crl_age_seconds", "Age of the oldest CRL."),
		largest: gauge("signet_crl_largest_bytes", "Size of the largest CRL."),
		bytes:   gauge("signet_crl_bytes", "Size of all CRLs together."),
		entries: gauge("signet_crl_entries", "Certificates listed in all CRLs together."),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.builds, m.answers, m.seconds,
		m.dirty, m.waiting, m.total, m.overdue, m.age, m.largest, m.bytes, m.entries,
	} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func outcomeOf(err error) string {
	if err != nil {
		return fault.KindOf(err).String()
	}
	return "ok"
}

func (m *metrics) built(err error) { m.builds.WithLabelValues(outcomeOf(err)).Inc() }

func (m *metrics) signed(what string, start time.Time, err error) {
	if err == nil {
		m.seconds.WithLabelValues(what).Observe(time.Since(start).Seconds())
	}
}

func (m *metrics) answered(status string, err error) {
	switch {
	case errors.Is(err, ErrNoIssuer), errors.Is(err, ErrUnknownCertificate):
		status = "unauthorized"
	case errors.Is(err, ErrMalformed):
		status = "malformed"
	case errors.Is(err, ErrBusy):
		status = "busy"
	case err != nil:
		status = fault.KindOf(err).String()
	}
	m.answers.WithLabelValues(strings.ToLower(status)).Inc()
}

// look reads the gauges, now and then.
func (p *Publisher) look(ctx context.Context) error {
	now := p.wallTime()
	if now.Sub(p.looked) < statusEvery {
		return nil
	}
	var dirty, total, overdue, largest int
	var bytes, entries int64
	var oldest, first *time.Time
	if err := p.c.DB.QueryRow(ctx, sqlLook, now).
		Scan(&dirty, &oldest, &total, &overdue, &first, &largest, &bytes, &entries); err != nil {
		return fmt.Errorf("revocation: read the state of the CRLs: %w", pg.Unavailable(err))
	}
	p.looked = now
	since := func(t *time.Time) float64 {
		if t == nil {
			return 0
		}
		return max(0, now.Sub(*t).Seconds())
	}
	m := p.metrics
	m.dirty.Set(float64(dirty))
	m.waiting.Set(since(oldest))
	m.total.Set(float64(total))
	m.overdue.Set(float64(overdue))
	m.age.Set(since(first))
	m.largest.Set(float64(largest))
	m.bytes.Set(float64(bytes))
	m.entries.Set(float64(entries))
	return nil
}
