package powerauth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/signature"
)

func TestPAOP01_PAOP02_PAOP03_Lifecycle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.active("jane")
	require.Equal(t, 200, w.call("PA-X-06", w.admin, `{"templateName":"pay","operationType":"authorize_payment","dataTemplate":"A1*A${amount}${currency}",
		"signatureType":["POSSESSION_KNOWLEDGE"],"expiration":60}`).status)
	var op map[string]any
	w.call("PA-OP-01", w.shop, `{"userId":"jane","template":"pay","externalId":"e-1","parameters":{"amount":"63.99","currency":"EUR"}}`).into(t, &op)
	id, _ := op["operationId"].(string)
	require.Equal(t, "PENDING", op["status"])
	require.Equal(t, "authorize_payment", op["operationType"])
	require.Equal(t, "pay", op["template"])
	require.Equal(t, "e-1", op["externalId"])
	require.NotContains(t, op, "flag")
	require.Equal(t, map[string]any{"amount": "63.99", "currency": "EUR"}, op["parameters"])
	require.InDelta(t, 60_000, op["timestampExpires"].(float64)-op["timestampCreated"].(float64), 0)

	detail := map[string]any{}
	w.call("PA-OP-02", w.shop, "", id).into(t, &detail)
	require.Equal(t, op, detail)

	require.Equal(t, "ERROR_REGISTRATION_NOT_FOUND", w.call("PA-OP-01", w.shop, `{"userId":"nobody","template":"pay","parameters":{"amount":"1","currency":"EUR"}}`).code(t))
	require.Equal(t, "ERROR_REQUEST template", w.call("PA-OP-01", w.shop, `{"userId":"jane","template":"unknown"}`).code(t))
	require.Equal(t, "ERROR_REQUEST parameters.currency", w.call("PA-OP-01", w.shop, `{"userId":"jane","template":"pay","parameters":{"amount":"1"}}`).code(t))

	require.JSONEq(t, `{"status":"OK"}`, string(w.call("PA-OP-03", w.shop, "", id, "?statusReason=TOO_LATE").body))
	require.Equal(t, "ERROR_OPERATION_STATE_CHANGE", w.call("PA-OP-03", w.shop, "", id).code(t))
	w.call("PA-OP-02", w.shop, "", id).into(t, &detail)
	require.Equal(t, "CANCELED", detail["status"])
	require.Equal(t, map[string]any{"reason": "TOO_LATE"}, detail["additionalData"])
	require.Equal(t, "ERROR_OPERATION_NOT_FOUND", w.call("PA-OP-02", w.shop, "", uuid.NewString()).code(t))
	require.Equal(t, "ERROR_OPERATION_NOT_FOUND", w.call("PA-OP-02", w.shop, "", "not-a-uuid").code(t))
}

