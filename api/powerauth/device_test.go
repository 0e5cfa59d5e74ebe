package powerauth_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/signature"
)

// post sends JSON as a device does: no credentials, perhaps one header.
func (w *world) post(path, header, value, body string) answer {
	w.tb.Helper()
	req, err := http.NewRequestWithContext(w.tb.Context(), "POST", w.url+path, strings.NewReader(body))
	require.NoError(w.tb, err)
	req.Header.Set("Content-Type", "application/json")
	if header != "" {
		req.Header.Set(header, value)
	}
	return w.send(req)
}

// requireRefusal wants an error as devices get it.
func requireRefusal(tb testing.TB, a answer, status int, code, message string) {
	tb.Helper()
	require.Equal(tb, status, a.status, "%s", a.body)
	require.JSONEq(tb, `{"status":"ERROR","responseObject":{"code":"`+code+`","message":"`+message+`"}}`, string(a.body))
}

// What a phone signs is refused in one way, whatever is wrong with it.
func TestDeviceEndpoints_Refusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active("jane")
	wrong, err := d.Sign("POST", "/something/else", []byte("{}"), signature.PossessionKnowledge)
	require.NoError(t, err)
	alone, err := d.Sign("POST", "/pa/activation/remove", []byte("{}"), signature.Knowledge)
	require.NoError(t, err)
	for path, bodies := range map[string]string{
		"/pa/v3/activation/remove": `{}`, "/pa/v3/vault/unlock": `{}`, "/pa/v3/signature/validate": `{}`,
		"/pa/v3/activation/rename": `{}`,
	} {
		requireRefusal(t, w.post(path, "", "", bodies), 401, "ERR_AUTHENTICATION", "POWER_AUTH_HTTP_HEADER_MISSING")
		requireRefusal(t, w.post(path, signature.HeaderName, "PowerAuth x", bodies), 401, "ERR_AUTHENTICATION", "POWER_AUTH_SIGNATURE_INVALID")
		unknown := strings.Replace(wrong, d.ActivationID(), uuid.NewString(), 1)
		if path == "/pa/v3/activation/rename" { // opened before the signature is looked at
			requireRefusal(t, w.post(path, signature.HeaderName, unknown, bodies), 400, "ERR_ENCRYPTION", "POWER_AUTH_ENCRYPTION_FAILED")
			continue
		}
		requireRefusal(t, w.post(path, signature.HeaderName, unknown, bodies), 401, "ERR_AUTHENTICATION", "POWER_AUTH_SIGNATURE_INVALID")
		requireRefusal(t, w.post(path, signature.HeaderName, alone, bodies), 401, "ERR_AUTHENTICATION", "POWER_AUTH_SIGNATURE_TYPE_INVALID")
	}
	requireRefusal(t, w.post("/pa/v3/activation/remove", signature.HeaderName, wrong, `{}`), 401, "ERR_AUTHENTICATION", "POWER_AUTH_SIGNATURE_INVALID")
}

// An app tries its signature with the method that it will use.
func TestDeviceEndpoints_ValidateWithEveryMethod(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active("jane")
	const path = "/pa/v3/signature/validate"
	send := func(method, query, signedAs string, signedBody []byte) answer {
		h, err := d.Sign(signedAs, "/pa/signature/validate", signedBody, signature.PossessionKnowledge)
		require.NoError(t, err)
		var body io.Reader
		if method != "GET" {
			body = strings.NewReader(`{"a":1}`)
		}
		req, err := http.NewRequestWithContext(t.Context(), method, w.url+path+query, body)
		require.NoError(t, err)
		req.Header.Set(signature.HeaderName, h)
		return w.send(req)
	}
	for _, method := range []string{"POST", "PUT", "DELETE"} {
		require.JSONEq(t, `{"status":"OK"}`, string(send(method, "", method, []byte(`{"a":1}`)).body), method)
	}
	query := signature.NormalizeGET(map[string]string{"b": "ž +&", "a": "1"})
	require.JSONEq(t, `{"status":"OK"}`, string(send("GET", "?b=%C5%BE%20%2B%26&a=1", "GET", query).body))
	require.JSONEq(t, `{"status":"OK"}`, string(send("GET", "", "GET", nil).body))
	for name, a := range map[string]answer{
		"another method": send("PUT", "", "POST", []byte(`{"a":1}`)),
		"another body":   send("PUT", "", "PUT", nil),
		"another query":  send("GET", "?a=2", "GET", query),
		"bad escape":     send("GET", "?a=%zz", "GET", query),
		"twice":          send("GET", "?a=1&a=1", "GET", signature.AppendNormalizedGET(nil, []signature.Param{{Key: "a", Value: "1"}, {Key: "a", Value: "1"}})),
	} {
		require.Equal(t, 401, a.status, name)
		require.Contains(t, string(a.body), "POWER_AUTH_SIGNATURE_INVALID", name)
	}
	require.Equal(t, 405, send("PATCH", "", "PATCH", nil).status)
}

// Nobody signs these.
func TestDeviceEndpoints_Plain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// The time is told to whoever asks, with any body or none.
	for _, body := range []string{``, `{}`, `{"requestObject":{}}`} {
		a := w.post("/pa/v3/status", "", "", body)
		require.Equal(t, 200, a.status)
		require.Regexp(t, `^\{"status":"OK","responseObject":\{"serverTime":[0-9]{13}\}\}$`, string(a.body))
	}

	// An unknown activation looks like one that exists.
	ask := func(id, challenge string) (out map[string]any) {
		a := w.post("/pa/v3/activation/status", "", "", `{"requestObject":{"activationId":"`+id+`"`+challenge+`,"newer":[1]}}`)
		require.Equal(t, 200, a.status, "%s", a.body)
		var m map[string]any
		a.into(t, &m)
		require.Equal(t, "OK", m["status"])
		out, _ = m["responseObject"].(map[string]any)
		return out
	}
	const challenge = `,"challenge":"AAECAwQFBgcICQoLDA0ODw=="`
	known, unknown := w.active("jane").ActivationID(), uuid.NewString()
	for _, id := range []string{known, unknown, "not-a-uuid"} {
		with, without := ask(id, challenge), ask(id, "")
		require.Equal(t, id, with["activationId"])
		require.Len(t, with["encryptedStatusBlob"], 44)
		require.Len(t, with["nonce"], 24)
		require.Len(t, without["encryptedStatusBlob"], 44)
		require.NotContains(t, without, "nonce")
	}
	for name, body := range map[string]string{
		"no id":           `{"requestObject":{}}`,
		"no object":       `{}`,
		"short challenge": `{"requestObject":{"activationId":"` + known + `","challenge":"AAE="}}`,
		"not JSON":        `{`,
	} {
		a := w.post("/pa/v3/activation/status", "", "", body)
		require.Equal(t, 400, a.status, name)
		require.Equal(t, "ERROR_REQUEST", a.code(t), name)
	}

	requireRefusal(t, w.post("/pa/v3/keystore/create", "", "", `{"requestObject":{"jwt":"a.b.c"}}`), 400, "ERR_ENCRYPTION", "POWER_AUTH_ENCRYPTION_FAILED")
	requireRefusal(t, w.post("/pa/v3/keystore/create", "", "", `{}`), 400, "ERR_ENCRYPTION", "POWER_AUTH_ENCRYPTION_FAILED")
}
