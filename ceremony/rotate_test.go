package ceremony_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/lint"
	"github.com/signet-hsm/signet/ceremony"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/testtool"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

// The new issuer outlives the cross-certificate of its root: the old root has
// few days left, which is why there is a new one.
const rotateText = `
name: rotation
root:
  key: root
  generation: 3
  algorithm: P-256
  subject: {country: DE, organization: Bank, common_name: Bank Root 3}
  validity: 240h
issuer:
  key: issuer
  generation: 1
  algorithm: P-256
  subject: {common_name: Bank Issuer 1}
  validity: 120h
existing_root:
  key: root
  generation: 2
  certificate: |
$CERTIFICATE
cross_sign:
  - certify: root
    validity: 72h
  - certify: issuer
    validity: 48h
crl:
  - by: root
    number: 1
    validity: 48h
  - by: existing_root
    number: 7
    validity: 48h
    revoked:
      - {serial: $SERIAL, reason: SUPERSEDED, at: $AT}
`

// world is what a first ceremony made, and the plan of the second.
type world struct {
	token *hsm.Token
	dir   string
	old   ceremony.Result
	text  string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{token: softhsmtest.New(t), dir: t.TempDir()}
	var err error
	w.old, err = ceremony.Run(t.Context(), w.token, parse(t, planText), filepath.Join(w.dir, "old"))
	require.NoError(t, err)
	w.text = w.fill(t, rotateText)
	return w
}

func (w *world) fill(t *testing.T, text string) string {
	t.Helper()
	return strings.NewReplacer("$CERTIFICATE\n", indented(w.old.Root),
		"$SERIAL", hex.EncodeToString(certificate(t, w.old.Issuer).SerialNumber.Bytes()),
		"$AT", time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)).Replace(text)
}

func indented(der []byte) string {
	var out strings.Builder
	for l := range strings.Lines(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))) {
		out.WriteString("    " + l)
	}
	return out.String()
}

func certificate(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return c
}

// device issues a signer below the new issuer and a device below that.
func (w *world) device(t *testing.T, issuer []byte, ref hsm.Ref) (device, signer []byte, signerKey crypto.Signer) {
	t.Helper()
	issuerKey, err := w.token.Signer(t.Context(), ref)
	require.NoError(t, err)
	signerKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	linter, err := lint.New(lint.Config{})
	require.NoError(t, err)
	issue := func(p issuance.Profile, above []byte, s issuance.Subject, by crypto.Signer) []byte {
		template, err := p.Compile(issuance.Checks{Linter: linter})
		require.NoError(t, err)
		csr, err := issuance.NewRequest(signerKey)
		require.NoError(t, err)
		request, err := issuance.ParseRequest(csr)
		require.NoError(t, err)
		authority, err := issuance.NewAuthority(above)
		require.NoError(t, err)
		serial, err := issuance.NewSerial(rand.Reader)
		require.NoError(t, err)
		draft, err := issuance.Prepare(issuance.Order{Issuer: authority, Profile: template, Request: request, Subject: s, Serial: serial, Now: time.Now()})
		require.NoError(t, err)
		der, err := draft.Sign(by)
		require.NoError(t, err)
		return der
	}
	signer = issue(issuance.Signer(), issuer, issuance.Subject{Organization: "alpha", CommonName: "signer", SerialNumber: "1"}, issuerKey)
	return issue(issuance.ASTDevice(), signer, issuance.Subject{Organization: "alpha", CommonName: "device"}, signerKey), signer, signerKey
}

