package lint_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/lint"
)

// BenchmarkPrepare is a draft with its lint; the difference to "none" is what
// linting costs.
func BenchmarkPrepare(b *testing.B) {
	for _, c := range []struct {
		name   string
		linter issuance.Linter
	}{{"none", &nothing{}}, {"full", linter(b, 1)}, {"one in 100", linter(b, 100)}, {"compiled", linter(b, 1<<40)}} {
		b.Run(c.name, func(b *testing.B) {
			w := newTower(b, "P-256", &nothing{})
			o := w.device(b, c.linter)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := issuance.Prepare(o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// nothing is a linter for measuring what is left without one.
type nothing struct{}

func (*nothing) Template(*issuance.Template) error   { return nil }
func (*nothing) Candidate(*issuance.Candidate) error { return nil }

func BenchmarkCertificate(b *testing.B) {
	w := newTower(b, "P-256", &nothing{})
	p := issuance.ASTDevice()
	leaf := sign(b, w.device(b, &nothing{}), w.signerKey)
	b.ReportAllocs()
	for b.Loop() {
		if found := lint.Profiled(leaf, w.signer.Certificate(), &p); found != nil {
			b.Fatal(found)
		}
	}
}

// BenchmarkSign signs with a software key: once with the verification of each
// signature, once with that of one in a hundred.
func BenchmarkSign(b *testing.B) {
	for name, every := range map[string]int{"every verified": 1, "one in 100 verified": 100} {
		b.Run(name, func(b *testing.B) {
			w := newTower(b, "P-256", &nothing{})
			o := w.device(b, &nothing{})
			p := issuance.ASTDevice()
			var err error
			o.Profile, err = p.Compile(issuance.Checks{Linter: &nothing{}, VerifyEvery: every})
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				d, err := issuance.Prepare(o)
				require.NoError(b, err)
				b.StartTimer()
				if _, err := d.Sign(w.signerKey); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkTemplate(b *testing.B) {
	l := linter(b, 1)
	p := issuance.ASTDevice()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Compile(issuance.Checks{Linter: l}); err != nil {
			b.Fatal(err)
		}
	}
}
