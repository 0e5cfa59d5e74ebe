package ca_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/testtool"
)

func TestIssueDevice(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	ctx := t.Context()
	signer, err := a.CreateSigner(ctx, alpha, ca.CreateSigner{})
	require.NoError(t, err)
	c, err := a.IssueDevice(ctx, alpha, order(t))
	require.NoError(t, err)
	require.NoError(t, issuance.VerifyChain(append([][]byte{c.DER}, c.Chain...), time.Now()))
	require.Equal(t, signer.ID, c.Signer)
	require.Equal(t, append([][]byte{signer.Certificate}, b.chain...), c.Chain)
	leaf, err := x509.ParseCertificate(c.DER)
	require.NoError(t, err)
	require.Equal(t, c.Serial[:], leaf.SerialNumber.Bytes())
	require.Equal(t, c.NotAfter, leaf.NotAfter)
	require.Equal(t, c.NotBefore, leaf.NotBefore)

	var row struct {
		signer, profile, status, user, client string
		hash, spki, der                       []byte
		notBefore, notAfter                   time.Time
	}
	require.NoError(t, b.db.QueryRow(ctx, `select signer_id, profile, status, user_id, client_id, profile_hash, spki_sha256, certificate, not_before, not_after
		from ca_certificate where tenant_id = 'alpha' and cert_ref = $1`, c.Ref).
		Scan(&row.signer, &row.profile, &row.status, &row.user, &row.client, &row.hash, &row.spki, &row.der, &row.notBefore, &row.notAfter))
	hash := compile(t, issuance.ASTDevice()).Hash()
	require.Equal(t, []string{signer.ID, "AST_DEVICE", "ISSUED", "jane", client}, []string{row.signer, row.profile, row.status, row.user, row.client})
	require.Equal(t, hash[:], row.hash)
	require.Equal(t, c.DER, row.der)
	require.True(t, c.NotAfter.Equal(row.notAfter))
	require.Equal(t, 1, b.count(t, `select count(*) from audit_event where tenant_id = 'alpha' and action = 'certificate.issue'
		and subject = $1 and user_id = 'jane' and outcome = 'ok' and detail->>'serial' = $2`, c.Ref, c.Serial.String()))
	require.NotContains(t, string(c.DER), "jane")
}

func TestIssueDeviceRefuses(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	ctx := t.Context()
	_, err := a.IssueDevice(ctx, alpha, order(t))
	require.ErrorIs(t, err, ca.ErrNoSigner)
	_, err = a.CreateSigner(ctx, alpha, ca.CreateSigner{})
	require.NoError(t, err)
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	require.NoError(t, err)
	broken := csr(t, softKey(t))
	broken[len(broken)-1] ^= 1
	greedy, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"bank.example"}}, softKey(t))
	require.NoError(t, err)
	for name, c := range map[string]struct {
		change func(*ca.IssueRequest)
		want   error
	}{
		"no CSR":            {func(r *ca.IssueRequest) { r.CSR = nil }, ca.ErrRequest},
		"no user":           {func(r *ca.IssueRequest) { r.User = "" }, ca.ErrRequest},
		"long user":         {func(r *ca.IssueRequest) { r.User = strings.Repeat("u", 256) }, ca.ErrRequest},
		"NUL in user":       {func(r *ca.IssueRequest) { r.User = "a\x00" }, ca.ErrRequest},
		"no client":         {func(r *ca.IssueRequest) { r.Client = "" }, ca.ErrRequest},
		"client in lower":   {func(r *ca.IssueRequest) { r.Client = strings.ToLower(client) }, ca.ErrRequest},
		"client with I":     {func(r *ca.IssueRequest) { r.Client = "I" + client[1:] }, ca.ErrRequest},
		"garbage":           {func(r *ca.IssueRequest) { r.CSR = []byte("hello") }, issuance.ErrRequest},
		"no possession":     {func(r *ca.IssueRequest) { r.CSR = broken }, issuance.ErrRequestSignature},
		"P-521":             {func(r *ca.IssueRequest) { r.CSR = csr(t, p521) }, issuance.ErrKeyAlgorithm},
		"more than profile": {func(r *ca.IssueRequest) { r.CSR = greedy }, issuance.ErrExtension},
	} {
		r := order(t)
		c.change(&r)
		_, err := a.IssueDevice(ctx, alpha, r)
		require.ErrorIs(t, err, c.want, name)
		require.Equal(t, fault.Invalid, fault.KindOf(err), name)
	}
	require.Zero(t, b.count(t, `select count(*) from ca_certificate where profile = 'AST_DEVICE'`))
}

