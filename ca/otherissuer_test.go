package ca_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ocsp"

	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/testtool"
)

var nextIssuer = hsm.Ref{Tenant: "_system", Role: hsm.RoleIssuer, Name: "issuer", Generation: 1}

// After a change of the issuer the former one goes on telling which of the
// signers that it certified are revoked, and certifies nobody.
func TestFormerIssuerGoesOnPublishing(t *testing.T) {
	t.Parallel()
	b, before := bundle(t)
	ctx := t.Context()
	lost, kept := create(t, before), create(t, before)
	former := b.chain
	chain := issuerChainOf(t, b.token, nextIssuer)
	a := b.authority(t, func(c *ca.Config) {
		c.IssuerChain, c.IssuerKey, c.Now = chain, nextIssuer, turn()
		c.OtherIssuers = []ca.OtherIssuer{{Chain: former, Key: issuerRef}}
	})
	require.ElementsMatch(t, []revocation.KeyID{
		keyID(t, chain[0]), keyID(t, former[0]), keyID(t, lost.Certificate), keyID(t, kept.Certificate),
	}, keyIDs(t, issuersOf(t, a)))
	p, err := revocation.New(revocation.Config{DB: b.db, Authority: issuersOf(t, a)})
	require.NoError(t, err)
	status := func(signer, by []byte) int {
		ask, err := ocsp.CreateRequest(parse(t, signer), parse(t, by), nil)
		require.NoError(t, err)
		d, err := p.OCSP(ctx, keyID(t, by), ask)
		require.NoError(t, err)
		r, err := ocsp.ParseResponseForCert(d.DER, parse(t, signer), parse(t, by))
		require.NoError(t, err)
		return r.Status
	}
	require.NoError(t, p.Round(ctx))
	require.Equal(t, ocsp.Good, status(lost.Certificate, former[0]))
	require.NoError(t, a.RevokeSigner(ctx, alpha, ca.RevokeSigner{Spec: lost.ID, Reason: revocation.KeyCompromise, Actor: "test"}))
	require.NoError(t, p.Round(ctx))
	require.Equal(t, ocsp.Revoked, status(lost.Certificate, former[0]))
	require.Equal(t, ocsp.Good, status(kept.Certificate, former[0]))
	listed := func(by []byte) (serials []string) {
		d, err := p.CRL(ctx, keyID(t, by), 0)
		require.NoError(t, err)
		list, err := x509.ParseRevocationList(d.DER)
		require.NoError(t, err)
		require.NoError(t, list.CheckSignatureFrom(parse(t, by)))
		for _, e := range list.RevokedCertificateEntries {
			serials = append(serials, e.SerialNumber.String())
		}
		return serials
	}
	require.Equal(t, []string{parse(t, lost.Certificate).SerialNumber.String()}, listed(former[0]))
	require.Empty(t, listed(chain[0]))
	openSSLAgrees(t, p, former, map[string][]byte{"certificate revoked": lost.Certificate, ": OK": kept.Certificate})

	// The signers that are left get certificates by the new issuer only; the old
	// ones can be revoked still, and both issuers tell.
	done, err := a.RenewAll(ctx, ca.RenewAll{Actor: "op"})
	require.NoError(t, err)
	require.Equal(t, ca.Renewals{Renewed: 1}, done)
	renewed, err := a.Signer(ctx, alpha, kept.ID)
	require.NoError(t, err)
	require.NoError(t, parse(t, renewed.Certificate).CheckSignatureFrom(parse(t, chain[0])))
	require.Equal(t, ocsp.Good, status(renewed.Certificate, chain[0]))
	require.NoError(t, p.Round(ctx))
	openSSLAgrees(t, p, former, map[string][]byte{"certificate revoked": lost.Certificate, ": OK": kept.Certificate})
	openSSLAgrees(t, p, chain, map[string][]byte{": OK": renewed.Certificate})
	require.NoError(t, a.RevokeSigner(ctx, alpha, ca.RevokeSigner{Spec: kept.ID, Actor: "test"}))
	require.NoError(t, p.Round(ctx))
	require.Len(t, listed(former[0]), 2)
	require.Equal(t, []string{parse(t, renewed.Certificate).SerialNumber.String()}, listed(chain[0]))
	openSSLAgrees(t, p, chain, map[string][]byte{"certificate revoked": renewed.Certificate})
	require.Equal(t, 2, b.count(t, `select count(*) from ca_certificate where issuer_key_id = $1`, parse(t, former[0]).SubjectKeyId))
}