// One plan makes a new root and issuer, certifies both by the old root, and
// signs the CRLs of both roots. A device below the new issuer verifies to the old
// root over either cross-certificate, whoever looks, revocation of the whole chain
// included.
func TestRotationWithCrossCertificates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	out := filepath.Join(w.dir, "new")
	made, err := ceremony.Run(t.Context(), w.token, parse(t, w.text), out)
	require.NoError(t, err)
	require.Equal(t, [][]byte{made.Issuer, made.RootCross, w.old.Root}, readPEM(t, filepath.Join(out, ceremony.RootCrossChainFile)))
	require.Equal(t, [][]byte{made.IssuerCross, w.old.Root}, readPEM(t, filepath.Join(out, ceremony.IssuerCrossChainFile)))
	for cross, own := range map[*x509.Certificate]*x509.Certificate{
		certificate(t, made.RootCross): certificate(t, made.Root), certificate(t, made.IssuerCross): certificate(t, made.Issuer),
	} {
		require.Equal(t, own.RawSubject, cross.RawSubject)
		require.Equal(t, own.RawSubjectPublicKeyInfo, cross.RawSubjectPublicKeyInfo)
		require.Equal(t, own.SubjectKeyId, cross.SubjectKeyId)
		require.Equal(t, certificate(t, w.old.Root).RawSubject, cross.RawIssuer)
	}
	require.Equal(t, 2, certificate(t, made.RootCross).MaxPathLen)

	device, signer, signerKey := w.device(t, made.Issuer, made.IssuerKey)
	pool := func(certs ...[]byte) *x509.CertPool {
		p := x509.NewCertPool()
		for _, c := range certs {
			p.AddCert(certificate(t, c))
		}
		return p
	}
	verify := func(root []byte, above ...[]byte) error {
		_, err := certificate(t, device).Verify(x509.VerifyOptions{
			Roots: pool(root), Intermediates: pool(above...), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		return err
	}
	require.NoError(t, verify(made.Root, signer, made.Issuer))
	require.NoError(t, verify(w.old.Root, signer, made.Issuer, made.RootCross))
	require.NoError(t, verify(w.old.Root, signer, made.IssuerCross))
	require.Error(t, verify(w.old.Root, signer, made.Issuer), "without a cross-certificate there is no path")

	issuerKey, err := w.token.Signer(t.Context(), made.IssuerKey)
	require.NoError(t, err)
	lists := map[string][]byte{
		"root": made.RootCRL, "existing": made.ExistingRootCRL,
		"signer": emptyCRL(t, signer, signerKey), "issuer": emptyCRL(t, made.Issuer, issuerKey),
	}
	t.Run("openssl", func(t *testing.T) {
		o := newOpenSSL(t)
		agrees := func(says string, cert, root []byte, crls []string, above ...[]byte) {
			t.Helper()
			args := []string{"-CAfile", o.pem("CERTIFICATE", root)}
			if len(above) > 0 {
				args = append(args, "-untrusted", o.pem("CERTIFICATE", above...))
			}
			if crls != nil {
				var der [][]byte
				for _, name := range crls {
					der = append(der, lists[name])
				}
				args = append(args, "-crl_check_all", "-CRLfile", o.pem("X509 CRL", der...))
			}
			o.verify(says, cert, args...)
		}
		agrees(": OK", device, w.old.Root, nil, signer, made.Issuer, made.RootCross)
		agrees(": OK", device, w.old.Root, nil, signer, made.IssuerCross)
		agrees("unable to get local issuer certificate", device, w.old.Root, nil, signer, made.Issuer)
		agrees(": OK", device, made.Root, []string{"signer", "issuer", "root"}, signer, made.Issuer)
		agrees("unable to get certificate CRL", device, made.Root, []string{"signer", "issuer"}, signer, made.Issuer)
		agrees(": OK", device, w.old.Root, []string{"signer", "issuer", "root", "existing"}, signer, made.Issuer, made.RootCross)
		agrees(": OK", device, w.old.Root, []string{"signer", "issuer", "existing"}, signer, made.IssuerCross)
		agrees("certificate revoked", w.old.Issuer, w.old.Root, []string{"existing"})
	})

	text, err := os.ReadFile(filepath.Join(out, ceremony.TranscriptFile))
	require.NoError(t, err)
	last, err := ceremony.VerifyTranscript(bytes.NewReader(text))
	require.NoError(t, err)
	require.Equal(t, made.Transcript, last)
	require.Equal(t, []string{
		"begin", "key.intent", "key", "draft", "certificate", "file", "key.intent", "key", "draft", "certificate", "file",
		"key.use", "draft", "certificate", "file", "draft", "certificate", "file",
		"crl.draft", "crl", "file", "crl.draft", "crl", "file", "end",
	}, events(t, text))
	require.Equal(t, []string{
		"signet/1/_system/issuer/issuer/0", "signet/1/_system/issuer/issuer/1", "signet/1/_system/root/root/2", "signet/1/_system/root/root/3",
	}, labels(t, w.token))

	// A second run finds the labels taken and changes nothing.
	before := snapshot(t, w.dir)
	_, err = ceremony.Run(t.Context(), w.token, parse(t, w.text), filepath.Join(w.dir, "again"))
	require.ErrorIs(t, err, ceremony.ErrLabel)
	require.Equal(t, before, snapshot(t, w.dir))
}

// emptyCRL stands for those that the publisher makes.
func emptyCRL(t *testing.T, by []byte, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour),
	}, certificate(t, by), key)
	require.NoError(t, err)
	return der
}

