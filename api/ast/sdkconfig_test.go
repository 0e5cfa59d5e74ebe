package ast_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
)

func newKey(tb testing.TB) crypto.Signer {
	tb.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(tb, err)
	return k
}

func newCSR(tb testing.TB) []byte {
	tb.Helper()
	return csrOf(tb, newKey(tb))
}

// tlsCertificate makes a server's certificate that ends at a time.
func tlsCertificate(tb testing.TB, end time.Time) []byte {
	tb.Helper()
	key := newKey(tb)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(tb, err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "asts.bank.test"}, DNSNames: []string{"asts.bank.test"},
		NotBefore: end.Add(-time.Hour), NotAfter: end,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(tb, err)
	return der
}

// sdkBody is a request of CA-14 that may be changed.
func sdkBody(tb testing.TB, bundle []string, more map[string]any) string {
	tb.Helper()
	body := map[string]any{"tlsBundle": bundle}
	for k, v := range more {
		body[k] = v
	}
	b, err := json.Marshal(body, json.Deterministic(true))
	require.NoError(tb, err)
	return string(b)
}

// pem is base64 as it stands in a PEM file.
func pem(der []byte) string {
	s := base64.StdEncoding.EncodeToString(der)
	var lines []string
	for len(s) > 64 {
		lines, s = append(lines, s[:64]), s[64:]
	}
	return strings.Join(append(lines, s), "\n")
}

