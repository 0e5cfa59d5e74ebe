package lint_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // OCSP names issuers by it
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	zlint "github.com/zmap/zlint/v3/lint"
	"golang.org/x/crypto/ocsp"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/lint"
)

func rules(found []lint.Finding) (out []string) {
	for _, f := range found {
		out = append(out, f.Rule)
	}
	return out
}

// The set of rules is pinned: another version of zlint is looked through before
// it judges, and an exclusion whose rule is gone has no reason to stay.
func TestTheRegistryIsPinned(t *testing.T) {
	t.Parallel()
	mod, err := os.ReadFile("../../go.mod")
	require.NoError(t, err)
	require.Contains(t, string(mod), "github.com/zmap/zlint/v3 "+lint.Version+"\n")
	manual, err := os.ReadFile("../../docs/ca.md")
	require.NoError(t, err)
	require.Equal(t, len(lint.Excluded), strings.Count(string(manual), "\n  | `e_")+strings.Count(string(manual), "\n  | `w_"))
	for _, e := range lint.Excluded {
		require.NotEmpty(t, e.Reason, e.Rule)
		require.Contains(t, string(manual), "| `"+e.Rule+"` | "+e.Reason+" |\n", "the operator's manual lists it")
		require.NotNil(t, zlint.GlobalRegistry().CertificateLints().ByName(e.Rule), e.Rule)
	}
	certificates, crls, responses := lint.Rules()
	require.Greater(t, certificates, 120)
	require.Greater(t, crls, 10)
	require.Equal(t, 1, responses)
}

func TestBuiltInProfilesPassUnderEveryKindOfIssuer(t *testing.T) {
	t.Parallel()
	for _, p := range []issuance.Profile{
		issuance.Root(), issuance.Issuer(), issuance.Signer(), issuance.ASTDevice(), issuance.Signature(), issuance.Gateway(), issuance.OCSPSigning(), issuance.CRLSigning(),
	} {
		_, err := p.Compile(issuance.Checks{Linter: linter(t, 1)})
		require.NoError(t, err, p.Name)
	}
}

// A profile that the engine finds sound can still break a rule; it never becomes
// a template.
func TestTemplatesAreLinted(t *testing.T) {
	t.Parallel()
	p := issuance.ASTDevice()
	p.KeyUsages = []issuance.KeyUsage{issuance.KeyEncipherment} // nothing an elliptic key can do (RFC 8813)
	_, err := p.Compile(issuance.Checks{Linter: linter(t, 1)})
	require.ErrorIs(t, err, issuance.ErrLint)
	require.ErrorContains(t, err, "e_ecdsa_allowed_ku")
}

func TestARealCertificateHasNoFinding(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"P-256", "P-384", "Ed25519", "RSA-3072"} {
		w := newTower(t, kind, linter(t, 1))
		require.Empty(t, lint.Certificate(w.rootDER, nil))
		require.Empty(t, lint.Certificate(w.signerDER, w.issuer.Certificate()))
		o := w.device(t, linter(t, 1))
		p := issuance.ASTDevice()
		require.Empty(t, lint.Profiled(sign(t, o, w.signerKey), w.signer.Certificate(), &p))
	}
}

// foreign makes a certificate with the standard library, to break one rule.
func foreign(t *testing.T, w *tower, change func(*x509.Certificate)) []byte {
	t.Helper()
	key := newKey(t, "P-256")
	c := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(bytes.Repeat([]byte{0x42}, 16)),
		Subject:      pkix.Name{Organization: []string{"alpha"}, CommonName: "x"},
		NotBefore:    now.Truncate(time.Second), NotAfter: now.Truncate(time.Second).Add(issuance.ASTDevice().Validity - time.Second),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	change(c)
	der, err := x509.CreateCertificate(rand.Reader, c, w.signer.Certificate(), key.Public(), w.signerKey)
	require.NoError(t, err)
	return der
}

