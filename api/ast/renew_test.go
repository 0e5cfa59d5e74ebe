package ast_test

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/api"
	"github.com/signet-hsm/signet/api/ast"
	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/tenant"
)

// device holds a key, and the certificate that it shows.
type device struct {
	key   crypto.Signer
	cert  []byte
	above [][]byte // shown with it
}

// enrol issues by the installation's authority, as an administrator would.
func (w *world) enrol(t tenant.ID) (device, ca.Certificate) {
	w.tb.Helper()
	key := newKey(w.tb)
	c, err := w.Authority.IssueDevice(w.tb.Context(), t, ca.IssueRequest{CSR: csrOf(w.tb, key), User: "jane", Client: someClient, Actor: "test"})
	require.NoError(w.tb, err)
	return device{key: key, cert: c.DER}, c
}

func csrOf(tb testing.TB, key crypto.Signer) []byte {
	tb.Helper()
	der, err := issuance.NewRequest(key)
	require.NoError(tb, err)
	return der
}

func renewal(tb testing.TB, key crypto.Signer) string {
	tb.Helper()
	return `{"csr":"` + base64.StdEncoding.EncodeToString(csrOf(tb, key)) + `"}`
}

// listen serves the dialect as cmd does: over TLS, asking for a client certificate
// and judging none.
func (w *world) listen(signers ast.Signers) *httptest.Server {
	w.tb.Helper()
	served, err := ast.New(ast.Config{Signers: signers, Realms: w.Realms})
	require.NoError(w.tb, err)
	server := httptest.NewUnstartedServer(nil)
	server.Config, err = api.NewServer(api.ServerConfig{Handler: api.Handler(served)})
	require.NoError(w.tb, err)
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert}
	server.EnableHTTP2 = true
	server.StartTLS()
	w.tb.Cleanup(server.Close)
	return server
}

// caller is a client with connections of its own.
type caller struct {
	w         *world
	server    *httptest.Server
	transport *http.Transport
	resumed   bool // by the latest answer
}

func (w *world) caller(s *httptest.Server, d *device, change ...func(*tls.Config)) *caller {
	transport := s.Client().Transport.(*http.Transport).Clone()
	if d != nil {
		shown := &tls.Certificate{Certificate: append([][]byte{d.cert}, d.above...), PrivateKey: d.key}
		transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return shown, nil }
	}
	for _, f := range change {
		f(transport.TLSClientConfig)
	}
	w.tb.Cleanup(transport.CloseIdleConnections)
	return &caller{w: w, server: s, transport: transport}
}

