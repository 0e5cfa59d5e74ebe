package powerauth_test

import (
	"bytes"
	"encoding/xml"
	"image/png"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// The matrix of PA-REG-05 over the API; PA-REG-06 is its REMOVE.
func TestPAREG05_PAREG06_Change(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active("jane")
	change := func(body string) answer { return w.call("PA-REG-05", w.shop, body, d.ActivationID()) }
	status := func() (s string) {
		var reg map[string]any
		w.call("PA-REG-03", w.shop, "", d.ActivationID()).into(t, &reg)
		s, _ = reg["registrationStatus"].(string)
		return s
	}
	require.Equal(t, "ERROR_REGISTRATION_CHANGE", change(`{"change":"UNBLOCK"}`).code(t))
	require.JSONEq(t, `{"status":"OK"}`, string(change(`{"change":"BLOCK","externalUserId":"operator1","blockReason":"LOST"}`).body))
	require.Equal(t, "BLOCKED", status())
	require.Equal(t, "ERROR_REGISTRATION_CHANGE", change(`{"change":"BLOCK"}`).code(t))
	require.Equal(t, 200, change(`{"change":"UNBLOCK"}`).status)
	require.Equal(t, "ACTIVE", status())
	require.Equal(t, "ERROR_REQUEST change", change(`{"change":"DESTROY"}`).code(t))
	require.Equal(t, "ERROR_REQUEST externalUserId", change(`{"change":"BLOCK","externalUserId":""}`).code(t))
	require.Equal(t, 200, w.call("PA-REG-06", w.shop, "", d.ActivationID()).status)
	require.Equal(t, "ERROR_REGISTRATION_NOT_FOUND", w.call("PA-REG-06", w.shop, "", d.ActivationID()).code(t))
	require.Equal(t, "ERROR_REGISTRATION_NOT_FOUND", change(`{"change":"REMOVE"}`).code(t))
}

func TestPAREG07_PAREG08_PAREG09_Flags(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.create(w.shop, "jane", "APP", `,"flags":["A"]`).RegistrationID
	have := func() any {
		var reg map[string]any
		w.call("PA-REG-03", w.shop, "", id).into(t, &reg)
		return reg["flags"]
	}
	for _, c := range []struct {
		op, body string
		want     []any
	}{
		{"PA-REG-07", `{"flags":["B","A","B"]}`, []any{"A", "B"}},
		{"PA-REG-09", `{"flags":["A","UNKNOWN"]}`, []any{"B"}},
		{"PA-REG-08", `{"flags":["C","D"]}`, []any{"C", "D"}},
		{"PA-REG-08", `{"flags":[]}`, []any{}},
	} {
		require.JSONEq(t, `{"status":"OK"}`, string(w.call(c.op, w.shop, c.body, id).body), c.op)
		require.Equal(t, c.want, have(), c.op+c.body)
	}
	for _, op := range []string{"PA-REG-07", "PA-REG-08", "PA-REG-09"} {
		require.Equal(t, "ERROR_REQUEST flags", w.call(op, w.shop, `{}`, id).code(t), "left out is not empty")
	}
}

// The activation code as a picture, for who asks; JSON for who does not, and for
// a registration without a code.
func TestPAREG03_Picture(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	get := func(id, accept string) answer {
		req, err := http.NewRequestWithContext(t.Context(), "GET", w.url+"/v2/registrations/"+id, nil)
		require.NoError(t, err)
		req.SetBasicAuth(w.shop.user, w.shop.password)
		req.Header.Set("Accept", accept)
		return w.send(req)
	}
	id := w.create(w.shop, "jane", "APP", "").RegistrationID
	a := get(id, "image/png")
	require.Equal(t, 200, a.status)
	require.Equal(t, "image/png", a.header.Get("Content-Type"))
	require.Equal(t, "Accept", a.header.Get("Vary"))
	img, err := png.Decode(bytes.NewReader(a.body))
	require.NoError(t, err)
	require.Equal(t, img.Bounds().Dx(), img.Bounds().Dy())

	a = get(id, "image/svg+xml, */*;q=0.1")
	require.Equal(t, "image/svg+xml", a.header.Get("Content-Type"))
	for dec := xml.NewDecoder(bytes.NewReader(a.body)); ; {
		if _, err := dec.Token(); err == io.EOF {
			break
		} else {
			require.NoError(t, err)
		}
	}
	a = get(id, "*/*")
	require.Equal(t, "application/json", a.header.Get("Content-Type"))
	require.Equal(t, "Accept", a.header.Get("Vary"), "a cache must not mix them up")

	active := w.active("joe").ActivationID()
	require.Equal(t, "application/json", get(active, "image/png").header.Get("Content-Type"))
	require.Equal(t, "application/json", get("unknown", "image/png").header.Get("Content-Type"))
}