type openSSL struct {
	t         *testing.T
	path, dir string
	files     int
}

func newOpenSSL(t *testing.T) *openSSL {
	t.Helper()
	path := testtool.OpenSSL(t)
	return &openSSL{t: t, path: path, dir: t.TempDir()}
}

func (o *openSSL) pem(kind string, list ...[]byte) string {
	var out []byte
	for _, der := range list {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	o.files++
	path := filepath.Join(o.dir, fmt.Sprint(o.files, ".pem"))
	require.NoError(o.t, os.WriteFile(path, out, 0o600))
	return path
}

func (o *openSSL) verify(says string, cert []byte, args ...string) {
	o.t.Helper()
	args = append(append([]string{"verify", "-x509_strict"}, args...), o.pem("CERTIFICATE", cert))
	out, err := exec.CommandContext(o.t.Context(), o.path, args...).CombinedOutput()
	require.Equal(o.t, says == ": OK", err == nil, "%s", out)
	require.Contains(o.t, string(out), says)
}

const crlText = `
name: CRL of the root
existing_root:
  key: root
  generation: 2
  certificate: |
$CERTIFICATE
crl:
  - by: existing_root
    number: 8
    validity: 48h
`

// A ceremony for a CRL makes no key. The list grows by a serial.
func TestCRLCeremony(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	keys := labels(t, w.token)
	revoked := crlText + "    revoked:\n      - {serial: $SERIAL, reason: CA_COMPROMISE, at: $AT}\n"
	for i, c := range []struct{ text, says string }{{crlText, ": OK"}, {strings.Replace(revoked, "number: 8", "number: 9", 1), "certificate revoked"}} {
		out := filepath.Join(w.dir, fmt.Sprint("crl", i))
		made, err := ceremony.Run(t.Context(), w.token, parse(t, w.fill(t, c.text)), out)
		require.NoError(t, err)
		require.Nil(t, made.Root)
		file, err := os.ReadFile(filepath.Join(out, ceremony.ExistingRootCRLFile))
		require.NoError(t, err)
		require.Equal(t, made.ExistingRootCRL, file)
		list, err := x509.ParseRevocationList(file)
		require.NoError(t, err)
		require.NoError(t, list.CheckSignatureFrom(certificate(t, w.old.Root)))
		require.EqualValues(t, 8+i, list.Number.Int64())
		require.Equal(t, 48*time.Hour, list.NextUpdate.Sub(list.ThisUpdate))
		require.Len(t, list.RevokedCertificateEntries, i)
		text, err := os.ReadFile(filepath.Join(out, ceremony.TranscriptFile))
		require.NoError(t, err)
		require.Equal(t, []string{"begin", "key.use", "crl.draft", "crl", "file", "end"}, events(t, text))
		require.Equal(t, "zlint "+lint.Version+" and signet: no finding", entries(t, text)[4].Detail["lint"])
		t.Run("openssl", func(t *testing.T) {
			o := newOpenSSL(t)
			o.verify(c.says, w.old.Issuer, "-crl_check_all", "-CAfile", o.pem("CERTIFICATE", w.old.Root), "-CRLfile", o.pem("X509 CRL", file))
		})
	}
	require.Equal(t, keys, labels(t, w.token))
}

func TestRotationWithEveryAlgorithm(t *testing.T) {
	t.Parallel()
	token := softhsmtest.New(t)
	dir := t.TempDir()
	for i, alg := range []string{"P-256", "RSA-3072", "Ed25519"} {
		key := "key: k" + string(rune('a'+i))
		old, err := ceremony.Run(t.Context(), token, parse(t, strings.NewReplacer("Ed25519", alg, "P-384", alg, "key: ", key).Replace(planText)), filepath.Join(dir, alg))
		require.NoError(t, err)
		w := &world{token: token, dir: dir, old: old}
		text := strings.NewReplacer("P-256", alg, "key: ", key).Replace(rotateText)
		_, err = ceremony.Run(t.Context(), token, parse(t, w.fill(t, text)), filepath.Join(dir, alg+"-new"))
		require.NoError(t, err, alg)
	}
}

// Whatever is wrong with a step is found before any key is made or used.
func TestRotationRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before, keys := snapshot(t, w.dir), labels(t, w.token)
	cross := rotateText[strings.Index(rotateText, "cross_sign:"):strings.Index(rotateText, "crl:")]
	crl := rotateText[strings.Index(rotateText, "crl:"):]
	authorities := rotateText[strings.Index(rotateText, "root:"):strings.Index(rotateText, "existing_root:")]
	existing := rotateText[strings.Index(rotateText, "existing_root:"):strings.Index(rotateText, "cross_sign:")]
	none := strings.NewReplacer(cross, "", crl, "")
	for name, c := range map[string]struct {
		change *strings.Replacer
		want   error
	}{
		"nothing to do":             {strings.NewReplacer(authorities, "", existing, "", cross, "", crl, ""), ceremony.ErrPlan},
		"root without issuer":       {strings.NewReplacer(authorities[strings.Index(authorities, "issuer:"):], ""), ceremony.ErrPlan},
		"unused existing root":      {none, ceremony.ErrPlan},
		"no existing root":          {strings.NewReplacer(existing, ""), ceremony.ErrPlan},
		"nothing to certify":        {strings.NewReplacer(authorities, "", "  - by: root\n    number: 1\n    validity: 48h\n", ""), ceremony.ErrPlan},
		"certifies a stranger":      {strings.NewReplacer("certify: root", "certify: signer"), ceremony.ErrPlan},
		"certifies twice":           {strings.NewReplacer("certify: root", "certify: issuer"), ceremony.ErrPlan},
		"short cross":               {strings.NewReplacer("validity: 72h", "validity: 1h"), ceremony.ErrPlan},
		"outlives itself":           {strings.NewReplacer("certify: issuer\n    validity: 48h", "certify: issuer\n    validity: 121h"), ceremony.ErrPlan},
		"outlives the old root":     {strings.NewReplacer("validity: 72h", "validity: 100h"), ceremony.ErrPlan},
		"unknown field":             {strings.NewReplacer("certify: root", "certify: root\n    path: 3"), ceremony.ErrPlan},
		"old root's subject":        {strings.NewReplacer("Bank Root 3", "Bank Root 2"), ceremony.ErrPlan},
		"no certificate":            {strings.NewReplacer("$CERTIFICATE\n", "    nonsense\n"), ceremony.ErrPlan},
		"two certificates":          {strings.NewReplacer("$CERTIFICATE\n", indented(w.old.Root)+indented(w.old.Root)), ceremony.ErrPlan},
		"not a root":                {strings.NewReplacer("$CERTIFICATE\n", indented(w.old.Issuer)), ceremony.ErrPlan},
		"key is not there":          {strings.NewReplacer("existing_root:\n  key: root", "existing_root:\n  key: other"), ceremony.ErrKey},
		"bad key":                   {strings.NewReplacer("existing_root:\n  key: root", "existing_root:\n  key: a/b"), ceremony.ErrPlan},
		"new label is the old":      {strings.NewReplacer("generation: 3", "generation: 2"), ceremony.ErrLabel},
		"CRL by a stranger":         {strings.NewReplacer("by: root", "by: issuer"), ceremony.ErrPlan},
		"two CRLs of one":           {strings.NewReplacer("by: root", "by: existing_root"), ceremony.ErrPlan},
		"CRL by nobody":             {strings.NewReplacer(authorities, "", cross, ""), ceremony.ErrPlan},
		"no number":                 {strings.NewReplacer("number: 7", "number: 0"), ceremony.ErrPlan},
		"endless CRL":               {strings.NewReplacer("number: 7\n    validity: 48h", "number: 7\n    validity: 9000h"), ceremony.ErrPlan},
		"short CRL":                 {strings.NewReplacer("number: 7\n    validity: 48h", "number: 7\n    validity: 1m"), ceremony.ErrPlan},
		"a new root that revokes":   {strings.NewReplacer("number: 1\n", "number: 1\n    revoked: [{serial: $SERIAL, reason: SUPERSEDED, at: $AT}]\n"), ceremony.ErrPlan},
		"bad serial":                {strings.NewReplacer("$SERIAL", "abcd"), ceremony.ErrPlan},
		"upper case serial":         {strings.NewReplacer("$SERIAL", strings.Repeat("7F", 16)), ceremony.ErrPlan},
		"bad reason":                {strings.NewReplacer("SUPERSEDED", "CERTIFICATE_HOLD"), ceremony.ErrPlan},
		"no reason":                 {strings.NewReplacer("SUPERSEDED", "''"), ceremony.ErrPlan},
		"date without a time":       {strings.NewReplacer("$AT}", "2026-01-02}"), ceremony.ErrPlan},
		"revoked in the future":     {strings.NewReplacer("$AT}", time.Now().Add(time.Hour).UTC().Format(time.RFC3339)+"}"), ceremony.ErrPlan},
		"a serial twice":            {strings.NewReplacer("      - {serial", "      - {serial: $SERIAL, reason: SUPERSEDED, at: $AT}\n      - {serial"), ceremony.ErrPlan},
		"the same key, another CRL": {strings.NewReplacer("  generation: 2\n", "  generation: 9\n"), ceremony.ErrKey},
	} {
		text := c.change.Replace(rotateText)
		require.NotEqual(t, rotateText, text, name)
		p, err := ceremony.Parse("plan.yaml", []byte(w.fill(t, text)))
		if err == nil {
			_, err = ceremony.Run(t.Context(), w.token, p, filepath.Join(w.dir, "out"))
		}
		require.ErrorIs(t, err, c.want, name)
		require.Equal(t, before, snapshot(t, w.dir), name)
		require.Equal(t, keys, labels(t, w.token), name)
	}

	late := func() time.Time { return time.Now().Add(97 * time.Hour) }
	_, err := ceremony.Start(t.Context(), w.token, parse(t, w.text), filepath.Join(w.dir, "out"), late)
	require.ErrorIs(t, err, ceremony.ErrPlan, "the existing root has expired")
	require.Equal(t, before, snapshot(t, w.dir))
}

