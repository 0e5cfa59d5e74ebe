package pki_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
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

	"github.com/signet-hsm/signet/api/pki"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/internal/testtool"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// tower is an installation with a real listener: root in software, issuer and
// signer in the HSM, two device certificates of which one is revoked, and a
// revoked signer beside it. Everything lies in a folder for the tools.
type tower struct {
	dir, url                string
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
	handler.Store(h)
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
		"lostchain.pem": chain(w.lost, w.issuer, w.root),
		"root.der":      w.root.Raw, "issuer.der": w.issuer.Raw, "signer.der": w.signer.Raw, "good.der": w.good.Raw, "bad.der": w.bad.Raw,
		"lost.der": w.lost.Raw, "broken.der": broken,
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

func TestOpenSSLAgrees(t *testing.T) {
	t.Parallel()
	openssl := testtool.Find(t, "openssl", "openssl")
	for name, shards := range map[string]int{"one CRL": 1, "sharded": 8} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTower(t, shards)
			verify := func(crls string, more ...string) []string {
				return append([]string{"verify", "-x509_strict", "-CAfile", "root.pem", "-untrusted", "middle.pem", "-CRLfile", crls, "-crl_check"}, more...)
			}
			w.agrees(t, true, "good.pem: ok", openssl, verify("all.crl.pem", "good.pem")...)
			w.agrees(t, true, "good.pem: ok", openssl, verify("all.crl.pem", "-crl_check_all", "good.pem")...)
			w.agrees(t, false, "certificate revoked", openssl, verify("all.crl.pem", "bad.pem")...)
			w.agrees(t, false, "certificate revoked", openssl, verify("all.crl.pem", "lost.pem")...)
			w.agrees(t, false, "crl signature failure", openssl, verify("broken.crl.pem", "good.pem")...)
			w.agrees(t, false, "unable to get certificate crl", openssl, verify("issuer.crl.pem", "good.pem")...)
			if shards > 1 && string(w.signerCRL) != string(w.signerShardBad) {
				out, _ := w.run(t, openssl, verify("signer.crl.pem", "bad.pem")...)
				require.Contains(t, strings.ToLower(out), "different crl scope", "a shard says nothing about the others")
			}
			ask := func(issuer, cert string, more ...string) []string {
				url := w.good.OCSPServer[0]
				if issuer == "issuer.pem" {
					url = w.signer.OCSPServer[0]
				}
				return append([]string{"ocsp", "-CAfile", "cas.pem", "-issuer", issuer, "-url", url}, append(more, "-cert", cert)...)
			}
			for _, hash := range []string{"-sha1", "-sha256"} {
				w.agrees(t, true, "good.pem: good", openssl, ask("signer.pem", "good.pem", hash)...)
				w.agrees(t, true, "bad.pem: revoked", openssl, ask("signer.pem", "bad.pem", hash, "-no_nonce")...)
			}
			w.agrees(t, true, "reason: keycompromise", openssl, ask("signer.pem", "bad.pem")...)
			w.agrees(t, true, "response verify ok", openssl, ask("issuer.pem", "signer.pem")...)
			w.agrees(t, true, "lost.pem: revoked", openssl, ask("issuer.pem", "lost.pem")...)
			w.agrees(t, false, "unauthorized", openssl, ask("signer.pem", "signer.pem")...)
		})
	}
}

func TestGnuTLSAgrees(t *testing.T) {
	t.Parallel()
	certtool, ocsptool := testtool.Find(t, "certtool", "gnutls-bin"), testtool.Find(t, "ocsptool", "gnutls-bin")
	w := newTower(t, 1)
	verify := func(chain string, crls ...string) []string {
		args := []string{"--verify", "--load-ca-certificate", "root.pem", "--infile", chain}
		for _, c := range crls {
			args = append(args, "--load-crl", c)
		}
		return args
	}
	w.agrees(t, true, "chain verification output: verified", certtool, verify("goodchain.pem", "signer.crl.pem")...)
	w.agrees(t, false, "revoked", certtool, verify("badchain.pem", "signer.crl.pem")...)
	w.agrees(t, false, "revoked", certtool, verify("lostchain.pem", "issuer.crl.pem")...)
	w.agrees(t, true, "verified", certtool, "--verify-crl", "--load-ca-certificate", "signer.pem", "--infile", "signer.crl.pem")
	out, _ := w.run(t, certtool, "--verify-crl", "--load-ca-certificate", "signer.pem", "--infile", "broken.crl.pem")
	require.Contains(t, strings.ToLower(out), "not verified")
	// It reads over a scope: the right shard does, and any other means nothing.
	sharded := newTower(t, 8)
	sharded.agrees(t, false, "revoked", certtool, verify("badchain.pem", "all.crl.pem")...)
	ask := func(url, issuer, cert string) []string {
		return []string{"--ask=" + url, "--load-issuer", issuer, "--load-cert", cert, "--load-trust", "cas.pem", "--no-nonce"}
	}
	w.agrees(t, true, "certificate status: good", ocsptool, ask(w.good.OCSPServer[0], "signer.pem", "good.pem")...)
	out, _ = w.run(t, ocsptool, ask(w.good.OCSPServer[0], "signer.pem", "bad.pem")...)
	require.Contains(t, strings.ToLower(out), "certificate status: revoked")
	w.agrees(t, true, "certificate status: good", ocsptool, ask(w.signer.OCSPServer[0], "issuer.pem", "signer.pem")...)
}

