package pki_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ocsp"

	"github.com/signet-hsm/signet/api/pki"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

// tower is an installation with a real listener: root in software, issuer and
// signer in the HSM, two device certificates of which one is revoked, and a
// revoked signer beside it. Everything lies in a folder for the tools.
type tower struct {
	dir, url                string
	forging                 atomic.Bool // what is served has a wrong signature
	rootKey                 *ecdsa.PrivateKey
	root, issuer            *x509.Certificate
	signer, lost            *x509.Certificate // lost is revoked by the issuer
	good, bad               *x509.Certificate
	publisher               *revocation.Publisher
	signerCRL, issuerCRL    []byte
	rootCRL, signerShardBad []byte
}

func newTower(t *testing.T, shards int, change ...func(*revocation.Config)) *tower {
	t.Helper()
	ctx := t.Context()
	w := &tower{dir: t.TempDir()}
	var handler atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { handler.Load().(http.Handler).ServeHTTP(rw, r) }))
	t.Cleanup(server.Close)
	w.url = server.URL

	db, token := pgtest.New(t), softhsmtest.New(t)
	ref := hsm.Ref{Tenant: "_system", Role: hsm.RoleIssuer, Name: "issuer"}
	_, err := token.Generate(ctx, ref, hsm.P256, [16]byte{})
	require.NoError(t, err)
	issuerKey, err := token.Signer(ctx, ref)
	require.NoError(t, err)
	w.rootKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	w.root = w.authority(t, "Test Root", nil, w.rootKey.Public())
	w.issuer = w.authority(t, "Test Issuer", w.root, issuerKey.Public())

	log, err := audit.New(audit.Config{DB: db})
	require.NoError(t, err)
	a, err := ca.New(ctx, ca.Config{
		DB: db, Token: token, Audit: log, IssuerChain: [][]byte{w.issuer.Raw, w.root.Raw}, IssuerKey: ref, PKI: w.url, CRLShards: shards,
	})
	require.NoError(t, err)
	lost, err := a.CreateSigner(ctx, pgtest.Beta, ca.CreateSigner{})
	require.NoError(t, err)
	w.lost = certificate(t, lost.Certificate)
	signer, err := a.CreateSigner(ctx, pgtest.Alpha, ca.CreateSigner{})
	require.NoError(t, err)
	w.signer = certificate(t, signer.Certificate)
	var refs []string
	for _, c := range []**x509.Certificate{&w.good, &w.bad} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		csr, err := issuance.NewRequest(key)
		require.NoError(t, err)
		issued, err := a.IssueDevice(ctx, pgtest.Alpha, ca.IssueRequest{CSR: csr, User: "jane", Client: "01J0000000000000000000000A", Actor: "test"})
		require.NoError(t, err)
		*c, refs = certificate(t, issued.DER), append(refs, issued.Ref)
	}

	issuers, err := a.Issuers()
	require.NoError(t, err)
	c := revocation.Config{DB: db, Authority: issuers, URL: w.url}
	for _, f := range change {
		f(&c)
	}
	w.publisher, err = revocation.New(c)
	require.NoError(t, err)
	h, err := pki.New(pki.Config{Source: w.publisher})
	require.NoError(t, err)
	handler.Store(w.forger(h))
	record := func(by, c *x509.Certificate, ref string, shards int) revocation.Record {
		serial, err := issuance.ParseSerial(c.SerialNumber.Bytes())
		require.NoError(t, err)
		return revocation.Record{
			Tenant: pgtest.Alpha, Issuer: by.SubjectKeyId, Shards: shards, Serial: serial, CertRef: ref, Reason: revocation.KeyCompromise,
			At: time.Now(), Since: time.Now().Add(-time.Hour), NotAfter: c.NotAfter, Actor: "test",
		}
	}
	require.NoError(t, pg.InTx(ctx, db, func(tx pgx.Tx) error {
		return revocation.RecordTx(ctx, tx, record(w.signer, w.bad, refs[1], shards), record(w.issuer, w.lost, lost.ID, 1))
	}))
	require.NoError(t, w.publisher.Round(ctx))
	w.fetchCRLs(t)
	w.write(t)
	return w
}

// forger stands between the service and who asks, and breaks the signatures of
// what is told about revocation while the tower is forging.
func (w *tower) forger(h http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !w.forging.Load() {
			h.ServeHTTP(rw, r)
			return
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		body, at := rec.Body.Bytes(), rec.Body.Len()-1 // a CRL ends in its signature
		if answer, err := ocsp.ParseResponse(body, nil); err == nil {
			at = bytes.Index(body, answer.Signature) + len(answer.Signature) - 1
		}
		body[at] ^= 1
		maps.Copy(rw.Header(), rec.Header())
		rw.WriteHeader(rec.Code)
		_, _ = rw.Write(body)
	})
}