func (c *caller) do(method, path, token, body string) (int, http.Header, []byte, error) {
	c.w.tb.Helper()
	r, err := http.NewRequestWithContext(c.w.tb.Context(), method, c.server.URL+path, strings.NewReader(body))
	require.NoError(c.w.tb, err)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.transport.RoundTrip(r)
	if err != nil {
		return 0, nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(c.w.tb, err)
	c.resumed = resp.TLS.DidResume
	return resp.StatusCode, resp.Header, text, nil
}

// renew asks, and holds the answer against the contract.
func (c *caller) renew(t, body string) *httptest.ResponseRecorder {
	c.w.tb.Helper()
	path := "/v1/tenants/" + t + "/certificates/renew"
	status, header, text, err := c.do("POST", path, "", body)
	require.NoError(c.w.tb, err)
	op := c.w.contract.Operations("CA-X-03")[0]
	c.w.contract.RequireResponse(op, httptest.NewRequest("POST", path, strings.NewReader(body)), status, header, text)
	rec := httptest.NewRecorder()
	maps.Copy(rec.Header(), header)
	rec.WriteHeader(status)
	_, err = rec.Write(text)
	require.NoError(c.w.tb, err)
	return rec
}

func TestCAX03_RenewCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Equal(t, 201, w.call("CA-06", w.writer, "alpha", "").Code)
	s := w.listen(w.Authority)
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		d, old := w.enrol(pgtest.Alpha)
		next := newKey(t)
		from := old.Ref
		for _, key := range []crypto.Signer{d.key, next} { // renewed, then rekeyed
			var made issued
			rec := w.caller(s, &d, func(c *tls.Config) { c.MaxVersion = version }).renew("alpha", renewal(t, key))
			w.into(rec, 201, &made)
			require.Equal(t, "/v1/tenants/alpha/certificates/admin/"+made.CertRef, rec.Header().Get("Location"))
			leaf, before := parse(t, made.Certificate), parse(t, base64.StdEncoding.EncodeToString(d.cert))
			require.Equal(t, key.Public(), leaf.PublicKey, name)
			require.Equal(t, before.RawSubject, leaf.RawSubject)
			require.NotEqual(t, before.SerialNumber, leaf.SerialNumber)
			require.NoError(t, leaf.CheckSignatureFrom(parse(t, made.Chain[0])))
			require.Equal(t, w.Root, parse(t, made.Chain[len(made.Chain)-1]).Raw)
			var info certificate
			w.into(w.call("CA-13", w.reader, "alpha", "", made.CertRef), 200, &info)
			require.Equal(t, "ISSUED AST_DEVICE jane "+someClient, info.Status+" "+info.CertProfile+" "+info.User+" "+info.Client)
			var by string
			require.NoError(t, w.DB.QueryRow(t.Context(), `select actor from audit_event where action = 'certificate.issue' and subject = $1`, made.CertRef).Scan(&by))
			require.Equal(t, from, by, "the trail says which certificate asked")
			d, from = device{key: key, cert: leaf.Raw}, made.CertRef
		}
	}
}

// Whoever lost the answer asks again; whoever recorded a request gets nothing for
// it without the key.
func TestCAX03_Replay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Equal(t, 201, w.call("CA-06", w.writer, "alpha", "").Code)
	s := w.listen(w.Authority)
	d, _ := w.enrol(pgtest.Alpha)
	body := renewal(t, newKey(t))
	serials := map[string]bool{}
	for range 2 {
		var made issued
		w.into(w.caller(s, &d).renew("alpha", body), 201, &made)
		serials[parse(t, made.Certificate).SerialNumber.String()] = true
	}
	require.Len(t, serials, 2)
	require.Equal(t, 401, w.caller(s, nil).renew("alpha", body).Code)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		thief := w.caller(s, &device{key: newKey(t), cert: d.cert}, func(c *tls.Config) { c.MaxVersion = version })
		_, _, _, err := thief.do("POST", "/v1/tenants/alpha/certificates/renew", "", body)
		require.Error(t, err, "the certificate alone, without its key, does not pass the handshake")
	}
	require.Equal(t, "4", w.call("CA-12", w.reader, "alpha", "").Header().Get("X-Total-Count"), "the signer's, the first, the two")
}

func TestCAX03_WithoutCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Equal(t, 201, w.call("CA-06", w.writer, "alpha", "").Code)
	s := w.listen(w.Authority)
	d, _ := w.enrol(pgtest.Alpha)
	body := renewal(t, d.key)
	bare := w.caller(s, nil)
	for _, b := range []string{body, "", "{}", "no JSON"} {
		rec := bare.renew("alpha", b)
		require.Equal(t, 401, rec.Code, "who asks comes before what: %s", b)
		require.NotEmpty(t, rec.Header().Get("WWW-Authenticate"))
	}
	status, _, _, err := bare.do("POST", "/v1/tenants/alpha/certificates/renew", w.writer, body)
	require.NoError(t, err)
	require.Equal(t, 401, status, "a token is not what this is about")
	require.Equal(t, 401, w.call("CA-X-03", w.writer, "alpha", body).Code, "nor is there a way without TLS")

	r := httptest.NewRequest("POST", "/v1/tenants/alpha/certificates/renew", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for _, name := range []string{"X-Forwarded-Client-Cert", "X-SSL-Client-Cert", "Client-Cert"} {
		r.Header.Set(name, base64.StdEncoding.EncodeToString(d.cert))
	}
	rec := httptest.NewRecorder()
	w.mux.ServeHTTP(rec, r)
	require.Equal(t, 401, rec.Code, "a header proves nothing")
}

