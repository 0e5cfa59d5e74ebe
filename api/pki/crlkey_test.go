package pki_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/internal/testtool"
)

// What the four tools make of CRLs that another key of the CA has signed, in the
// CA's name (ca.crl_key: own). docs/ca.md has the outcome as a table.
func TestCRLsOfAnotherKey(t *testing.T) {
	t.Parallel()
	w := newTower(t, 1, func(c *revocation.Config) { c.OwnCRLKey = true })
	// Whoever needs the certificate finds it where the CRL says.
	list, err := x509.ParseRevocationList(w.signerCRL)
	require.NoError(t, err)
	where := revocation.CRLSignerURL(w.url, revocation.KeyID(w.signer.SubjectKeyId))
	require.Contains(t, string(list.Raw), where)
	other := certificate(t, get(t, where))
	require.Equal(t, other.SubjectKeyId, list.AuthorityKeyId)
	require.NotEqual(t, w.signer.SubjectKeyId, list.AuthorityKeyId)
	require.Equal(t, w.signer.RawSubject, other.RawSubject)
	require.NoError(t, other.CheckSignatureFrom(w.signer))
	require.Error(t, list.CheckSignatureFrom(w.signer))
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.Raw})
	middle, err := os.ReadFile(w.file("middle.pem"))
	require.NoError(t, err)
	for name, data := range map[string][]byte{"crlsigner.der": other.Raw, "crlsigner.pem": text, "withsigner.pem": append(middle, text...)} {
		require.NoError(t, os.WriteFile(w.file(name), data, 0o600))
	}

	t.Run("OpenSSL", func(t *testing.T) {
		t.Parallel()
		openssl := testtool.Find(t, "openssl", "openssl")
		verify := func(cert string, more ...string) []string {
			args := append([]string{"verify", "-x509_strict", "-CAfile", "root.pem", "-untrusted", "withsigner.pem", "-CRLfile", "all.crl.pem", "-crl_check"}, more...)
			return append(args, cert)
		}
		w.agrees(t, true, "good.pem: ok", openssl, verify("good.pem", "-extended_crl")...)
		w.agrees(t, false, "certificate revoked", openssl, verify("bad.pem", "-extended_crl")...)
		w.agrees(t, false, "unable to get certificate crl", openssl, verify("good.pem")...) // it has to be asked for
		w.agrees(t, false, "unable to get certificate crl", openssl, verify("bad.pem")...)
	})
	t.Run("GnuTLS", func(t *testing.T) {
		t.Parallel()
		certtool := testtool.Find(t, "certtool", "gnutls-bin")
		verify := func(chain string) []string {
			return []string{"--verify", "--load-ca-certificate", "root.pem", "--infile", chain, "--load-crl", "signer.crl.pem"}
		}
		w.agrees(t, true, "chain verification output: verified", certtool, verify("goodchain.pem")...)
		w.agrees(t, false, "revoked", certtool, verify("badchain.pem")...)
		// It finds the CRL by name and does not ask whose key; asked to, it wants a CA.
		out, _ := w.run(t, certtool, "--verify-crl", "--load-ca-certificate", "crlsigner.pem", "--infile", "signer.crl.pem")
		require.Contains(t, out, "The certificate issuer is not a CA")
	})
	t.Run("NSS", func(t *testing.T) {
		t.Parallel()
		certutil, crlutil, vfychain := testtool.Find(t, "certutil", "libnss3-tools"), testtool.Find(t, "crlutil", "libnss3-tools"), testtool.Find(t, "vfychain", "libnss3-tools")
		require.NoError(t, os.Mkdir(w.file("other"), 0o700))
		w.agrees(t, true, "", certutil, "-N", "-d", "sql:other", "--empty-password")
		for file, trust := range map[string]string{"root": "CT,C,C", "issuer": ",,", "signer": ",,"} {
			w.agrees(t, true, "", certutil, "-A", "-d", "sql:other", "-n", file, "-t", trust, "-i", file+".der")
		}
		w.agrees(t, false, "sec_error_crl_bad_signature", crlutil, "-I", "-d", "sql:other", "-i", "signer.crl")
		for _, cert := range []string{"good.der", "bad.der"} { // no verdict without a CRL
			w.agrees(t, false, "chain is bad", vfychain, "-d", "sql:other", "-pp", "-u", "0", "-g", "leaf", "-m", "crl", "-s", "failIfNoInfo", cert)
		}
	})
	t.Run("Java", func(t *testing.T) {
		t.Parallel()
		java := testtool.Find(t, "java", "default-jdk-headless")
		source, err := filepath.Abs("testdata/Pkix.java")
		require.NoError(t, err)
		files := func(crls, cert string) string {
			return strings.Join([]string{w.file("root.der"), crls, w.file(cert), w.file("signer.der")}, ",")
		}
		// Only the leaf's own CRL is by the other key here, so that one signer is needed.
		crls := w.file("signer.crl")
		with := crls + "+" + w.file("crlsigner.der")
		args := []string{"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", source}
		for _, c := range []string{"good=leaf:" + files(with, "good.der"), "bad=leaf:" + files(with, "bad.der"), "alone=leaf:" + files(crls, "good.der")} {
			args = append(args, c+","+w.file("issuer.der"))
		}
		out, ok := w.run(t, java, args...)
		require.True(t, ok, out)
		require.Equal(t, []string{"good GOOD", "bad REVOKED", "alone UNDETERMINED_REVOCATION_STATUS"}, strings.Split(strings.TrimSpace(out), "\n"))
	})
}