// The whole way of an offline approval: QR code, the phone's digits, the verdict.
func TestPAOP04_PAOP05_Offline(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active("jane")
	w.template("pay")
	op := w.operate("jane")
	var code struct {
		Data  string `json:"operationQrCodeData"`
		Nonce string `json:"nonce"`
	}
	a := w.call("PA-OP-04", w.shop, "", op.OperationID, "?registrationId="+d.ActivationID())
	a.into(t, &code)
	require.Equal(t, code.Nonce, a.header.Get("X-Operation-Nonce"))
	lines := strings.Split(code.Data, "\n")
	require.Len(t, lines, 7)
	require.Equal(t, []string{op.OperationID, "Pay", "Pay the rent?", "A1*A100CZK*NRent", "B", code.Nonce}, lines[:6])

	nonce, err := base64.StdEncoding.DecodeString(code.Nonce)
	require.NoError(t, err)
	otp, err := d.SignOffline(powerauth.Offline{OperationID: op.OperationID, Data: lines[3], Nonce: [16]byte(nonce)}, signature.PossessionKnowledge)
	require.NoError(t, err)
	verify := func(otp string) answer {
		return w.call("PA-OP-05", w.shop, `{"otp":"`+otp+`","nonce":"`+code.Nonce+`","registrationId":"`+d.ActivationID()+`"}`, op.OperationID)
	}
	require.Equal(t, "ERROR_OTP_INVALID", verify(otp+" ").code(t))
	var v map[string]any
	verify("0000-0000-0000-0000").into(t, &v)
	require.Equal(t, false, v["otpValid"])
	require.InDelta(t, 4, v["remainingAttempts"], 0)
	require.JSONEq(t, `{"otpValid":true,"userId":"jane","operationId":"`+op.OperationID+`","registrationId":"`+d.ActivationID()+`",
		"registrationStatus":"ACTIVE","signatureType":"POSSESSION_KNOWLEDGE","remainingAttempts":5,"flags":[],
		"application":{"name":"APP","roles":["ROLE"]}}`, string(verify(otp).body))
	require.Equal(t, "APPROVED", w.state(op.OperationID))
	require.Equal(t, "ERROR_OPERATION_STATE_CHANGE", verify(otp).code(t))
	require.Equal(t, "ERROR_OPERATION_STATE_CHANGE", w.call("PA-OP-04", w.shop, "", op.OperationID, "?registrationId="+d.ActivationID()).code(t))
	require.Equal(t, "ERROR_REQUEST registrationId", w.call("PA-OP-04", w.shop, "", op.OperationID).code(t))

	// For any device of the user: signed by the master key, and verified the same way.
	free := w.operate("jane")
	w.call("PA-X-20", w.shop, "", free.OperationID).into(t, &code)
	lines = strings.Split(code.Data, "\n")
	require.True(t, strings.HasPrefix(lines[6], "0"), "by the master key")
	der, err := base64.StdEncoding.DecodeString(lines[6][1:])
	require.NoError(t, err)
	master, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), w.Masters["alpha/APP"])
	require.NoError(t, err)
	digest := sha256.Sum256([]byte(strings.TrimSuffix(code.Data, lines[6][1:])))
	require.True(t, ecdsa.VerifyASN1(master, digest[:], der))
	nonce, err = base64.StdEncoding.DecodeString(code.Nonce)
	require.NoError(t, err)
	otp, err = d.SignOffline(powerauth.Offline{OperationID: free.OperationID, Data: lines[3], Nonce: [16]byte(nonce)}, signature.PossessionKnowledge)
	require.NoError(t, err)
	w.call("PA-OP-05", w.shop, `{"otp":"`+otp+`","nonce":"`+code.Nonce+`","registrationId":"`+d.ActivationID()+`"}`, free.OperationID).into(t, &v)
	require.Equal(t, true, v["otpValid"])
	require.Equal(t, "ERROR_OPERATION_STATE_CHANGE", w.call("PA-X-20", w.shop, "", free.OperationID).code(t))
	require.Equal(t, "ERROR_REQUEST appId", w.call("PA-X-20", w.shop, "", w.operate("jane").OperationID, "?appId=OTHER").code(t))

	// As a picture, with the nonce in the header.
	next := w.operate("jane")
	req, err := http.NewRequestWithContext(t.Context(), "GET", w.url+"/v2/operations/"+next.OperationID+"/offline/qr?registrationId="+d.ActivationID(), nil)
	require.NoError(t, err)
	req.SetBasicAuth(w.shop.user, w.shop.password)
	req.Header.Set("Accept", "image/png")
	a = w.send(req)
	require.Equal(t, "image/png", a.header.Get("Content-Type"))
	require.Len(t, a.header.Get("X-Operation-Nonce"), 24)
}

func TestPAINT01_Callback(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.active("jane")
	w.template("pay")
	id := w.operate("jane").OperationID
	require.JSONEq(t, `{"status":"OK"}`, string(w.call("PA-INT-01", w.internal, `{"operationId":"`+id+`"}`).body))
	for _, unknown := range []string{uuid.NewString(), "x", ""} {
		require.Equal(t, "ERROR_REQUEST operationId", w.call("PA-INT-01", w.internal, `{"operationId":"`+unknown+`"}`).code(t))
	}
}

