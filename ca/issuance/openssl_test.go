package issuance_test

import (
	"crypto"
	"crypto/elliptic"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/internal/testtool"
)

// A second implementation must agree with ours about what is a valid chain, and
// about what is not.
func TestOpenSSLAgrees(t *testing.T) {
	t.Parallel()
	openssl := testtool.OpenSSL(t)
	for name, key := range map[string]crypto.Signer{
		"P-256": ecKey(t, elliptic.P256()), "P-384": ecKey(t, elliptic.P384()), "RSA-3072": rsaKey(t, 3072), "Ed25519": edKey(t),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTower(t, key, key, key)
			d, err := issuance.Prepare(w.order(t, request(t, ecKey(t, elliptic.P256()))))
			require.NoError(t, err)
			leaf, err := d.Sign(key)
			require.NoError(t, err)
			dir := t.TempDir()
			write := func(file string, certs ...[]byte) string {
				var out []byte
				for _, c := range certs {
					out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
				}
				path := filepath.Join(dir, file)
				require.NoError(t, os.WriteFile(path, out, 0o600))
				return path
			}
			verify := func(untrusted string, cert string) ([]byte, error) {
				return exec.CommandContext(t.Context(), openssl, "verify", "-x509_strict", "-purpose", "sslclient",
					"-attime", strconv.FormatInt(now.Unix(), 10),
					"-CAfile", write("root.pem", w.root), "-untrusted", untrusted, cert).CombinedOutput()
			}
			middle := write("chain.pem", w.signer, w.issuer)
			out, err := verify(middle, write("leaf.pem", leaf))
			require.NoError(t, err, "%s", out)
			leaf[len(leaf)-1] ^= 1
			out, err = verify(middle, write("bad.pem", leaf))
			require.Error(t, err, "%s", out)
			out, err = verify(write("gap.pem", w.issuer), write("leaf2.pem", leaf))
			require.Error(t, err, "%s", out)
		})
	}
}

// Certificates of every leaf profile, with all that can stand in them, serve the
// purpose they are for and no other.
func TestOpenSSLAgreesOnPurposes(t *testing.T) {
	t.Parallel()
	openssl := testtool.OpenSSL(t)
	w := ecTower(t)
	dir := t.TempDir()
	write := func(file string, certs ...[]byte) string {
		var out []byte
		for _, c := range certs {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
		}
		path := filepath.Join(dir, file)
		require.NoError(t, os.WriteFile(path, out, 0o600))
		return path
	}
	root, middle := write("root.pem", w.root), write("chain.pem", w.signer, w.issuer)
	for _, c := range []struct {
		profile    issuance.Profile
		good, bad  string
		names      []string
		shows      string
		revocation bool
	}{
		{issuance.ASTDevice(), "sslclient", "sslserver", nil, "http://pki.example.com/0.crl", true},
		{issuance.Gateway(), "sslserver", "smimesign", []string{"gw.bank.example"}, "DNS:gw.bank.example", true},
		{issuance.Signature(), "any", "sslclient", nil, "Non Repudiation", true},
		{issuance.OCSPSigning(), "ocsphelper", "sslclient", nil, "OCSP No Check", false},
	} {
		o := w.order(t, request(t, ecKey(t, elliptic.P256())))
		o.Profile, o.AltNames.DNS = compile(t, c.profile), c.names
		o.Locations.Issuer = []string{"http://pki.example.com/ca.cer"}
		if c.revocation {
			o.Locations.CRL, o.Locations.OCSP = []string{"http://pki.example.com/0.crl"}, []string{"http://pki.example.com/ocsp"}
		}
		d, err := issuance.Prepare(o)
		require.NoError(t, err)
		leaf, err := d.Sign(w.signerKey)
		require.NoError(t, err)
		cert := write(c.profile.Name+".pem", leaf)
		verify := func(purpose string) ([]byte, error) {
			return exec.CommandContext(t.Context(), openssl, "verify", "-x509_strict", "-purpose", purpose,
				"-attime", strconv.FormatInt(now.Unix(), 10), "-CAfile", root, "-untrusted", middle, cert).CombinedOutput()
		}
		out, err := verify(c.good)
		require.NoError(t, err, "%s: %s", c.profile.Name, out)
		out, err = verify(c.bad)
		require.Error(t, err, "%s: %s", c.profile.Name, out)
		text, err := exec.CommandContext(t.Context(), openssl, "x509", "-in", cert, "-noout", "-text").Output()
		require.NoError(t, err)
		require.Contains(t, string(text), c.shows)
		require.Contains(t, string(text), "CA Issuers - URI:http://pki.example.com/ca.cer")
	}
}
