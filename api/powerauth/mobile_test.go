package powerauth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/signature"
)

// apnsBody is a credential that PA-X-03 takes.
func apnsBody(tb testing.TB) string {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(tb, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(tb, err)
	return `{"topic":"com.bank.app","keyId":"KEY1234567","teamId":"TEAM123456","environment":"development","privateKeyBase64":"` +
		base64.StdEncoding.EncodeToString(der) + `"}`
}

// fcmBody is a credential that PA-X-04 takes.
func fcmBody(tb testing.TB) string {
	tb.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(tb, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(tb, err)
	account := `{"type":"service_account","client_email":"push@bank.example","private_key_id":"k1","private_key":` +
		text(tb, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))) + `}`
	return `{"projectId":"p","privateKeyBase64":"` + base64.StdEncoding.EncodeToString([]byte(account)) + `"}`
}

// phone is a device with a token, in the mobile token API.
type phone struct {
	*powerauth.Device
	w     *world
	token powerauth.Token
}

func (w *world) mobile(user string) phone {
	w.tb.Helper()
	d := w.active(user)
	token, err := d.CreateToken(w.tb.Context(), signature.Possession)
	require.NoError(w.tb, err)
	return phone{d, w, token}
}

func (p phone) ask(path, body string) answer {
	p.w.tb.Helper()
	header, err := p.TokenHeader(p.token)
	require.NoError(p.w.tb, err)
	return p.w.post(path, signature.TokenHeaderName, header, body)
}

func (p phone) sign(action, uriID, body string, f signature.Factor) answer {
	p.w.tb.Helper()
	header, err := p.Sign("POST", uriID, []byte(body), f)
	require.NoError(p.w.tb, err)
	return p.w.post("/api/auth/token/app/operation/"+action, signature.HeaderName, header, body)
}

const operations = "/api/auth/token/app/operation/"