func certificate(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return c
}

// authority certifies a CA by the root's key.
func (w *tower) authority(t *testing.T, name string, parent *x509.Certificate, key crypto.PublicKey) *x509.Certificate {
	t.Helper()
	serial, err := issuance.NewSerial(rand.Reader)
	require.NoError(t, err)
	c := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial[:]), Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true, IsCA: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(20 * 365 * 24 * time.Hour),
	}
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key, w.rootKey)
	require.NoError(t, err)
	return certificate(t, der)
}

// fetchCRLs takes the CRLs from the addresses in the certificates.
func (w *tower) fetchCRLs(t *testing.T) {
	t.Helper()
	fetch := func(c *x509.Certificate) []byte {
		require.Len(t, c.CRLDistributionPoints, 1)
		return get(t, c.CRLDistributionPoints[0])
	}
	w.signerCRL, w.signerShardBad, w.issuerCRL = fetch(w.good), fetch(w.bad), fetch(w.signer)
	var err error
	w.rootCRL, err = x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour),
	}, w.root, w.rootKey)
	require.NoError(t, err)
	require.Equal(t, w.signer.Raw, get(t, w.good.IssuingCertificateURL[0]))
	require.Equal(t, w.issuer.Raw, get(t, w.signer.IssuingCertificateURL[0]))
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	r, err := http.Get(url) //nolint:noctx // a local listener
	require.NoError(t, err)
	defer func() { _ = r.Body.Close() }()
	require.Equal(t, 200, r.StatusCode, url)
	return []byte(body(t, r))
}

func (w *tower) write(t *testing.T) {
	t.Helper()
	chain := func(list ...*x509.Certificate) (b []byte) {
		for _, c := range list {
			b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		}
		return b
	}
	crls := func(list ...[]byte) (b []byte) {
		for _, c := range list {
			b = append(b, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: c})...)
		}
		return b
	}
	broken := append([]byte(nil), w.good.Raw...)
	broken[len(broken)-1] ^= 1
	brokenCRL := append([]byte(nil), w.signerCRL...)
	brokenCRL[len(brokenCRL)-1] ^= 1
	for name, data := range map[string][]byte{
		"root.pem": chain(w.root), "issuer.pem": chain(w.issuer), "signer.pem": chain(w.signer), "good.pem": chain(w.good), "bad.pem": chain(w.bad),
		"lost.pem": chain(w.lost), "middle.pem": chain(w.signer, w.issuer), "cas.pem": chain(w.signer, w.issuer, w.root),
		"goodchain.pem": chain(w.good, w.signer, w.issuer, w.root), "badchain.pem": chain(w.bad, w.signer, w.issuer, w.root),
		"lostchain.pem": chain(w.lost, w.issuer, w.root), "brokenchain.pem": append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: broken}), chain(w.signer, w.issuer, w.root)...),
		"broken.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: broken}),
		"root.der":   w.root.Raw, "issuer.der": w.issuer.Raw, "signer.der": w.signer.Raw, "good.der": w.good.Raw, "bad.der": w.bad.Raw,
		"lost.der": w.lost.Raw, "broken.der": broken, "broken.crl": brokenCRL,
		"signer.crl": w.signerCRL, "bad.crl": w.signerShardBad, "issuer.crl": w.issuerCRL, "root.crl": w.rootCRL,
		"signer.crl.pem": crls(w.signerCRL), "broken.crl.pem": crls(brokenCRL), "issuer.crl.pem": crls(w.issuerCRL),
		"all.crl.pem": crls(w.signerCRL, w.signerShardBad, w.issuerCRL, w.rootCRL),
	} {
		require.NoError(t, os.WriteFile(w.file(name), data, 0o600))
	}
}

func (w *tower) file(name string) string { return filepath.Join(w.dir, name) }

// run returns all output of a program, and whether it was content.
func (w *tower) run(t *testing.T, program string, args ...string) (string, bool) {
	t.Helper()
	c := exec.CommandContext(t.Context(), program, args...)
	c.Dir = w.dir
	out, err := c.CombinedOutput()
	return string(out), err == nil
}

// agrees demands that a tool accepts, or that it refuses with words that say why.
func (w *tower) agrees(t *testing.T, accept bool, words, program string, args ...string) {
	t.Helper()
	out, ok := w.run(t, program, args...)
	require.Equal(t, accept, ok, "%s %q\n%s", program, args, out)
	require.Contains(t, strings.ToLower(out), words, "%s %q", program, args)
}
