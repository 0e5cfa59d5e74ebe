package ca

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/fault"
)

// metrics of one authority. Labels are bounded: the profiles compiled in, and
// the kinds of package fault. Tenants are not a label.
type metrics struct {
	issued  *prometheus.CounterVec   // by profile, outcome
	seconds *prometheus.HistogramVec // by profile

	reconciled *prometheus.CounterVec // by step
	unrecorded prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, a *Authority) (*metrics, error) {
	m := &metrics{
		issued: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signet_ca_certificates_total", Help: "Certificate requests by profile and outcome.",
		}, []string{"profile", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "signet_ca_issue_seconds", Help: "Time from request to stored certificate, failures included.",
			Buckets: prometheus.ExponentialBuckets(250e-6, 2, 14), // 250 us .. 2 s
		}, []string{"profile"}),
		reconciled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signet_ca_reconciled_total", Help: "What the reconciler found to do, by step.",
		}, []string{"step"}),
		unrecorded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "signet_ca_unrecorded_keys", Help: "Signer keys in the HSM that no record explained when this process started.",
		}),
	}
	if reg == nil {
		return m, nil
	}
	signer := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "signet_ca_signer_not_after_seconds",
		Help: "Unix time at which the first of the ACTIVE signers used by this process expires; 0 when none was used.",
	}, a.firstExpiry)
	issuer := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "signet_ca_issuer_not_after_seconds", Help: "Unix time at which the issuer certificate expires.",
	}, func() float64 { return float64(a.issuer.Certificate().NotAfter.Unix()) })
	for _, c := range []prometheus.Collector{m.issued, m.seconds, m.reconciled, m.unrecorded, signer, issuer} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) done(profile string, start, end time.Time, err error) {
	outcome := "ok"
	if err != nil {
		outcome = fault.KindOf(err).String()
	}
	m.issued.WithLabelValues(profile, outcome).Inc()
	m.seconds.WithLabelValues(profile).Observe(end.Sub(start).Seconds())
}

func (a *Authority) firstExpiry() float64 {
	var first time.Time
	a.current.Range(func(_, v any) bool {
		if end := v.(*line).authority.Certificate().NotAfter; first.IsZero() || end.Before(first) {
			first = end
		}
		return true
	})
	if first.IsZero() {
		return 0
	}
	return float64(first.Unix())
}
