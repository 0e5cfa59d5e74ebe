package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The road of docs/powerauth.md, with the shell's phone.
func TestDeviceApprovesAPayment(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.serve(t)
	ctx := t.Context()
	phoneFile, envFile := s.path("phone.json"), s.path("phone.env")
	device := func(want int, args ...string) string {
		t.Helper()
		p := start(t, append([]string{"device", "--state", phoneFile}, args...)...)
		require.Equal(t, want, p.wait(t), "%s: %s", args, p.out)
		return p.out.String()
	}
	call := func(method, path string, body, res any) {
		t.Helper()
		status, err := n.call(ctx, method, path, body, res)
		require.NoError(t, err, path)
		require.Equal(t, 200, status, path)
	}
	admin := *n
	admin.site = &site{http: s.http, env: map[string]string{"SIGNET_PA_APP": s.env["SIGNET_PA_ADMIN"]}}
	status, err := admin.call(ctx, "POST", "/admin/templates", map[string]any{
		"templateName": "payment", "operationType": "authorize_payment", "dataTemplate": "A1*A${amount}${currency}",
		"signatureType": []string{"POSSESSION_KNOWLEDGE"}, "texts": map[string]any{"en": map[string]any{"title": "Payment", "message": "Pay ${amount}"}},
	}, nil)
	require.NoError(t, err)
	require.Equal(t, 200, status)

	var reg struct{ RegistrationID, ActivationQRCodeData string }
	call("POST", "/v2/registrations", map[string]any{"userId": "dora", "appId": "bank"}, &reg)
	raw, err := os.ReadFile(s.path("bank.env"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(envFile, append(raw, "SIGNET_REST="+n.rest+"\n"...), 0o600))
	require.Contains(t, device(0, "activate", "--env", envFile, reg.ActivationQRCodeData), reg.RegistrationID)
	device(2, "activate", "--env", envFile, reg.ActivationQRCodeData) // never over another phone
	st, err := os.Stat(phoneFile)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm())
	call("POST", "/v2/registrations/"+reg.RegistrationID+"/commit", nil, nil)
	require.Contains(t, device(0, "status"), "ACTIVE")

	operation := func() string {
		var op struct{ OperationID string }
		call("POST", "/v2/operations", map[string]any{
			"userId": "dora", "template": "payment", "parameters": map[string]any{"amount": "7.00", "currency": "EUR"},
		}, &op)
		return op.OperationID
	}
	state := func(id string) string {
		var op struct{ Status string }
		call("GET", "/v2/operations/"+id, nil, &op)
		return op.Status
	}
	online := operation()
	require.Contains(t, device(0, "operations"), online+"  authorize_payment  A1*A7.00EUR\n    Payment: Pay 7.00\n")
	device(0, "approve", online)
	require.Equal(t, "APPROVED", state(online))
	device(1, "approve", online)

	rejected := operation()
	device(0, "reject", rejected)
	require.Equal(t, "REJECTED", state(rejected))

	offline := operation()
	var qr struct{ OperationQRCodeData, Nonce string }
	call("GET", "/v2/operations/"+offline+"/offline/qr?registrationId="+reg.RegistrationID, nil, &qr)
	_, otp, found := strings.Cut(device(0, "otp", qr.OperationQRCodeData), "OTP ")
	require.True(t, found)
	var verdict struct{ OTPValid bool }
	call("POST", "/v2/operations/"+offline+"/offline/otp", map[string]any{
		"otp": strings.TrimSpace(otp), "nonce": qr.Nonce, "registrationId": reg.RegistrationID,
	}, &verdict)
	require.True(t, verdict.OTPValid)
	require.Equal(t, "APPROVED", state(offline))

	body := filepath.Join(s.dir, "body.json")
	require.NoError(t, os.WriteFile(body, []byte("{}"), 0o600))
	header := strings.TrimSpace(device(0, "sign", "--uri-id", "/payment", "--body", body))
	var res verifyResult
	call("POST", "/v2/signature/verify", verifyBody{"POST", "/payment", header, base64Text([]byte("{}"))}, &res)
	require.Equal(t, verifyResult{true, "ACTIVE", 5}, res)
	var token struct{ TokenValid bool }
	call("POST", "/v2/token/verify", map[string]any{"authHeader": strings.TrimSpace(device(0, "token"))}, &token)
	require.True(t, token.TokenValid)

	past := device(0, "history")
	require.Contains(t, past, online+"  APPROVED  authorize_payment  A1*A7.00EUR\n")
	require.Contains(t, past, rejected+"  REJECTED  ")

	for _, subject := range []string{"Your card", "Your PIN"} {
		call("POST", "/v2/inbox/messages", map[string]any{"userId": "dora", "subject": subject, "summary": "In short.", "body": "At length."}, nil)
	}
	inbox := device(0, "inbox", "list", "--size", "1")
	require.Regexp(t, `^2 unread\n[0-9a-f-]{36}  \S+  unread  Your PIN\n$`, inbox)
	id := strings.Fields(inbox)[2]
	require.Equal(t, "Your PIN (unread, text)\nIn short.\n\nAt length.\n", device(0, "inbox", "show", id))
	device(0, "inbox", "read", id)
	require.Contains(t, device(0, "inbox", "list"), "1 unread\n"+id)
	require.NotContains(t, device(0, "inbox", "list", "--unread"), id)
	device(0, "inbox", "read", "--all")
	require.Equal(t, "0 unread\n", device(0, "inbox", "list", "--unread"))
	device(2, "inbox", "read")
	device(2, "inbox", "read", id, "--all")
	device(1, "inbox", "show", "nothing")
	device(0, "push", "register", "fcm", "a-token")
	device(0, "push", "register", "hms", "another", "--by-token")
	device(1, "push", "register", "pigeon", "x")
	other := s.path("other.json")
	device(2, "activate", "--state", other, "--env", envFile, "--identity", "voucher=V-1", reg.ActivationQRCodeData)
	device(2, "activate", "--state", other, "--env", envFile)
	device(1, "activate", "--state", other, "--env", envFile, "--identity", "voucher=V-1") // nobody is configured who would know
	require.NoFileExists(t, other)

	device(0, "rename", "new name")
	device(2, "otp")
	device(2, "sign", "--uri-id", "/x", "--factors", "magic")
	device(0, "remove")
	require.NoFileExists(t, phoneFile)
	status, err = n.call(ctx, "GET", "/v2/registrations/"+reg.RegistrationID, nil, nil)
	require.NoError(t, err)
	require.Equal(t, 400, status) // gone, and told like one that never was
}