func TestIssueDeviceEndsWithItsSigner(t *testing.T) {
	t.Parallel()
	b, _ := bundle(t)
	short := issuance.Signer()
	short.Validity = time.Hour
	at := time.Now()
	a := b.authority(t, func(c *ca.Config) { c.SignerProfile = &short; c.Now = func() time.Time { return at } })
	s, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(s.Certificate)
	require.NoError(t, err)
	require.Equal(t, cert.NotAfter, issue(t, a, t.Context()).NotAfter)
	at = cert.NotAfter.Add(time.Second)
	_, err = a.IssueDevice(t.Context(), alpha, order(t))
	require.ErrorIs(t, err, issuance.ErrIssuerExpired)
}

// Signed but not stored: an error to the caller, and the serial can be found.
func TestIssueDeviceWhenTheStoreFails(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	_, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
	require.NoError(t, err)
	db := &brokenDB{Pool: b.db, fail: failOn("set status = 'ISSUED'")}
	broken := b.authority(t, func(c *ca.Config) { c.DB = db })
	_, err = broken.IssueDevice(t.Context(), alpha, order(t))
	require.ErrorIs(t, err, fault.ErrUnavailable)
	require.EqualValues(t, 1, db.n.Load())
	require.Equal(t, 1, b.count(t, `select count(*) from ca_certificate where profile = 'AST_DEVICE' and status = 'REQUESTED' and certificate is null`))
	require.Zero(t, b.count(t, `select count(*) from audit_event where action = 'certificate.issue'`))
}

// No intent, no signature.
func TestIssueDeviceWhenTheIntentFails(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	_, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
	require.NoError(t, err)
	broken := b.authority(t, func(c *ca.Config) { c.DB = &brokenDB{Pool: b.db, fail: failOn("insert into ca_certificate")} })
	broken.Inject(&ca.Faults{Sign: func(context.Context, hsm.Ref) error {
		t.Error("signed without an intent")
		return nil
	}}, issuerRef)
	_, err = broken.IssueDevice(t.Context(), alpha, order(t))
	require.ErrorIs(t, err, fault.ErrUnavailable)
}

func TestIssueDeviceWhenSigningFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cause  error
		kind   fault.Kind
		reason string
	}{
		"outage":  {fault.ErrUnavailable, fault.Unavailable, "UNAVAILABLE"},
		"no key":  {hsm.ErrKeyNotFound, fault.Internal, "CA_KEY"},
		"foreign": {errors.New("boom"), fault.Internal, "CA_KEY"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, a := bundle(t)
			_, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
			require.NoError(t, err)
			broken := b.authority(t, nil)
			broken.Inject(&ca.Faults{Sign: func(_ context.Context, r hsm.Ref) error {
				require.Equal(t, hsm.RoleSigner, r.Role)
				return c.cause
			}}, issuerRef)
			_, err = broken.IssueDevice(t.Context(), alpha, order(t))
			require.ErrorIs(t, err, c.cause)
			require.Equal(t, c.kind, fault.KindOf(err))
			require.Equal(t, 1, b.count(t, `select count(*) from ca_certificate where profile = 'AST_DEVICE' and status = 'FAILED' and failure = $1`, c.reason))
			require.Equal(t, 1, b.count(t, `select count(*) from audit_event where action = 'certificate.issue' and outcome = $1`, strings.ToLower(c.reason)))
		})
	}
}