func TestCAX03_Refuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var current signer
	w.into(w.call("CA-06", w.writer, "alpha", ""), 201, &current)
	require.Equal(t, 201, w.call("CA-06", w.betaWriter, "beta", "").Code)
	s := w.listen(w.Authority)
	good, _ := w.enrol(pgtest.Alpha)
	theirs, _ := w.enrol(pgtest.Beta)
	gone, old := w.enrol(pgtest.Alpha)
	require.Equal(t, 204, w.call("CA-X-02", w.writer, "alpha", "", old.Ref).Code)

	key := newKey(t)
	ours := parse(t, base64.StdEncoding.EncodeToString(good.cert))
	copied := func(parentKey crypto.Signer, parent *x509.Certificate) device {
		template := &x509.Certificate{
			SerialNumber: ours.SerialNumber, RawSubject: ours.RawSubject, NotBefore: ours.NotBefore, NotAfter: ours.NotAfter,
			KeyUsage: ours.KeyUsage, ExtKeyUsage: ours.ExtKeyUsage, BasicConstraintsValid: true,
		}
		if parent == nil {
			parent = template
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
		require.NoError(t, err)
		return device{key: key, cert: der}
	}
	signerCert := parse(t, base64.StdEncoding.EncodeToString(old.Chain[0]))
	signerCert.PublicKey = nil // or it could not be the parent of what others sign
	forger := newKey(t)
	forged, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), RawSubject: signerCert.RawSubject, NotBefore: ours.NotBefore, NotAfter: ours.NotAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: signerCert.SubjectKeyId,
	}, signerCert, forger.Public(), forger)
	require.NoError(t, err)
	strange := copied(forger, parse(t, base64.StdEncoding.EncodeToString(forged)))
	strange.above = [][]byte{forged, w.Root}

	before := w.call("CA-12", w.reader, "alpha", "").Header().Get("X-Total-Count")
	var told []string
	for name, c := range map[string]struct {
		d      device
		tenant string
	}{
		"revoked":                          {gone, "alpha"},
		"of another tenant":                {theirs, "alpha"},
		"ours, at another tenant":          {good, "beta"},
		"at no tenant":                     {good, "no-such-tenant"},
		"at what can not be a tenant":      {good, "ALPHA"},
		"self-signed copy":                 {copied(key, nil), "alpha"},
		"copy by a stranger":               {copied(newKey(t), signerCert), "alpha"},
		"copy by a CA that copies our own": {strange, "alpha"},
	} {
		rec := w.caller(s, &c.d).renew(c.tenant, renewal(t, newKey(t)))
		require.Equal(t, 403, rec.Code, name)
		told = append(told, rec.Body.String())
	}
	for _, text := range told {
		require.JSONEq(t, `{"code":"403","message":"the certificate does not entitle to a new one","subsystem":500}`, text, "and not why")
	}
	require.Equal(t, before, w.call("CA-12", w.reader, "alpha", "").Header().Get("X-Total-Count"), "nothing was stored")

	c := w.caller(s, &good)
	for name, body := range map[string]string{
		"no body": "", "no CSR": `{}`, "null": `{"csr":null}`, "no base64": `{"csr":"!"}`, "empty": `{"csr":""}`, "no PKCS#10": `{"csr":"AAAA"}`,
		"more": strings.Replace(renewal(t, key), "{", `{"client":"`+someClient+`",`, 1), "array": `[]`,
	} {
		require.Equal(t, 400, c.renew("alpha", body).Code, name)
		op := w.contract.Operations("CA-X-03")[0]
		r := httptest.NewRequest("POST", "/v1/tenants/alpha/certificates/renew", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		if name != "no PKCS#10" && name != "more" { // what no schema can say
			require.Error(t, w.contract.Request(op, r, []byte(body)), name)
		}
	}
	require.Equal(t, before, w.call("CA-12", w.reader, "alpha", "").Header().Get("X-Total-Count"))
	require.Equal(t, 201, c.renew("alpha", renewal(t, key)).Code)
	require.Equal(t, 204, w.call("CA-11", w.writer, "alpha", "", current.ID).Code)
	require.Equal(t, 403, c.renew("alpha", renewal(t, key)).Code, "its signer is revoked")
}