// Chapter 8 of docs/powerauth.md: a service of the bank says who activates.
func TestDeviceActivatesWithoutACode(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	asked := make(chan http.Header, 8)
	bank := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Tenant, AppID      string
			IdentityAttributes map[string]any
		}
		err := json.NewDecoder(r.Body).Decode(&q)
		asked <- r.Header
		if err != nil || q.Tenant != "demo" || q.AppID != "bank" || q.IdentityAttributes["voucher"] != "V-1" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"userId":"alice","flags":["VOUCHER"]}`)
	}))
	t.Cleanup(bank.Close)
	s.write(t, "identity-secret", "whsec_"+base64Text(make([]byte, 32))+"\n")
	raw, err := os.ReadFile(s.config)
	require.NoError(t, err)
	s.write(t, "signet.yaml", string(raw)+`powerauth:
  custom_activation:
    endpoints: [{tenant: demo, app: bank, url: "`+bank.URL+`/signet", secret: {file: "`+s.path("identity-secret")+`"}, commit: true}]
    allow: [127.0.0.0/8]
    allow_http: true
`)
	n := s.serve(t)
	raw, err = os.ReadFile(s.path("bank.env"))
	require.NoError(t, err)
	s.write(t, "phone.env", string(raw)+"SIGNET_REST="+n.rest+"\n")
	device := func(want int, args ...string) string {
		t.Helper()
		p := start(t, append([]string{"device", "--state", s.path("phone.json")}, args...)...)
		require.Equal(t, want, p.wait(t), "%s: %s", args, p.out)
		return p.out.String()
	}
	device(1, "activate", "--env", s.path("phone.env"), "--identity", "voucher=V-2")
	require.NotEmpty(t, (<-asked).Get("Webhook-Signature"))
	require.NoFileExists(t, s.path("phone.json"))
	made := device(0, "activate", "--env", s.path("phone.env"), "--identity", "voucher=V-1")
	require.Contains(t, device(0, "status"), "ACTIVE")
	type registration struct {
		RegistrationID, RegistrationStatus string
		Flags                              []string
	}
	var of struct{ Registrations []registration }
	status, err := n.call(t.Context(), "GET", "/v2/registrations?userId=alice&appId=bank", nil, &of)
	require.NoError(t, err)
	require.Equal(t, 200, status)
	require.Equal(t, []registration{{strings.Fields(made)[1], "ACTIVE", []string{"VOUCHER"}}}, of.Registrations)
}
