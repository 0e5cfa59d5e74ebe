package ast_test

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"
)

type issued struct {
	CertRef     string    `json:"certRef"`
	Certificate string    `json:"certificate"`
	Chain       []string  `json:"chain"`
	NotBefore   time.Time `json:"notBefore"`
	NotAfter    time.Time `json:"notAfter"`
}

func order(tb testing.TB) string {
	tb.Helper()
	return fmt.Sprintf(`{"csr":%q,"user":"jane","client":%q}`, base64.StdEncoding.EncodeToString(newCSR(tb)), someClient)
}

func TestCAX01_IssueCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Equal(t, 404, w.call("CA-X-01", w.writer, "alpha", order(t)).Code, "no signer yet")
	require.Equal(t, 201, w.call("CA-06", w.writer, "alpha", "").Code)
	var made issued
	rec := w.call("CA-X-01", w.writer, "alpha", order(t))
	w.into(rec, 201, &made)
	require.Equal(t, "/v1/tenants/alpha/certificates/admin/"+made.CertRef, rec.Header().Get("Location"))
	leaf, roots, between := parse(t, made.Certificate), x509.NewCertPool(), x509.NewCertPool()
	require.Equal(t, someClient, leaf.Subject.CommonName)
	require.Equal(t, leaf.NotAfter.UTC(), made.NotAfter)
	require.Equal(t, w.Root, parse(t, made.Chain[len(made.Chain)-1]).Raw)
	roots.AddCert(parse(t, made.Chain[len(made.Chain)-1]))
	for _, c := range made.Chain[:len(made.Chain)-1] {
		between.AddCert(parse(t, c))
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	require.NoError(t, err)
	var info certificate
	w.into(w.call("CA-13", w.reader, "alpha", "", made.CertRef), 200, &info)
	require.Equal(t, "ISSUED AST_DEVICE jane", info.Status+" "+info.CertProfile+" "+info.User)

	w.into(w.call("CA-X-01", w.writer, "alpha", strings.Replace(order(t), "{", `{"profile":"SIGNATURE",`, 1)), 201, &made)
	w.into(w.call("CA-13", w.reader, "alpha", "", made.CertRef), 200, &info)
	require.Equal(t, "SIGNATURE", info.CertProfile)

	good := order(t)
	for name, body := range map[string]string{
		"no body": "", "no CSR": `{"user":"jane","client":"` + someClient + `"}`, "no base64": strings.Replace(good, `"csr":"`, `"csr":"!`, 1),
		"no PKCS#10": `{"csr":"AAAA","user":"jane","client":"` + someClient + `"}`, "empty user": strings.Replace(good, `"jane"`, `""`, 1),
		"long user": strings.Replace(good, `jane`, strings.Repeat("x", 256), 1), "control in user": strings.Replace(good, `jane`, `a\nb`, 1),
		"client": strings.Replace(good, someClient, "01f", 1), "profile of a CA": strings.Replace(good, "{", `{"profile":"SIGNER",`, 1),
		"unknown profile": strings.Replace(good, "{", `{"profile":"X",`, 1), "null profile": strings.Replace(good, "{", `{"profile":null,`, 1),
		"unknown field": strings.Replace(good, "{", `{"serial":"1",`, 1),
	} {
		require.Equal(t, 400, w.call("CA-X-01", w.writer, "alpha", body).Code, name)
		op := w.contract.Operations("CA-X-01")[0]
		r := httptest.NewRequest("POST", "/v1/tenants/alpha/certificates/admin", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		if name != "no PKCS#10" && name != "control in user" && name != "unknown field" { // what no schema can say
			require.Error(t, w.contract.Request(op, r, []byte(body)), name)
		}
	}
	require.Equal(t, "3", w.call("CA-12", w.reader, "alpha", "").Header().Get("X-Total-Count"), "nothing else was stored")
}

func TestCAX02_RevokeCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var s signer
	w.into(w.call("CA-06", w.writer, "alpha", ""), 201, &s)
	for _, body := range []string{"", `{}`, `{"reason":"KEY_COMPROMISE"}`} {
		made := w.device("jane", someClient)
		rec := w.call("CA-X-02", w.writer, "alpha", body, made.Ref)
		require.Equal(t, 204, rec.Code, "%s", rec.Body)
		var info certificate
		w.into(w.call("CA-13", w.reader, "alpha", "", made.Ref), 200, &info)
		require.Equal(t, "REVOKED", info.Status)
		require.Equal(t, 409, w.call("CA-X-02", w.writer, "alpha", body, made.Ref).Code, "a revocation is final")
	}
	require.Equal(t, "3", w.call("CA-12", w.reader, "alpha", "", filtered("status=REVOKED")).Header().Get("X-Total-Count"))

	made := w.device("jane", someClient)
	for _, body := range []string{`{"reason":"CA_COMPROMISE"}`, `{"reason":"CERTIFICATE_HOLD"}`, `{"reason":""}`, `{"reason":null}`, `{"reason":1}`, `{"why":"x"}`, `[]`} {
		require.Equal(t, 400, w.call("CA-X-02", w.writer, "alpha", body, made.Ref).Code, body)
	}
	require.Equal(t, 400, w.call("CA-X-02", w.writer, "alpha", "", "current").Code)
	require.Equal(t, 409, w.call("CA-X-02", w.writer, "alpha", "", s.ID).Code, "a signer is revoked by CA-11")
	require.Equal(t, 404, w.call("CA-X-02", w.writer, "alpha", "", ulid.Make().String()).Code)
	require.Equal(t, 404, w.call("CA-X-02", w.betaWriter, "beta", "", made.Ref).Code, "another tenant's")
	var info certificate
	w.into(w.call("CA-13", w.reader, "alpha", "", made.Ref), 200, &info)
	require.Equal(t, "ISSUED", info.Status, "nothing changed")
}
