package revocation

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"slices"

	"github.com/signet-hsm/signet/ca/lint"
)

// checkCRL reads a new CRL as a verifier would, before anybody else does: it must
// keep the rules, its signature among them, and say what it was made to say.
func checkCRL(der []byte, issuer *Issuer, signer *x509.Certificate, want *x509.RevocationList) error {
	judge := func() []lint.Finding { return lint.DelegatedCRL(der, issuer.Certificate, signer) }
	if signer == issuer.Certificate {
		judge = func() []lint.Finding { return lint.CRL(der, signer) }
	}
	if err := lint.Err(judge()); err != nil {
		return fmt.Errorf("%w: CRL: %w", ErrCheck, err)
	}
	got, err := x509.ParseRevocationList(der)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCheck, err)
	}
	bad := func(what string) error { return fmt.Errorf("%w: CRL: %s", ErrCheck, what) }
	switch {
	case got.Number.Cmp(want.Number) != 0:
		return bad("number")
	case !got.ThisUpdate.Equal(want.ThisUpdate), !got.NextUpdate.Equal(want.NextUpdate), !got.NextUpdate.After(got.ThisUpdate):
		return bad("validity")
	case len(got.RevokedCertificateEntries) != len(want.RevokedCertificateEntries):
		return bad("number of entries")
	}
	for i := range got.RevokedCertificateEntries {
		g, w := &got.RevokedCertificateEntries[i], &want.RevokedCertificateEntries[i]
		if g.SerialNumber.Cmp(w.SerialNumber) != 0 || g.ReasonCode != w.ReasonCode || !g.RevocationTime.Equal(w.RevocationTime) {
			return bad("an entry")
		}
	}
	for _, w := range want.ExtraExtensions {
		if !slices.ContainsFunc(got.Extensions, func(g pkix.Extension) bool {
			return g.Id.Equal(w.Id) && g.Critical == w.Critical && bytes.Equal(g.Value, w.Value)
		}) {
			return bad("scope")
		}
	}
	return nil
}
