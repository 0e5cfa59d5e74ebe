package issuance_test

import (
	"crypto"
	"crypto/elliptic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca/issuance"
)

func BenchmarkParseRequest(b *testing.B) {
	for name, key := range map[string]crypto.Signer{"P-256": ecKey(b, elliptic.P256()), "RSA-2048": rsaKey(b, 2048)} {
		der, err := issuance.NewRequest(key)
		require.NoError(b, err)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := issuance.ParseRequest(der); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPrepare(b *testing.B) {
	w := ecTower(b)
	o := w.order(b, request(b, ecKey(b, elliptic.P256())))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := issuance.Prepare(o); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIssue is the whole engine with a software key: request, draft,
// signature, its verification, comparison.
func BenchmarkIssue(b *testing.B) {
	w := ecTower(b)
	der, err := issuance.NewRequest(ecKey(b, elliptic.P256()))
	require.NoError(b, err)
	o := w.order(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		if o.Request, err = issuance.ParseRequest(der); err != nil {
			b.Fatal(err)
		}
		d, err := issuance.Prepare(o)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := d.Sign(w.signerKey); err != nil {
			b.Fatal(err)
		}
	}
}