// The listener takes an expired certificate; how long after its end it may be
// renewed is the authority's to say.
func TestCAX03_Grace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Equal(t, 201, w.call("CA-06", w.writer, "alpha", "").Code)
	d, old := w.enrol(pgtest.Alpha)
	for _, c := range []struct {
		grace, after time.Duration
		want         int
	}{
		{0, 0, 201}, {0, time.Second, 403}, {time.Hour, time.Hour, 201}, {time.Hour, time.Hour + time.Second, 403},
	} {
		s := w.listen(w.OtherAuthority(t, func(config *ca.Config) {
			config.RenewGrace, config.Now = c.grace, func() time.Time { return old.NotAfter.Add(c.after) }
		}))
		at := func(config *tls.Config) { config.InsecureSkipVerify = true } // the server's own is not what is tested
		require.Equal(t, c.want, w.caller(s, &d, at).renew("alpha", renewal(t, d.key)).Code, "%s after its end, grace %s", c.after, c.grace)
	}
}

// Neither a connection that is open nor a TLS session that is resumed outlives a
// revocation.
func TestCAX03_RevokedMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Equal(t, 201, w.call("CA-06", w.writer, "alpha", "").Code)
	s := w.listen(w.Authority)
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		d, old := w.enrol(pgtest.Alpha)
		c := w.caller(s, &d, func(c *tls.Config) { c.MaxVersion, c.ClientSessionCache = version, tls.NewLRUClientSessionCache(1) })
		require.Equal(t, 201, c.renew("alpha", renewal(t, d.key)).Code)
		require.False(t, c.resumed)
		c.transport.CloseIdleConnections()
		require.Equal(t, 201, c.renew("alpha", renewal(t, d.key)).Code)
		require.True(t, c.resumed, "TLS %s resumes, with the certificate", name)

		require.NoError(t, w.Authority.RevokeCertificate(t.Context(), pgtest.Alpha, ca.RevokeCertificate{Ref: old.Ref, Reason: revocation.KeyCompromise}))
		require.Equal(t, 403, c.renew("alpha", renewal(t, d.key)).Code, "on the open connection")
		c.transport.CloseIdleConnections()
		require.Equal(t, 403, c.renew("alpha", renewal(t, d.key)).Code, "on a resumed session")
		require.True(t, c.resumed)
	}
}

// A client may show any certificate at all: to the other operations it is nothing.
func TestStrangeClientCertificateChangesNothingElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Equal(t, 201, w.call("CA-06", w.writer, "alpha", "").Code)
	s := w.listen(w.Authority)
	good, _ := w.enrol(pgtest.Alpha)
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{}, key.Public(), newKey(t))
	require.NoError(t, err)
	for name, d := range map[string]*device{"none": nil, "one of ours": &good, "a stranger's, long expired": {key: key, cert: der}} {
		c := w.caller(s, d)
		for token, want := range map[string]int{w.reader: 200, w.client: 403, "": 401, "junk": 401} {
			status, _, _, err := c.do("GET", "/v2/tenants/alpha/signers", token, "")
			require.NoError(t, err)
			require.Equal(t, want, status, name)
		}
		status, _, _, err := c.do("POST", "/v1/tenants/alpha/certificates/admin", "", order(t))
		require.NoError(t, err)
		require.Equal(t, 401, status, "%s: renewing is all that a certificate is good for", name)
	}
}
