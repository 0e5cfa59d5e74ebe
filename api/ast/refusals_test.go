package ast_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
)

// weakRequest asks to certify an RSA key whose modulus has the factor 3. Nobody
// signs with such a key: it is refused before its signature is looked at.
func weakRequest(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	require.NoError(t, err)
	weak := new(big.Int).Sub(key.N, new(big.Int).Mod(key.N, big.NewInt(3)))
	if weak.Bit(0) == 0 {
		weak.Sub(weak, big.NewInt(3))
	}
	der = bytes.Replace(der, key.N.Bytes(), weak.Bytes(), 1)
	return fmt.Sprintf(`{"csr":%q,"user":"jane","client":%q}`, base64.StdEncoding.EncodeToString(der), someClient)
}

// state is all that a request could have changed, as text.
func (w *world) state() string {
	w.tb.Helper()
	var all string
	require.NoError(w.tb, w.DB.QueryRow(w.tb.Context(), `select jsonb_build_array(
		(select jsonb_agg(s order by s.tenant_id, s.id) from ca_signer s),
		(select jsonb_agg(c order by c.serial) from ca_certificate c),
		(select jsonb_agg(r order by r.serial) from ca_revocation r),
		(select count(*) from audit_event))::text`).Scan(&all))
	strange, err := w.Authority.Unrecorded(w.tb.Context())
	require.NoError(w.tb, err)
	require.Empty(w.tb, strange, "a key that no record explains")
	return all
}