// openSSLAgrees has openssl check certificates against an issuer's CRL; want
// maps what it must say to the certificate.
func openSSLAgrees(t *testing.T, p *revocation.Publisher, issuer [][]byte, want map[string][]byte) {
	t.Helper()
	d, err := p.CRL(t.Context(), keyID(t, issuer[0]), 0)
	require.NoError(t, err)
	t.Run("openssl", func(t *testing.T) {
		openssl := testtool.OpenSSL(t)
		dir := t.TempDir()
		write := func(name, kind string, der []byte) string {
			path := filepath.Join(dir, name)
			require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
			return path
		}
		for says, cert := range want {
			out, err := exec.CommandContext(t.Context(), openssl, "verify", "-x509_strict", "-crl_check",
				"-CAfile", write("root.pem", "CERTIFICATE", issuer[1]), "-untrusted", write("issuer.pem", "CERTIFICATE", issuer[0]),
				"-CRLfile", write("crl.pem", "X509 CRL", d.DER), write("signer.pem", "CERTIFICATE", cert)).CombinedOutput()
			require.Equal(t, says == ": OK", err == nil, "%s", out)
			require.Contains(t, string(out), says)
		}
	})
}

// Nothing is signed for an issuer whose key is elsewhere, and its certificate
// under another root is no issuer of its own.
func TestOtherIssuersWithoutAKeyOfTheirOwn(t *testing.T) {
	t.Parallel()
	b, _ := bundle(t)
	far := issuerChainOf(t, b.token, nextIssuer)
	cross := issuerChain(t, b.token) // of the issuer's key, under another root
	a := b.authority(t, func(c *ca.Config) {
		c.OtherIssuers = []ca.OtherIssuer{{Chain: far}, {Chain: cross, Key: issuerRef}}
	})
	s := issuersOf(t, a)
	require.Equal(t, []revocation.KeyID{keyID(t, b.chain[0])}, keyIDs(t, s))
	found, err := s.Issuer(t.Context(), keyID(t, cross[0]))
	require.NoError(t, err)
	require.Equal(t, b.chain[0], found.Certificate.Raw)
	_, err = s.Issuer(t.Context(), keyID(t, far[0]))
	require.ErrorIs(t, err, revocation.ErrNoIssuer)

	signer := create(t, a)
	paths, err := a.Paths(t.Context(), alpha, signer.ID)
	require.NoError(t, err)
	require.Equal(t, [][][]byte{append([][]byte{signer.Certificate}, b.chain...), append([][]byte{signer.Certificate}, cross...)}, paths)
}

// A key that is named must be there and be the certificate's, or revocations
// would go unpublished in silence; with its chain it may be left out.
func TestOtherIssuersKeyIsChecked(t *testing.T) {
	t.Parallel()
	b, _ := bundle(t)
	other := issuerChainOf(t, b.token, nextIssuer)
	missing := hsm.Ref{Tenant: "_system", Role: hsm.RoleIssuer, Name: "issuer", Generation: 9}
	for name, c := range map[string]struct {
		other ca.OtherIssuer
		want  error
	}{
		"not there":  {ca.OtherIssuer{Chain: other, Key: missing}, ca.ErrKey},
		"another's":  {ca.OtherIssuer{Chain: other, Key: issuerRef}, ca.ErrConfig},
		"wrong role": {ca.OtherIssuer{Chain: other, Key: hsm.Ref{Tenant: "_system", Role: hsm.RoleRoot, Name: "root"}}, ca.ErrConfig},
	} {
		config := b.config(t)
		config.OtherIssuers = []ca.OtherIssuer{c.other}
		_, err := ca.New(t.Context(), config)
		require.ErrorIs(t, err, c.want, name)
	}
	var log bytes.Buffer
	b.authority(t, func(c *ca.Config) { // an expired chain is left out with its key
		c.OtherIssuers = []ca.OtherIssuer{{Chain: other[:1], Key: missing}}
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	require.Contains(t, log.String(), "left out")
}
