package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// asAdmin sends a request of the AST dialect with both privileges of an
// administrator, and demands a status.
func (n *siteNode) asAdmin(t *testing.T, want int, method, path string, body, res any) {
	t.Helper()
	token, err := n.idp.token(time.Now(), "admin-read", "admin-write")
	require.NoError(t, err)
	var raw []byte
	if body != nil {
		raw, err = json.Marshal(body)
		require.NoError(t, err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, n.rest+path, bytes.NewReader(raw))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := n.http.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, want, resp.StatusCode, "%s %s", method, path)
	if res != nil {
		require.NoError(t, json.NewDecoder(resp.Body).Decode(res))
	}
}

// A change of the issuer by the steps of docs/ca.md: the new one is told to the
// nodes, takes over, and one command renews every signer. Nothing stops meanwhile.
func TestChangeOfTheIssuer(t *testing.T) {
	t.Parallel()
	const signers, certificates = "/v2/tenants/demo/signers", "/v1/tenants/demo/certificates/admin"
	s := newSite(t)
	n := s.serve(t)
	for range 2 { // one of them RETIRED, which is renewed as well
		n.asAdmin(t, 201, "POST", signers, nil, nil)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	require.NoError(t, err)
	// issue returns the certificates above a new one.
	issue := func(n *siteNode) [][]byte {
		t.Helper()
		var made issuedBody
		n.asAdmin(t, 201, "POST", certificates, map[string]any{"csr": csr, "user": "jane", "client": "01FH8MDGN9W5C3RXRFNX6G164S"}, &made)
		return made.Chain
	}
	before := issue(n)

	// 1. The ceremony.
	s.write(t, "plan2.yaml", strings.NewReplacer("generation: 0", "generation: 1", "Site root", "Site root 2", "Site issuer", "Site issuer 2").Replace(sitePlan))
	s.verb(t, 0, "ceremony", "--plan", s.path("plan2.yaml"), "--out", s.path("ca2"))
	config, err := os.ReadFile(s.config)
	require.NoError(t, err)
	old, next := s.path("ca/issuer-chain.pem"), s.path("ca2/issuer-chain.pem")
	const oldKey, nextKey = "signet/1/_system/issuer/issuer/0", "signet/1/_system/issuer/issuer/1"
	restart := func(section string) {
		t.Helper()
		s.write(t, "signet.yaml", strings.Replace(string(config), "ca: {issuer_chain: "+old+"}", "ca: "+section, 1))
		later := s.serve(t)
		require.NoError(t, n.proc.cmd.Process.Signal(os.Interrupt))
		require.Zero(t, n.proc.wait(t), n.proc.out)
		n = later
	}
	// 2. and 3. The nodes learn of it, and change over.
	restart("{issuer_chain: " + old + ", other_issuers: [{chain: " + next + ", key: " + nextKey + "}]}")
	require.Equal(t, before, issue(n))
	restart("{issuer_chain: " + next + ", issuer_key: " + nextKey + ", other_issuers: [{chain: " + old + ", key: " + oldKey + "}]}")
	require.Equal(t, before, issue(n), "its signer has the old issuer's certificate yet")

	// 4. One command renews all signers.
	for _, want := range []string{"2 renewed, 0 queued, 0 failed", "0 renewed, 0 queued, 0 failed"} {
		p := start(t, "ca", "renew-all", "-c", s.config)
		require.Zero(t, p.wait(t), p.out)
		require.Contains(t, p.out.String(), want)
	}
	after := issue(n)
	require.Equal(t, subjectKey(t, before[0]), subjectKey(t, after[0]), "the signer's key is the same")
	root, err := readChain(s.path("ca2/root.pem"))
	require.NoError(t, err)
	require.Equal(t, root[0], after[len(after)-1])
	s.verb(t, 0, "ca", "unrecorded")
}

func subjectKey(t *testing.T, der []byte) []byte {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return c.RawSubjectPublicKeyInfo
}