// Bad input of each kind: the documented body, the right status, and nothing has
// changed, neither a row nor a key nor the audit trail.
func TestRefusalsChangeNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var revoked, used, foreign signer
	w.into(w.call("CA-06", w.writer, "alpha", ""), 201, &revoked)
	require.Equal(t, 204, w.call("CA-11", w.writer, "alpha", "", "current").Code)
	w.into(w.call("CA-06", w.betaWriter, "beta", ""), 201, &foreign)
	w.into(w.call("CA-06", w.writer, "alpha", ""), 201, &used)
	device, ended := w.device("jane", someClient), w.device("jane", someClient)
	require.NoError(t, w.Authority.RevokeCertificate(t.Context(), pgtest.Alpha, ca.RevokeCertificate{Ref: ended.Ref}))

	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	require.NoError(t, err)
	order := func(key any, template x509.CertificateRequest) string {
		der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
		require.NoError(t, err)
		return fmt.Sprintf(`{"csr":%q,"user":"jane","client":%q}`, base64.StdEncoding.EncodeToString(der), someClient)
	}
	greedy := func(oid []int, value ...byte) string {
		return order(newKey(t), x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: oid, Value: value}}})
	}
	long := strings.Repeat("x", 65)
	for _, c := range []struct {
		name, id, body, tail string
		status, subsystem    int
		message              string
	}{
		{"wrong state: renewal of a revoked signer", "CA-10", "", revoked.ID, 409, 500, ca.ErrSignerRevoked.Message},
		{"wrong state: revoked twice", "CA-11", "", revoked.ID, 409, 500, ca.ErrSignerRevoked.Message},
		{"wrong state: deletion of a revoked signer", "CA-08", "", revoked.ID, 409, 500, ca.ErrSignerRevoked.Message},
		{"wrong state: chain of a revoked signer", "CA-09", "", revoked.ID, 409, 500, ca.ErrNotIssued.Message},
		{"wrong state: certificate revoked twice", "CA-X-02", "", ended.Ref, 409, 500, ca.ErrCertificateState.Message},
		{"wrong kind: a signer is no device", "CA-X-02", "", used.ID, 409, 500, ca.ErrSignerCertificate.Message},
		{"unknown signer", "CA-07", "", ulid.Make().String(), 404, 500, ca.ErrNoSigner.Message},
		{"unknown signer to renew", "CA-10", "", ulid.Make().String(), 404, 500, ca.ErrNoSigner.Message},
		{"unknown signer to revoke", "CA-11", "", ulid.Make().String(), 404, 500, ca.ErrNoSigner.Message},
		{"unknown certificate", "CA-13", "", ulid.Make().String(), 404, 500, ca.ErrNoCertificate.Message},
		{"foreign signer", "CA-07", "", foreign.ID, 404, 500, ca.ErrNoSigner.Message},
		{"foreign signer to renew", "CA-10", "", foreign.ID, 404, 500, ca.ErrNoSigner.Message},
		{"foreign signer to revoke", "CA-11", "", foreign.ID, 404, 500, ca.ErrNoSigner.Message},
		{"foreign signer to delete", "CA-08", "", foreign.ID, 404, 500, ca.ErrNoSigner.Message},
		{"delete after issue", "CA-08", "", used.ID, 409, 500, ca.ErrSignerUsed.Message},
		{"delete after issue, v1", "CA-04", "", "", 409, 500, ca.ErrSignerUsed.Message},
		{"weak key: a small factor", "CA-X-01", weakRequest(t), "", 400, 500, "the public key is weak"},
		{"weak key: a curve that is not allowed", "CA-X-01", order(p521, x509.CertificateRequest{}), "", 400, 500, "the kind or size of the public key is not allowed"},
		{"more than the profile: a host", "CA-X-01", order(newKey(t), x509.CertificateRequest{DNSNames: []string{"bank.example"}}), "", 400, 500, "the certificate request asks for an extension that its profile does not give"},
		{"more than the profile: a CA", "CA-X-01", greedy([]int{2, 5, 29, 19}, 0x30, 3, 1, 1, 0xff), "", 400, 500, "the certificate request asks for an extension that its profile does not give"},
		{"more than the profile: signing certificates", "CA-X-01", greedy([]int{2, 5, 29, 15}, 3, 2, 2, 4), "", 400, 500, "the certificate request asks for an extension that its profile does not give"},
		{"over-long name", "CA-06", `{"name":"` + long + `"}`, "", 400, 500, "the request is not valid: name must be 1..64 printable characters without blanks around them"},
		{"over-long name, v1", "CA-02", `{"name":"` + long + `"}`, "", 400, 500, "the request is not valid: name must be 1..64 printable characters without blanks around them"},
		{"over-long user", "CA-X-01", strings.Replace(order(newKey(t), x509.CertificateRequest{}), "jane", strings.Repeat("x", 256), 1), "", 400, 500, "the request is not valid: user must be 1..255 printable characters"},
		{"malformed filter", "CA-05", "", filtered("name="), 400, 500, "ParsingError: filter column 6: expected a value"},
		{"malformed filter of certificates", "CA-12", "", filtered("status=ISSUED and"), 400, 500, "ParsingError: filter column 18: expected a property name or ("},
		{"page 0", "CA-05", "", "?page=0", 400, 599, "the request is not valid: page must be an integer between 1 and 2147483647"},
		{"page size 4", "CA-05", "", "?page_size=4", 400, 599, "the request is not valid: page_size must be an integer between 5 and 100"},
		{"page size 101", "CA-12", "", "?page_size=101", 400, 599, "the request is not valid: page_size must be an integer between 5 and 100"},
	} {
		before, token := w.state(), w.writer
		switch c.id {
		case "CA-05", "CA-07", "CA-09", "CA-12", "CA-13":
			token = w.reader
		}
		var tail []string
		if c.tail != "" {
			tail = []string{c.tail}
		}
		rec := w.call(c.id, token, "alpha", c.body, tail...)
		require.Equal(t, c.status, rec.Code, "%s: %s", c.name, rec.Body)
		want, err := json.Marshal(map[string]any{"message": c.message, "code": fmt.Sprint(c.status), "subsystem": c.subsystem})
		require.NoError(t, err)
		require.JSONEq(t, string(want), rec.Body.String(), c.name)
		require.Equal(t, before, w.state(), c.name)
	}
	// And what was refused to others goes on.
	require.Equal(t, 204, w.call("CA-X-02", w.writer, "alpha", "", device.Ref).Code)
}