func TestFindingsOfOwnRules(t *testing.T) {
	t.Parallel()
	w := newTower(t, "P-256", linter(t, 1))
	p := issuance.ASTDevice()
	for name, c := range map[string]struct {
		change func(*x509.Certificate)
		want   string
	}{
		"short serial":         {func(c *x509.Certificate) { c.SerialNumber = big.NewInt(7) }, "signet_serial"},
		"long serial":          {func(c *x509.Certificate) { c.SerialNumber.Lsh(c.SerialNumber, 8) }, "signet_serial"},
		"one second too long":  {func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(time.Second) }, "signet_profile_validity"},
		"one second too short": {func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(-time.Second) }, "signet_profile_validity"},
		"outlives its issuer":  {func(c *x509.Certificate) { c.NotAfter = w.signer.Certificate().NotAfter.Add(time.Second) }, "signet_nested_validity"},
		"a CA":                 {func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign }, "signet_profile_ca"},
		"another usage":        {func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyAgreement }, "signet_profile_key_usage"},
		"another purpose":      {func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) }, "signet_profile_purposes"},
		"no purpose":           {func(c *x509.Certificate) { c.ExtKeyUsage = nil }, "signet_profile_purposes"},
		"a host name":          {func(c *x509.Certificate) { c.DNSNames = []string{"a.example"} }, "signet_profile_alt_names"},
		"a country":            {func(c *x509.Certificate) { c.Subject.Country = []string{"DE"} }, "signet_profile_subject"},
		"no organisation":      {func(c *x509.Certificate) { c.Subject.Organization = nil }, "signet_profile_subject"},
		"two common names": {func(c *x509.Certificate) {
			c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "y"}, {Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "z"}}
		}, "signet_profile_subject"},
		"an extension of no profile": {func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, 0}}}
		}, "signet_extension"},
		"another key identifier": {func(c *x509.Certificate) { c.SubjectKeyId = []byte{1} }, "signet_subject_key_id"},
		"nocheck for a device": {func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: []byte{5, 0}}}
		}, "signet_profile_nocheck"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, rules(lint.Profiled(foreign(t, w, c.change), w.signer.Certificate(), &p)), c.want)
		})
	}
	// Under a wrong issuer, three things are wrong at once.
	found := rules(lint.Certificate(foreign(t, w, func(*x509.Certificate) {}), w.root.Certificate()))
	require.Subset(t, found, []string{"signet_issuer", "signet_authority_key_id"})
	require.Equal(t, []string{"signet_syntax", "signet_syntax"}, rules(lint.Certificate([]byte{0x30, 0}, nil)))
	require.ErrorContains(t, lint.Err(lint.Certificate([]byte{0x30, 0}, nil)), "signet_syntax")
	require.NoError(t, lint.Err(nil))
}

func crl(t testing.TB, w *tower, change func(*x509.RevocationList)) []byte {
	t.Helper()
	c := &x509.RevocationList{
		Number: big.NewInt(3), ThisUpdate: now, NextUpdate: now.Add(24 * time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{
			{SerialNumber: new(big.Int).SetBytes(bytes.Repeat([]byte{0x42}, 16)), RevocationTime: now.Add(-time.Hour), ReasonCode: 1},
			{SerialNumber: new(big.Int).SetBytes(bytes.Repeat([]byte{0x43}, 16)), RevocationTime: now.Add(-time.Hour)},
		},
	}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateRevocationList(rand.Reader, c, w.signer.Certificate(), w.signerKey)
	require.NoError(t, err)
	return der
}

func idp(t *testing.T, url string, more ...byte) pkix.Extension {
	t.Helper()
	name := append([]byte{0x86, byte(len(url))}, url...)
	full := append([]byte{0xa0, byte(len(name))}, name...)
	point := append([]byte{0xa0, byte(len(full))}, full...)
	point = append(point, more...)
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: append([]byte{0x30, byte(len(point))}, point...)}
}

func TestCRL(t *testing.T) {
	t.Parallel()
	w := newTower(t, "P-256", linter(t, 1))
	signer := w.signer.Certificate()
	require.Empty(t, lint.CRL(crl(t, w, nil), signer))
	require.Empty(t, lint.CRL(crl(t, w, func(c *x509.RevocationList) { c.RevokedCertificateEntries = nil }), signer))
	shard := func(c *x509.RevocationList) {
		c.ExtraExtensions = []pkix.Extension{idp(t, "http://pki.example.com/crl/00/0.crl")}
	}
	require.Empty(t, lint.CRL(crl(t, w, shard), signer))
	for name, c := range map[string]struct {
		change func(*x509.RevocationList)
		want   string
	}{
		"a serial of another kind": {func(c *x509.RevocationList) { c.RevokedCertificateEntries[0].SerialNumber = big.NewInt(9) }, "signet_serial"},
		"a serial twice": {func(c *x509.RevocationList) {
			c.RevokedCertificateEntries[1].SerialNumber = c.RevokedCertificateEntries[0].SerialNumber
		}, "signet_serial_twice"},
		"revoked in the future": {func(c *x509.RevocationList) { c.RevokedCertificateEntries[0].RevocationTime = now.Add(time.Hour) }, "signet_revocation_date"},
		"reason 7":              {func(c *x509.RevocationList) { c.RevokedCertificateEntries[0].ReasonCode = 7 }, "signet_reason"},
		"reason 8":              {func(c *x509.RevocationList) { c.RevokedCertificateEntries[0].ReasonCode = 8 }, "signet_reason"},
		"IDP not critical": {func(c *x509.RevocationList) {
			shard(c)
			c.ExtraExtensions[0].Critical = false
		}, "signet_criticality"},
		"IDP of user certificates": {func(c *x509.RevocationList) {
			c.ExtraExtensions = []pkix.Extension{idp(t, "http://pki.example.com/x", 0x81, 1, 0xff)}
		}, "signet_distribution_point"},
		"IDP by ldap": {func(c *x509.RevocationList) {
			c.ExtraExtensions = []pkix.Extension{idp(t, "ldap://pki.example.com/x")}
		}, "signet_distribution_point"},
		"a delta": {func(c *x509.RevocationList) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}}
		}, "signet_extension"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, rules(lint.CRL(crl(t, w, c.change), signer)), c.want)
		})
	}
	good := crl(t, w, nil)
	good[len(good)-1] ^= 1
	require.Contains(t, rules(lint.CRL(good, signer)), "signet_signature")
	require.Contains(t, rules(lint.CRL([]byte{0x30, 0}, signer)), "signet_syntax")
}