func TestNSSAgrees(t *testing.T) {
	t.Parallel()
	certutil, crlutil, vfychain := testtool.Find(t, "certutil", "libnss3-tools"), testtool.Find(t, "crlutil", "libnss3-tools"), testtool.Find(t, "vfychain", "libnss3-tools")
	w := newTower(t, 1)
	run := func(program string, args ...string) {
		out, ok := w.run(t, program, args...)
		require.True(t, ok, "%s %q\n%s", program, args, out)
	}
	database := func(name string) string {
		require.NoError(t, os.Mkdir(w.file(name), 0o700))
		run(certutil, "-N", "-d", "sql:"+name, "--empty-password")
		for file, trust := range map[string]string{"root": "CT,C,C", "issuer": ",,", "signer": ",,"} {
			run(certutil, "-A", "-d", "sql:"+name, "-n", file, "-t", trust, "-i", file+".der")
		}
		return "sql:" + name
	}
	// With the CRLs imported, and no other way to learn of a revocation.
	db := database("crls")
	for _, crl := range []string{"root.crl", "issuer.crl", "signer.crl"} {
		run(crlutil, "-I", "-d", db, "-i", crl)
	}
	crl := func(cert ...string) []string {
		return append([]string{"-d", db, "-pp", "-u", "0", "-g", "leaf", "-m", "crl", "-s", "requireInfo,forbidFetching"}, cert...)
	}
	w.agrees(t, true, "chain is good", vfychain, crl("good.der")...)
	w.agrees(t, false, "revoked", vfychain, crl("bad.der")...)
	w.agrees(t, false, "revoked", vfychain, "-d", db, "-pp", "-u", "11", "-g", "leaf", "-m", "crl", "-s", "requireInfo,forbidFetching", "lost.der")
	w.agrees(t, false, "chain is bad", vfychain, crl("broken.der")...)
	// From the distribution point, and no verdict without it.
	db = database("empty")
	fetch := func(flags, cert string) []string {
		return []string{"-d", db, "-pp", "-u", "0", "-g", "leaf", "-m", "crl", "-s", flags, cert}
	}
	w.agrees(t, true, "chain is good", vfychain, fetch("failIfNoInfo", "good.der")...)
	w.agrees(t, false, "revoked", vfychain, fetch("failIfNoInfo", "bad.der")...)
	w.agrees(t, false, "chain is bad", vfychain, fetch("failIfNoInfo,forbidFetching", "good.der")...)
	// The scope of a shard is beyond it, and it says so rather than guess.
	sharded := newTower(t, 8)
	out, ok := w.run(t, crlutil, "-I", "-d", db, "-i", sharded.file("signer.crl"))
	require.False(t, ok, out)
	require.Contains(t, out, "unknown critical extension")
	// From the responder that the certificate names.
	db = database("ocsp")
	ocsp := func(cert string) []string {
		return []string{"-d", db, "-pp", "-u", "0", "-g", "leaf", "-h", "requireFreshInfo", "-m", "ocsp", "-s", "requireInfo,failIfNoInfo", cert}
	}
	w.agrees(t, true, "chain is good", vfychain, ocsp("good.der")...)
	w.agrees(t, false, "revoked", vfychain, ocsp("bad.der")...)
}

func TestJavaAgrees(t *testing.T) {
	t.Parallel()
	java := testtool.Find(t, "java", "default-jdk-headless")
	w, sharded := newTower(t, 1), newTower(t, 8)
	source, err := filepath.Abs("testdata/Pkix.java")
	require.NoError(t, err)
	path := func(w *tower, names string) string {
		files := strings.FieldsFunc(names, func(r rune) bool { return r == ' ' })
		for i, f := range files {
			parts := strings.Split(f, "+")
			for k, p := range parts {
				parts[k] = w.file(p)
			}
			files[i] = strings.Join(parts, "+")
		}
		return strings.Join(files, ",")
	}
	const all, middle = "root.der root.crl+issuer.crl+signer.crl+bad.crl ", " signer.der issuer.der"
	// The JDK takes no CA for an end entity, so its OCSP is asked about devices only.
	cases := []struct{ name, method, files, want string }{
		{"good", "crl", all + "good.der" + middle, "GOOD"},
		{"bad", "crl", all + "bad.der" + middle, "REVOKED"},
		{"lost", "crl", all + "lost.der issuer.der", "REVOKED"},
		{"broken", "crl", all + "broken.der" + middle, "INVALID_SIGNATURE"},
		{"ocsp-good", "ocsp", all + "good.der" + middle, "GOOD"},
		{"ocsp-bad", "ocsp", all + "bad.der" + middle, "REVOKED"},
		{"fetch-good", "fetch", all + "good.der" + middle, "GOOD"},
		{"fetch-bad", "fetch", all + "bad.der" + middle, "REVOKED"},
	}
	// One JVM for all: starting it is what takes the time.
	args := []string{"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dcom.sun.security.enableCRLDP=true", source}
	var want []string
	for prefix, w := range map[string]*tower{"whole-": w, "sharded-": sharded} {
		for _, c := range cases {
			args = append(args, prefix+c.name+"="+c.method+":"+path(w, c.files))
			want = append(want, prefix+c.name+" "+c.want)
		}
	}
	out, ok := w.run(t, java, args...)
	require.True(t, ok, out)
	require.Equal(t, want, strings.Split(strings.TrimSpace(out), "\n"))

	keytool := testtool.Find(t, "keytool", "default-jdk-headless")
	w.agrees(t, true, "", keytool, "-importcert", "-noprompt", "-alias", "signer", "-file", "signer.der", "-keystore", "cas.p12", "-storepass", "changeit")
	print := []string{"-printcrl", "-keystore", "cas.p12", "-storepass", "changeit", "-file"}
	w.agrees(t, true, "verified by signer in keystore", keytool, append(print, "signer.crl")...)
	w.agrees(t, true, "warning: not verified", keytool, append(print, "issuer.crl")...)
}