func TestCA14_SDKConfig(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	future := time.Now().Add(time.Hour)
	a, b, c := tlsCertificate(t, future), tlsCertificate(t, future), tlsCertificate(t, future.Add(1000*time.Hour)) // c is not valid yet
	services := []map[string]string{{"name": "astCa", "url": "https://asts.bank.test"}, {"name": "push", "url": "https://scp.bank.test/notifier"}}
	body := sdkBody(t, []string{pem(a), base64.RawURLEncoding.EncodeToString(b), base64.URLEncoding.EncodeToString(c)}, map[string]any{
		"astUrl": "https://asts.bank.test", "services": services, "tenant": "the vendor's client sends one",
	})

	none := w.call("CA-14", w.writer, "alpha", body)
	require.Equal(t, 409, none.Code)
	require.JSONEq(t, `{"code":"409","message":"the tenant has no active signer with an issued certificate","subsystem":500}`, none.Body.String())

	for range 2 { // the second time by another signer
		var s signer
		w.into(w.call("CA-06", w.writer, "alpha", ""), 201, &s)
		before := time.Now().Add(-time.Second)
		var answer struct {
			SDKConfig string `json:"sdkConfig"`
		}
		w.into(w.call("CA-14", w.writer, "alpha", body), 200, &answer)

		parsed, err := jose.ParseSignedCompact(answer.SDKConfig, []jose.SignatureAlgorithm{jose.ES256})
		require.NoError(t, err)
		header := parsed.Signatures[0].Protected
		require.Equal(t, s.ID, header.KeyID)
		require.Equal(t, "sdk-config+jwt", header.ExtraHeaders[jose.HeaderType])
		roots := x509.NewCertPool()
		root, err := x509.ParseCertificate(w.Root)
		require.NoError(t, err)
		roots.AddCert(root)
		chains, err := header.Certificates(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		require.NoError(t, err)
		require.Equal(t, w.Root, chains[0][len(chains[0])-1].Raw)
		payload, err := parsed.Verify(chains[0][0].PublicKey)
		require.NoError(t, err)

		var claims struct {
			Tenant    string              `json:"tenant"`
			IssuedAt  int64               `json:"iat"`
			TLSBundle [][]byte            `json:"tlsBundle"`
			ASTURL    string              `json:"astUrl"`
			Services  []map[string]string `json:"services"`
		}
		require.NoError(t, json.Unmarshal(payload, &claims, json.RejectUnknownMembers(true)))
		require.Equal(t, "alpha", claims.Tenant, "the path's, not the body's")
		require.Equal(t, [][]byte{a, b, c}, claims.TLSBundle)
		require.Equal(t, "https://asts.bank.test", claims.ASTURL)
		require.Equal(t, services, claims.Services)
		require.WithinRange(t, time.Unix(claims.IssuedAt, 0), before.Truncate(time.Second), time.Now())

		// What was changed does not verify.
		parts := strings.Split(answer.SDKConfig, ".")
		forged := strings.Replace(string(payload), "alpha", "beta1", 1)
		changed, err := jose.ParseSignedCompact(parts[0]+"."+base64.RawURLEncoding.EncodeToString([]byte(forged))+"."+parts[2], []jose.SignatureAlgorithm{jose.ES256})
		require.NoError(t, err)
		_, err = changed.Verify(chains[0][0].PublicKey)
		require.Error(t, err)
	}
	log, err := audit.New(audit.Config{DB: w.DB})
	require.NoError(t, err)
	events, err := log.List(t.Context(), pgtest.Alpha, audit.Filter{})
	require.NoError(t, err)
	signed := 0
	for _, e := range events {
		if e.Action == "sdkconfig.sign" {
			signed++
			require.Equal(t, "op-1", e.Actor)
			require.Len(t, e.Detail["tlsSha256"], 3)
		}
	}
	require.Equal(t, 2, signed)
}

func TestCA14_Limits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Equal(t, 201, w.call("CA-06", w.writer, "alpha", "").Code)
	future := time.Now().Add(time.Hour)
	good := base64.StdEncoding.EncodeToString(tlsCertificate(t, future))
	many := make([]string, 51)
	for i := range many {
		many[i] = base64.StdEncoding.EncodeToString(tlsCertificate(t, future))
	}
	service := func(n int) (list []map[string]string) {
		for i := range n {
			list = append(list, map[string]string{"name": fmt.Sprint("s", i), "url": "https://bank.test"})
		}
		return list
	}
	longURL := func(n int) string { return "https://" + strings.Repeat("a", n-8) }
	for name, body := range map[string]string{
		"50 certificates":   sdkBody(t, many[:50], nil),
		"50 services":       sdkBody(t, []string{good}, map[string]any{"services": service(50)}),
		"no services":       sdkBody(t, []string{good}, map[string]any{"services": []any{}}),
		"URL of 256":        sdkBody(t, []string{good}, map[string]any{"astUrl": longURL(256)}),
		"null tenant":       sdkBody(t, []string{good}, map[string]any{"tenant": nil}),
		"http":              sdkBody(t, []string{good}, map[string]any{"astUrl": "http://10.0.0.1:8080/a?b=c&d"}),
		"service named 255": sdkBody(t, []string{good}, map[string]any{"services": []any{map[string]any{"name": strings.Repeat("ä", 255), "url": "https://x.y"}}}),
	} {
		require.Equal(t, 200, w.call("CA-14", w.writer, "alpha", body).Code, name)
	}
	one := func(s string) string { return sdkBody(t, []string{good, s}, nil) }
	old := tlsCertificate(t, time.Now().Add(-time.Minute))
	for name, c := range map[string]struct{ body, message string }{
		"no body":            {"", "body must not be empty"},
		"no bundle":          {`{}`, "tlsBundle must have 1 to 50 certificates"},
		"empty bundle":       {sdkBody(t, []string{}, nil), "tlsBundle must have 1 to 50 certificates"},
		"null bundle":        {`{"tlsBundle":null}`, "tlsBundle must not be null"},
		"51 certificates":    {sdkBody(t, many, nil), "tlsBundle must have 1 to 50 certificates"},
		"expired":            {one(base64.StdEncoding.EncodeToString(old)), "tlsBundle[1] expired at " + parse(t, base64.StdEncoding.EncodeToString(old)).NotAfter.UTC().Format(time.RFC3339)},
		"twice":              {one(base64.RawURLEncoding.EncodeToString(parse(t, good).Raw)), "tlsBundle[1] is the same certificate as tlsBundle[0]"},
		"empty text":         {one(""), "tlsBundle[1] must be base64 or base64url"},
		"both alphabets":     {one("ab+_"), "tlsBundle[1] must be base64 or base64url"},
		"blank in base64url": {one("ab-_ abcd"), "tlsBundle[1] must be base64 or base64url"},
		"padding within":     {one("ab==cd=="), "tlsBundle[1] must be base64 or base64url"},
		"bits left over":     {one("ab="), "tlsBundle[1] must be base64 or base64url"},
		"blank at the end":   {one(good + "=\n"), "tlsBundle[1] must be base64 or base64url"},
		"no certificate":     {one("AAAA"), "tlsBundle[1] must be one X.509 certificate"},
		"bytes behind":       {one(base64.StdEncoding.EncodeToString(append(parse(t, good).Raw, 0))), "tlsBundle[1] must be one X.509 certificate"},
		"PEM":                {one("-----BEGIN CERTIFICATE-----\n" + good), "tlsBundle[1] must be base64 or base64url"},
		"huge":               {one(strings.Repeat("A", 40000)), "tlsBundle[1] must be a certificate of at most 16 KiB"},
		"a number":           {`{"tlsBundle":[1]}`, "tlsBundle[0] has the wrong type"},
		"URL of 257":         {sdkBody(t, []string{good}, map[string]any{"astUrl": longURL(257)}), "astUrl must be an http or https URL"},
		"empty URL":          {sdkBody(t, []string{good}, map[string]any{"astUrl": ""}), "astUrl size must be"},
		"ftp":                {sdkBody(t, []string{good}, map[string]any{"astUrl": "ftp://x"}), "astUrl must be an http or https URL"},
		"URL with a blank":   {sdkBody(t, []string{good}, map[string]any{"astUrl": "https://x y"}), "astUrl must be an http or https URL"},
		"URL ends in dot":    {sdkBody(t, []string{good}, map[string]any{"astUrl": "https://x."}), "astUrl must be an http or https URL"},
		"URL and newline":    {sdkBody(t, []string{good}, map[string]any{"astUrl": "https://x\n"}), "astUrl must be an http or https URL"},
		"51 services":        {sdkBody(t, []string{good}, map[string]any{"services": service(51)}), "services must have at most 50 entries"},
		"service, no name":   {sdkBody(t, []string{good}, map[string]any{"services": []any{map[string]any{"name": "", "url": "https://x"}}}), "services[0].name size must be"},
		"service, no URL":    {sdkBody(t, []string{good}, map[string]any{"services": []any{map[string]any{"name": "a"}}}), "services[0].url must be an http or https URL"},
		"service twice":      {sdkBody(t, []string{good}, map[string]any{"services": append(service(2), service(1)...)}), "services[2].name is the name of services[0] already"},
		"unknown field":      {sdkBody(t, []string{good}, map[string]any{"exp": 1}), "exp is not a field of this request"},
	} {
		rec := w.call("CA-14", w.writer, "alpha", c.body)
		require.Equal(t, 400, rec.Code, "%s: %s", name, rec.Body)
		require.Contains(t, rec.Body.String(), c.message, name)
	}
	all := w.call("CA-14", w.writer, "alpha", sdkBody(t, []string{"!", good, good}, map[string]any{"astUrl": "x", "services": []any{map[string]any{"name": "", "url": ""}}}))
	for _, field := range []string{"tlsBundle[0]", "tlsBundle[2]", "astUrl", "services[0].name", "services[0].url"} {
		require.Contains(t, all.Body.String(), field, "all violations at once")
	}
	too := w.call("CA-14", w.writer, "alpha", `{"tlsBundle":["`+strings.Repeat("A", 600<<10)+`"]}`)
	require.Equal(t, 413, too.Code)
}

