package pki_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/internal/testtool"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

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
			w.agrees(t, false, "certificate signature failure", openssl, verify("all.crl.pem", "broken.pem")...)
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
			w.forging.Store(true)
			w.agrees(t, false, "response verify failure", openssl, ask("signer.pem", "good.pem")...)
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
	w.agrees(t, false, "signature", certtool, verify("brokenchain.pem", "signer.crl.pem")...)
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
	w.forging.Store(true)
	w.agrees(t, false, "signature failure", ocsptool, ask(w.good.OCSPServer[0], "signer.pem", "good.pem")...)
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
	// Forgeries are no news of a revocation, and without news there is no verdict.
	out, ok = w.run(t, crlutil, "-I", "-d", database("forged"), "-i", "broken.crl")
	require.False(t, ok, out)
	w.forging.Store(true)
	w.agrees(t, false, "chain is bad", vfychain, ocsp("good.der")...)
	db = database("forging")
	w.agrees(t, false, "chain is bad", vfychain, fetch("failIfNoInfo", "good.der")...)
}

func TestJavaAgrees(t *testing.T) {
	t.Parallel()
	java := testtool.Find(t, "java", "default-jdk-headless")
	w, sharded, forged := newTower(t, 1), newTower(t, 8), newTower(t, 1)
	forged.forging.Store(true)
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
	for name, reason := range map[string]string{"crl": "UNDETERMINED_REVOCATION_STATUS", "ocsp": "UNSPECIFIED", "fetch": "UNDETERMINED_REVOCATION_STATUS"} {
		files := all + "good.der" + middle
		if name == "crl" {
			files = strings.Replace(files, "signer.crl+bad.crl", "broken.crl", 1)
		}
		args = append(args, "forged-"+name+"="+name+":"+path(forged, files))
		want = append(want, "forged-"+name+" "+reason)
	}
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
	w.agrees(t, true, "warning: not verified", keytool, append(print, "broken.crl")...)
}