// An online approval from end to end.
func TestMobile_Approve(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template("pay")
	jane, joe := w.mobile("jane"), w.mobile("joe")
	op := w.operate("jane")
	var list struct {
		Status           string           `json:"status"`
		CurrentTimestamp string           `json:"currentTimestamp"`
		Object           []map[string]any `json:"responseObject"`
	}
	jane.ask(operations+"list", `{}`).into(t, &list)
	require.Equal(t, "OK", list.Status)
	require.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+0000$`, list.CurrentTimestamp)
	require.Len(t, list.Object, 1)
	require.Equal(t, op.OperationID, list.Object[0]["id"])
	require.Equal(t, map[string]any{"type": "2FA", "variants": []any{"possession_knowledge", "possession_biometry"}}, list.Object[0]["allowedSignatureType"])
	require.Equal(t, map[string]any{"title": "Pay", "message": "Pay the rent?", "attributes": []any{
		map[string]any{"type": "AMOUNT", "id": "operation.amount", "label": "Amount", "amount": 100.0, "currency": "CZK"},
		map[string]any{"type": "NOTE", "id": "operation.note", "label": "Note", "note": "Rent"},
	}}, list.Object[0]["formData"])
	joe.ask(operations+"list", `{}`).into(t, &list)
	require.Empty(t, list.Object)
	require.Equal(t, 200, jane.ask(operations+"detail", `{"requestObject":{"id":"`+op.OperationID+`"}}`).status)
	require.Equal(t, "INVALID_OPERATION", joe.ask(operations+"detail", `{"requestObject":{"id":"`+op.OperationID+`"}}`).code(t))

	data, pk := "A1*A100CZK*NRent", signature.PossessionKnowledge
	body := `{"requestObject":{"id":"` + op.OperationID + `","data":"` + data + `","newer":null}}`
	// Wrong resource: the signature does not match, and the operation counts it.
	a := jane.sign("authorize", "/operation/other", body, pk)
	require.Equal(t, 401, a.status)
	require.Equal(t, "POWERAUTH_AUTH_FAIL", a.code(t))
	require.Equal(t, a.body, jane.sign("authorize", "/operation/other", `{"requestObject":{"id":"unknown"}}`, pk).body)
	// Another's phone can not fail it.
	require.Equal(t, "INVALID_OPERATION", joe.sign("authorize", "/operation/authorize", body, pk).code(t))
	require.Equal(t, "POWERAUTH_AUTH_FAIL", jane.sign("authorize", "/operation/authorize", body, signature.Knowledge).code(t))
	require.JSONEq(t, `{"status":"OK"}`, string(jane.sign("authorize", "/operation/authorize", body, pk).body))
	require.Equal(t, "APPROVED", w.state(op.OperationID))
	log, err := w.Audit.List(t.Context(), pgtest.Alpha, audit.Filter{Limit: audit.MaxLimit})
	require.NoError(t, err)
	from := map[string]int{}
	for _, e := range log {
		if e.Action == "operation.approve" {
			from[fmt.Sprint(e.Outcome, " ", e.Detail["address"])]++
		}
	}
	require.Equal(t, map[string]int{"ok 127.0.0.1": 1, "signature_does_not_match 127.0.0.1": 1}, from)
	require.Equal(t, "OPERATION_ALREADY_FINISHED", jane.sign("authorize", "/operation/authorize", body, pk).code(t))
	var detail map[string]any
	w.call("PA-OP-02", w.shop, "", op.OperationID).into(t, &detail)
	require.InDelta(t, 1, detail["failureCount"], 0)

	jane.sign("history", "/operation/history", `{}`, pk).into(t, &list)
	require.Equal(t, "APPROVED", list.Object[0]["status"])
}

func TestMobile_Reject(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template("pay")
	jane := w.mobile("jane")
	op := w.operate("jane")
	body := `{"requestObject":{"id":"` + op.OperationID + `","reason":"INCORRECT_DATA"}}`
	require.Equal(t, 200, jane.sign("cancel", "/operation/cancel", body, signature.Possession).status)
	require.Equal(t, "REJECTED", w.state(op.OperationID))
}

// A token header is good once, and what is no good header is one answer.
func TestPAAUTH02_MobileAndPush(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	jane := w.mobile("jane")
	header, err := jane.TokenHeader(jane.token)
	require.NoError(t, err)
	verify := func() (v map[string]any) {
		w.call("PA-AUTH-02", w.shop, `{"authHeader":`+text(t, header)+`}`).into(t, &v)
		return v
	}
	v := verify()
	require.Equal(t, true, v["tokenValid"])
	require.Equal(t, "jane", v["userId"])
	require.Equal(t, jane.ActivationID(), v["registrationId"])
	require.Equal(t, "POSSESSION", v["signatureType"])
	require.Equal(t, false, verify()["tokenValid"], "a replay")
	require.Equal(t, "ERROR_TOKEN_INVALID", w.call("PA-AUTH-02", w.shop, `{"authHeader":"PowerAuth x"}`).code(t))
	require.Equal(t, "ERROR_REQUEST authHeader", w.call("PA-AUTH-02", w.shop, `{}`).code(t))
	for _, bad := range []string{header, "PowerAuth x", ""} {
		a := w.post(operations+"list", signature.TokenHeaderName, bad, `{}`)
		require.Equal(t, 401, a.status)
		require.Equal(t, "POWERAUTH_AUTH_FAIL", a.code(t))
	}

	require.JSONEq(t, `{"status":"OK"}`, string(jane.ask("/api/push/device/register", `{"requestObject":{"platform":"fcm","token":"abc"}}`).body))
	require.Equal(t, "INVALID_REQUEST", jane.ask("/api/push/device/register", `{"requestObject":{"platform":"toaster","token":"abc"}}`).code(t))
	// Signed, for who has no token yet; and where the SDKs send it with one.
	body := `{"requestObject":{"platform":"apns","token":"` + strings.Repeat("ab", 32) + `"}}`
	push := func(uriID string, f signature.Factor) answer {
		h, err := jane.Sign("POST", uriID, []byte(body), f)
		require.NoError(t, err)
		return w.post("/api/push/device/register", signature.HeaderName, h, body)
	}
	require.JSONEq(t, `{"status":"OK"}`, string(push("/push/device/register", signature.Possession).body))
	require.Equal(t, "POWERAUTH_AUTH_FAIL", push("/push/device/other", signature.Possession).code(t))
	require.Equal(t, "POWERAUTH_AUTH_FAIL", push("/push/device/register", signature.Knowledge).code(t))
	require.JSONEq(t, `{"status":"OK"}`, string(jane.ask("/api/push/device/register/token", body).body))
	require.NoError(t, jane.RemoveToken(t.Context(), jane.token, signature.Possession))
	require.Equal(t, "POWERAUTH_AUTH_FAIL", jane.ask(operations+"list", `{}`).code(t))
}

func TestPAPUSH01_PAX05_PAX12(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.active("jane")
	require.JSONEq(t, `{"status":"OK"}`, string(w.call("PA-PUSH-01", w.shop, `{"userId":"jane","title":"Hello","message":"Text","extras":{"a":1}}`).body))
	require.Equal(t, 200, w.call("PA-PUSH-01", w.shop, `{"userId":"jane","silent":true}`).status)
	a := w.call("PA-PUSH-01", w.shop, `{"userId":"jane","message":"Text"}`)
	require.Equal(t, "ERROR_PUSH_MESSAGE", a.code(t))
	require.Contains(t, string(a.body), "Title must not be blank")
	require.Equal(t, "ERROR_REQUEST title", w.call("PA-PUSH-01", w.shop, `{"userId":"jane","title":"","message":"Text"}`).code(t))

	require.Equal(t, 200, w.call("PA-PUSH-01", w.shop, `{"userId":"jane","silent":true,"extras":{"a":null,"b":[null]}}`).status, "free data")
	require.JSONEq(t, `{"status":"OK"}`, string(w.call("PA-X-12", w.admin, `{"hmsAppId":"104","clientSecret":"s3cret"}`, "APP").body))
	require.Equal(t, "ERROR_REQUEST hmsAppId clientSecret", w.call("PA-X-12", w.admin, `{"hmsAppId":"a/b","clientSecret":""}`, "APP").code(t))

	made := map[string]any{}
	const hook = `{"name":"ops","type":"OPERATION_STATUS_CHANGE","callbackUrl":"https://bank.example/cb"}`
	w.call("PA-X-05", w.shop, hook, "APP").into(t, &made)
	require.Regexp(t, `^whsec_`, made["secret"])
	require.Equal(t, "ERROR_ADMIN", w.call("PA-X-05", w.shop, hook, "APP").code(t))
	require.Equal(t, "ERROR_REQUEST callbackUrl", w.call("PA-X-05", w.shop, `{"name":"x","type":"OPERATION_STATUS_CHANGE","callbackUrl":"https://127.0.0.1/"}`, "APP").code(t))
}