// An HSM that signs with something else is found before the certificate leaves.
func TestIssueDeviceChecksTheHSMsKey(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	s, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
	require.NoError(t, err)
	ref := hsm.Ref{Tenant: "alpha", Role: hsm.RoleSigner, Name: "signer"}
	require.NoError(t, b.token.Destroy(t.Context(), ref))
	_, err = b.token.Generate(t.Context(), ref, hsm.P256, [16]byte{2})
	require.NoError(t, err)
	fresh := b.authority(t, nil)
	_, err = fresh.IssueDevice(t.Context(), alpha, order(t))
	require.ErrorIs(t, err, ca.ErrKey)
	require.Zero(t, b.count(t, `select count(*) from ca_certificate where signer_id = $1`, s.ID))
}

func TestIssueDeviceStopsWithItsContext(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	_, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	slow := b.authority(t, nil)
	slow.Inject(&ca.Faults{Sign: func(ctx context.Context, _ hsm.Ref) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}}, issuerRef)
	_, err = slow.IssueDevice(ctx, alpha, order(t))
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	require.Equal(t, 1, b.count(t, `select count(*) from ca_certificate where status = 'FAILED'`))
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	b, _ := bundle(t)
	reg := prometheus.NewRegistry()
	a := b.authority(t, func(c *ca.Config) { c.Metrics = reg })
	s, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
	require.NoError(t, err)
	issue(t, a, t.Context())
	_, err = a.IssueDevice(t.Context(), alpha, ca.IssueRequest{})
	require.Error(t, err)
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP signet_ca_certificates_total Certificate requests by profile and outcome.
# TYPE signet_ca_certificates_total counter
signet_ca_certificates_total{outcome="invalid",profile="AST_DEVICE"} 1
signet_ca_certificates_total{outcome="ok",profile="AST_DEVICE"} 1
signet_ca_certificates_total{outcome="ok",profile="SIGNER"} 1
`), "signet_ca_certificates_total"))
	cert, err := x509.ParseCertificate(s.Certificate)
	require.NoError(t, err)
	families, err := reg.Gather()
	require.NoError(t, err)
	seen := 0
	for _, f := range families {
		switch f.GetName() {
		case "signet_ca_signer_not_after_seconds":
			require.EqualValues(t, cert.NotAfter.Unix(), f.GetMetric()[0].GetGauge().GetValue())
			seen++
		case "signet_ca_issuer_not_after_seconds", "signet_ca_issue_seconds":
			seen++
		}
	}
	require.Equal(t, 3, seen)
}

func TestOpenSSLAcceptsTheIssuedChain(t *testing.T) {
	t.Parallel()
	openssl := testtool.OpenSSL(t)
	_, a := bundle(t)
	_, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
	require.NoError(t, err)
	c := issue(t, a, t.Context())
	dir := t.TempDir()
	write := func(name string, certs ...[]byte) string {
		var out bytes.Buffer
		for _, c := range certs {
			require.NoError(t, pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c}))
		}
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, out.Bytes(), 0o600))
		return path
	}
	root := write("root.pem", c.Chain[2])
	out, err := exec.CommandContext(t.Context(), openssl, "verify", "-x509_strict", "-purpose", "sslclient",
		"-CAfile", root, "-untrusted", write("chain.pem", c.Chain[:2]...), write("leaf.pem", c.DER)).CombinedOutput()
	require.NoError(t, err, "%s", out)
	out, err = exec.CommandContext(t.Context(), openssl, "verify", "-x509_strict",
		"-CAfile", root, "-untrusted", write("gap.pem", c.Chain[1]), filepath.Join(dir, "leaf.pem")).CombinedOutput()
	require.Error(t, err, "%s", out)
}