// A root whose path limit leaves no room for another root below it can certify
// the new issuer, and a certificate of another key on the token is refused.
func TestExistingRootsPathLimitAndKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ref := hsm.Ref{Tenant: "_system", Role: hsm.RoleRoot, Name: "tight"}
	_, err := w.token.Generate(t.Context(), ref, hsm.P256, [16]byte{1})
	require.NoError(t, err)
	key, err := w.token.Signer(t.Context(), ref)
	require.NoError(t, err)
	linter, err := lint.New(lint.Config{})
	require.NoError(t, err)
	profile := issuance.Root()
	profile.MaxPath = 2
	template, err := profile.Compile(issuance.Checks{Linter: linter})
	require.NoError(t, err)
	csr, err := issuance.NewRequest(key)
	require.NoError(t, err)
	request, err := issuance.ParseRequest(csr)
	require.NoError(t, err)
	draft, err := issuance.Prepare(issuance.Order{Profile: template, Request: request, Subject: issuance.Subject{CommonName: "Tight"}, Serial: issuance.Serial{1}, Now: time.Now()})
	require.NoError(t, err)
	root, err := draft.Sign(key)
	require.NoError(t, err)

	tight := strings.NewReplacer("existing_root:\n  key: root\n  generation: 2\n  certificate: |\n$CERTIFICATE\n", "existing_root:\n  key: tight\n  generation: 0\n  certificate: |\n"+indented(root))
	text := tight.Replace(rotateText)
	_, err = ceremony.Run(t.Context(), w.token, parse(t, w.fill(t, text)), filepath.Join(w.dir, "out"))
	require.ErrorIs(t, err, ceremony.ErrPlan)
	require.ErrorIs(t, err, issuance.ErrProfile)
	_, err = ceremony.Run(t.Context(), w.token, parse(t, w.fill(t, strings.NewReplacer("$CERTIFICATE\n", indented(root), "  - certify: root\n    validity: 72h\n", "").Replace(rotateText))), filepath.Join(w.dir, "out"))
	require.ErrorIs(t, err, ceremony.ErrKey)
	made, err := ceremony.Run(t.Context(), w.token, parse(t, w.fill(t, strings.Replace(text, "  - certify: root\n    validity: 72h\n", "", 1))), filepath.Join(w.dir, "out"))
	require.NoError(t, err)
	require.NoError(t, issuance.VerifyChain([][]byte{made.IssuerCross, root}, time.Now()))
}

// The example in the documentation is a plan that runs, on a token that has the
// key of its existing root.
func TestExamplesRehearse(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"ceremony.example.yaml", "ceremony-rotate.example.yaml", "ceremony-crl.example.yaml"} {
		plan, err := ceremony.Load(filepath.Join("..", "docs", name))
		require.NoError(t, err)
		now := time.Now()
		if plan.ExistingRoot != nil {
			block, _ := pem.Decode([]byte(plan.ExistingRoot.Certificate))
			now = certificate(t, block.Bytes).NotBefore.Add(10 * 365 * 24 * time.Hour)
		}
		require.NoError(t, ceremony.RehearseInMemory(&plan, now), name)
		_, err = ceremony.Run(t.Context(), softhsmtest.New(t), plan, filepath.Join(t.TempDir(), "out"))
		if plan.ExistingRoot == nil {
			require.NoError(t, err)
		} else {
			require.Error(t, err, "the example's root is on nobody's token")
		}
	}
}