func TestPAX06_PAX07_PAX08_PAX09_Templates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const body = `{"templateName":"login","operationType":"login","dataTemplate":"A2","signatureType":["POSSESSION"]`
	const whole = body + `,"maxFailureCount":5,"expiration":300}`
	require.JSONEq(t, whole, string(w.call("PA-X-06", w.admin, body+`}`).body), "with its defaults")
	require.Equal(t, "ERROR_ADMIN", w.call("PA-X-06", w.admin, body+`}`).code(t))
	require.JSONEq(t, `[`+whole+`]`, string(w.call("PA-X-07", w.admin, "").body))

	more := strings.Replace(whole, `300`, `301,"riskFlags":"F","texts":{"en":{"title":"Sign in","message":"Is it you?","labels":{"operation.amount":"You pay"}}},"proximityCheckEnabled":true`, 1)
	require.JSONEq(t, `{"status":"OK"}`, string(w.call("PA-X-08", w.admin, more, "login").body))
	require.JSONEq(t, `[`+more+`]`, string(w.call("PA-X-07", w.admin, "").body))
	require.Equal(t, "ERROR_REQUEST templateName", w.call("PA-X-08", w.admin, more, "other").code(t))
	for name, wrong := range map[string]string{
		"maxFailureCount":  strings.Replace(whole, `:5,`, `:0,`, 1),
		"expiration":       strings.Replace(whole, `:300`, `:9223372036854775807`, 1),
		"signatureType[0]": strings.Replace(whole, `"POSSESSION"`, `"possession"`, 1),
		"signatureType":    strings.Replace(whole, `["POSSESSION"]`, `[]`, 1),
		"dataTemplate":     strings.Replace(whole, `"A2"`, `"nonsense"`, 1),
		"texts.en.labels":  strings.Replace(whole, `:300`, `:300,"texts":{"en":{"title":"t","message":"m","labels":{"operation.amount":""}}}`, 1),
		"riskFlags":        strings.Replace(whole, `:300`, `:300,"riskFlags":"x"`, 1),
	} {
		require.Equal(t, "ERROR_REQUEST "+name, w.call("PA-X-08", w.admin, wrong, "login").code(t))
	}
	require.Equal(t, 200, w.call("PA-X-09", w.admin, "", "login").status)
	require.Equal(t, "ERROR_ADMIN", w.call("PA-X-09", w.admin, "", "login").code(t))
	require.Equal(t, "ERROR_ADMIN", w.call("PA-X-08", w.admin, whole, "login").code(t))
	require.JSONEq(t, `[]`, string(w.call("PA-X-07", w.admin, "").body))
}

// While an operation with a proximity check is open, its screen shows the OTP.
func TestPAOP02_Proximity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active("jane")
	require.Equal(t, 200, w.call("PA-X-06", w.admin, `{"templateName":"pay","operationType":"t","dataTemplate":"A2","signatureType":["POSSESSION"],"proximityCheckEnabled":true}`).status)
	id := w.operate("jane").OperationID
	var op map[string]any
	w.call("PA-OP-02", w.shop, "", id).into(t, &op)
	require.Regexp(t, `^[0-9]{8}$`, op["proximityOtp"])
	shown := powerauth.Operation{ID: id, Data: "A2", ProximityOTP: "x"}
	require.Error(t, d.Approve(t.Context(), shown, signature.Possession))
	require.Equal(t, "PENDING", w.state(id))
	shown.ProximityOTP = op["proximityOtp"].(string)
	require.NoError(t, d.Approve(t.Context(), shown, signature.Possession))
	require.Equal(t, "APPROVED", w.state(id))
	op = nil
	w.call("PA-OP-02", w.shop, "", id).into(t, &op)
	require.NotContains(t, op, "proximityOtp")
}