func TestOCSP(t *testing.T) {
	t.Parallel()
	w := newTower(t, "P-256", linter(t, 1))
	signer := w.signer.Certificate()
	key := newKey(t, "P-384")
	delegate := sign(t, issuance.Order{
		Issuer: w.signer, Profile: compile(t, issuance.OCSPSigning(), linter(t, 1)), Request: request(t, key), Subject: issuance.Subject{CommonName: "OCSP"},
	}, w.signerKey)
	responder, err := x509.ParseCertificate(delegate)
	require.NoError(t, err)
	base := func() ocsp.Response {
		return ocsp.Response{
			Status: ocsp.Good, SerialNumber: new(big.Int).SetBytes(bytes.Repeat([]byte{0x42}, 16)), ThisUpdate: now, NextUpdate: now.Add(24 * time.Hour),
			IssuerHash: crypto.SHA1, Certificate: responder,
		}
	}
	// The library sets producedAt to its own clock, so responders of today are used.
	at := time.Now().UTC().Truncate(time.Second)
	make := func(change func(*ocsp.Response)) []byte {
		r := base()
		r.ThisUpdate, r.NextUpdate = at.Add(-time.Minute), at.Add(time.Hour)
		change(&r)
		der, err := ocsp.CreateResponse(signer, responder, r, key)
		require.NoError(t, err)
		return der
	}
	require.Equal(t, sha1.Size, crypto.SHA1.Size())
	today := sign(t, issuance.Order{
		Issuer: w.signer, Profile: compile(t, issuance.OCSPSigning(), linter(t, 1)), Request: request(t, key), Subject: issuance.Subject{CommonName: "OCSP"}, Now: at,
	}, w.signerKey)
	responder, err = x509.ParseCertificate(today)
	require.NoError(t, err)
	require.Empty(t, lint.OCSP(make(func(*ocsp.Response) {}), signer))
	revoked := func(r *ocsp.Response) {
		r.Status, r.RevokedAt, r.RevocationReason = ocsp.Revoked, at.Add(-time.Hour), 4
	}
	require.Empty(t, lint.OCSP(make(revoked), signer))
	for name, c := range map[string]struct {
		change func(*ocsp.Response)
		want   string
	}{
		"no end":                {func(r *ocsp.Response) { r.NextUpdate = time.Time{} }, "signet_ocsp_dates"},
		"from the future":       {func(r *ocsp.Response) { r.ThisUpdate = at.Add(30 * time.Minute) }, "signet_ocsp_dates"},
		"outlives its signer":   {func(r *ocsp.Response) { r.NextUpdate = responder.NotAfter.Add(time.Second) }, "signet_ocsp_delegate"},
		"revoked in the future": {func(r *ocsp.Response) { revoked(r); r.RevokedAt = at.Add(time.Hour) }, "signet_revocation_date"},
		"SHA-512":               {func(r *ocsp.Response) { r.IssuerHash = crypto.SHA512 }, "signet_ocsp_hash"},
	} {
		require.Contains(t, rules(lint.OCSP(make(c.change), signer)), c.want, name)
	}
	// A device's certificate answers for nobody.
	device := newKey(t, "P-256")
	o := w.device(t, linter(t, 1))
	o.Request, o.Now = request(t, device), at
	cert, err := x509.ParseCertificate(sign(t, o, w.signerKey))
	require.NoError(t, err)
	r := base()
	r.ThisUpdate, r.NextUpdate, r.Certificate = at.Add(-time.Minute), at.Add(time.Hour), cert
	der, err := ocsp.CreateResponse(signer, cert, r, device)
	require.NoError(t, err)
	require.Contains(t, rules(lint.OCSP(der, signer)), "signet_ocsp_delegate")
	der[len(der)/2] ^= 1
	require.NotEmpty(t, lint.OCSP(der, signer))
}