// What the contract refuses is refused; what only we refuse is no certificate.
func TestCA14_VerdictsAgreeWithTheContract(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Equal(t, 201, w.call("CA-06", w.writer, "alpha", "").Code)
	good := base64.StdEncoding.EncodeToString(tlsCertificate(t, time.Now().Add(time.Hour)))
	op := w.contract.Operations("CA-14")[0]
	for _, field := range []string{"tlsBundle", "astUrl", "services"} {
		for _, value := range []string{
			`null`, `1`, `"x"`, `""`, `{}`, `[]`, `[""]`, `["!"]`, `[1]`, `["` + good + `"]`, `"https://x"`, `"https://x/"`, `"https://x?"`, `"HTTPS://x"`, `"https://` + strings.Repeat("x", 249) + `"`,
			`[{"name":"a","url":"https://x"}]`, `[{"name":"a"}]`, `[{"url":"https://x"}]`, `[{"name":"","url":"https://x"}]`, `[{"name":"a","url":"x"}]`, `[null]`,
		} {
			body := `{"tlsBundle":["` + good + `"],"` + field + `":` + value + `}`
			if field == "tlsBundle" {
				body = `{"tlsBundle":` + value + `}`
			}
			r := httptest.NewRequest("POST", "/v1/tenants/alpha/sdkconfig", strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			refused := w.contract.Request(op, r, []byte(body)) != nil
			require.Equal(t, refused, w.call("CA-14", w.writer, "alpha", body).Code == 400, body)
		}
	}
}
