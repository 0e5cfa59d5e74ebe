package powerauth_test

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/internal/apitest"
	api "github.com/signet-hsm/signet/api/powerauth"
	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/signature"
)

func TestPAREG_Lifecycle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.create(w.shop, "jane", "APP", `,"flags":["GOLD"],"otpValidation":"NONE"`)

	// PA-REG-03 in CREATED: the code, signed anew.
	var reg map[string]any
	w.call("PA-REG-03", w.shop, "", c.RegistrationID).into(t, &reg)
	require.Equal(t, "CREATED", reg["registrationStatus"])
	require.Equal(t, []any{"GOLD"}, reg["flags"])
	code, _, _ := strings.Cut(c.ActivationQrCodeData, "#")
	require.True(t, strings.HasPrefix(reg["activationQrCodeData"].(string), code+"#"))
	require.NotContains(t, reg, "name")

	// PA-REG-04: no name yet, so it is the empty string (DISC-23).
	var list struct {
		Registrations []map[string]any `json:"registrations"`
	}
	w.call("PA-REG-04", w.shop, "", "?userId=jane").into(t, &list)
	require.Len(t, list.Registrations, 1)
	require.Equal(t, "", list.Registrations[0]["name"])
	require.Equal(t, "CREATED", list.Registrations[0]["registrationStatus"])

	// PA-REG-02 before the key exchange (DISC-19), and a second one in progress.
	require.Equal(t, "ERROR_REGISTRATION_CHANGE", w.call("PA-REG-02", w.shop, "", c.RegistrationID).code(t))
	again := w.call("PA-REG-01", w.shop, `{"userId":"jane","appId":"APP"}`)
	require.Equal(t, 400, again.status)
	require.Equal(t, "ERROR_REGISTRATION_NOT_ALLOWED", again.code(t))

	d := w.phone("alpha/APP")
	require.NoError(t, d.Activate(t.Context(), c.ActivationQrCodeData, powerauth.ActivateOptions{Name: "Jane's phone", Platform: "android", DeviceInfo: "Pixel"}))
	require.Equal(t, c.RegistrationID, d.ActivationID())
	w.call("PA-REG-03", w.shop, "", c.RegistrationID).into(t, &reg)
	require.Equal(t, "PENDING_COMMIT", reg["registrationStatus"])
	require.Equal(t, d.Fingerprint(), reg["activationFingerprint"])

	require.JSONEq(t, `{"status":"OK"}`, string(w.call("PA-REG-02", w.shop, `{"externalUserId":"operator1"}`, c.RegistrationID).body))
	require.Equal(t, "ERROR_REGISTRATION_CHANGE", w.call("PA-REG-02", w.shop, "", c.RegistrationID).code(t), "a second commit")
	reg = nil
	w.call("PA-REG-03", w.shop, "", c.RegistrationID).into(t, &reg)
	require.Equal(t, "ACTIVE", reg["registrationStatus"])
	require.Equal(t, "Jane's phone", reg["name"])
	require.Equal(t, "android", reg["platform"])
	require.NotContains(t, reg, "activationFingerprint")
}

func TestPAREG02_OTPOnCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.create(w.shop, "jane", "APP", `,"otp":"7-8-9","otpValidation":"ON_COMMIT"`)
	require.NoError(t, w.phone("alpha/APP").Activate(t.Context(), c.ActivationQrCodeData, powerauth.ActivateOptions{Platform: "ios"}))
	wrong := w.call("PA-REG-02", w.shop, `{"otp":"4-5-6"}`, c.RegistrationID)
	require.Equal(t, "ERROR_REQUEST", wrong.code(t))
	require.NotContains(t, string(wrong.body), "4-5-6")
	require.Equal(t, "ERROR_REQUEST", w.call("PA-REG-02", w.shop, "", c.RegistrationID).code(t))
	require.Equal(t, 200, w.call("PA-REG-02", w.shop, `{"otp":"7-8-9"}`, c.RegistrationID).status)
}

func TestPAAUTH01_Verify(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active("jane")
	body := []byte(`{"amount":"100"}`)
	verify := func(who login, header string, more string) answer {
		return w.call("PA-AUTH-01", who, `{"method":"POST","uriId":"/pay","authHeader":`+text(t, header)+more+`}`)
	}
	raw := `,"requestBody":"` + base64.StdEncoding.EncodeToString(body) + `","queryParams":null`
	sign := func() string {
		h, err := d.Sign("POST", "/pay", body, signature.Possession|signature.Knowledge)
		require.NoError(t, err)
		return h
	}
	header := sign()
	require.JSONEq(t, `{"signatureValid":true,"userId":"jane","registrationId":"`+d.ActivationID()+`","registrationStatus":"ACTIVE",
		"signatureType":"POSSESSION_KNOWLEDGE","remainingAttempts":5,"flags":[],"application":{"name":"APP","roles":["ROLE"]}}`,
		string(verify(w.shop, header, raw).body))

	// The same again is refused, as a verdict.
	var v struct {
		SignatureValid     bool   `json:"signatureValid"`
		RegistrationStatus string `json:"registrationStatus"`
		RemainingAttempts  int    `json:"remainingAttempts"`
		UserID             string `json:"userId"`
	}
	lenient := func(a answer) {
		t.Helper()
		require.Equal(t, 200, a.status, "%s", a.body)
		a.into(t, &v)
	}
	lenient(verify(w.shop, header, raw))
	require.False(t, v.SignatureValid)
	require.Equal(t, 4, v.RemainingAttempts)

	// Of another application and another tenant: unknown, and nothing is counted.
	unknown := verify(w.other, sign(), raw)
	lenient(unknown)
	require.False(t, v.SignatureValid)
	require.Equal(t, "REMOVED", v.RegistrationStatus)
	require.Empty(t, v.UserID)
	require.Equal(t, unknown.body, verify(w.betaShop, sign(), raw).body)

	get, err := d.SignGET("/pay", map[string]string{"b": "ž &=", "a": ""}, signature.Possession)
	require.NoError(t, err)
	lenient(w.call("PA-AUTH-01", w.shop, `{"method":"GET","uriId":"/pay","authHeader":`+text(t, get)+`,"queryParams":{"a":"","b":"ž &="},"requestBody":null}`))
	require.True(t, v.SignatureValid)

	// Five wrong ones in a row block.
	for range 5 {
		lenient(verify(w.shop, sign(), `,"requestBody":"e30="`))
		require.False(t, v.SignatureValid)
	}
	require.Equal(t, "BLOCKED", v.RegistrationStatus)
	require.Zero(t, v.RemainingAttempts)
	lenient(verify(w.shop, sign(), raw))
	require.False(t, v.SignatureValid)
	var reg map[string]any
	w.call("PA-REG-03", w.shop, "", d.ActivationID()).into(t, &reg)
	require.Equal(t, "BLOCKED", reg["registrationStatus"])
}

func TestPAAUTH01_MalformedHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active("jane")
	header, err := d.Sign("POST", "/pay", nil, signature.Possession)
	require.NoError(t, err)
	for name, bad := range map[string]string{
		"not PowerAuth":  "Basic abc",
		"empty scheme":   "PowerAuth ",
		"wrong version":  strings.Replace(header, `pa_version="3.2"`, `pa_version="9.9"`, 1),
		"wrong type":     strings.Replace(header, `"possession"`, `"possession_toto"`, 1),
		"wrong id":       strings.Replace(header, d.ActivationID(), "not-a-uuid", 1),
		"short nonce":    strings.Replace(header, `pa_nonce="`, `pa_nonce="AA==", x="`, 1),
		"line break":     header + "\n",
		"no signature":   strings.Replace(header, "pa_signature=", "pa_other=", 1),
		"no application": strings.Replace(header, "pa_application_key=", "pa_other=", 1),
	} {
		a := w.call("PA-AUTH-01", w.shop, `{"method":"POST","uriId":"/pay","authHeader":`+text(t, bad)+`}`)
		if name == "line break" { // surrounding space is trimmed, as in the reference
			require.Equal(t, 200, a.status)
			continue
		}
		require.Equal(t, 400, a.status, name)
		require.Equal(t, "ERROR_SIGNATURE_INVALID", a.code(t), name)
		require.NotContains(t, string(a.body), d.ActivationID(), name)
	}
}

// The protocol's own endpoint speaks the reference's error bodies.
func TestDeviceEndpoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	post := func(header, body string) answer {
		req, err := http.NewRequestWithContext(t.Context(), "POST", w.url+"/pa/v3/activation/create", strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		if header != "" {
			req.Header.Set("X-PowerAuth-Encryption", header)
		}
		return w.send(req)
	}
	key := w.Versions["alpha/APP"].Key
	header := `PowerAuth version="3.2", application_key="` + base64.StdEncoding.EncodeToString(key[:]) + `"`
	for name, c := range map[string]struct{ header, body, code string }{
		"no header":    {"", `{}`, "ERR_ENCRYPTION"},
		"bad header":   {"PowerAuth x", `{}`, "ERR_ENCRYPTION"},
		"no fields":    {header, `{}`, "ERR_ENCRYPTION"},
		"nulls":        {header, `{"mac":null}`, "ERR_ENCRYPTION"},
		"not JSON":     {header, `{`, "ERROR_REQUEST"},
		"unknown name": {header, `{"mac":"","surplus":1}`, "ERROR_REQUEST"},
		"no key":       {`PowerAuth version="3.2", application_key="` + base64.StdEncoding.EncodeToString(make([]byte, 16)) + `"`, `{}`, "ERR_ENCRYPTION"},
		"protocol 3.3": {strings.Replace(header, "3.2", "3.3", 1), `{}`, "ERR_ENCRYPTION"},
	} {
		a := post(c.header, c.body)
		require.Equal(t, 400, a.status, "%s: %s", name, a.body)
		require.Equal(t, c.code, a.code(t), name)
	}
	c := w.create(w.shop, "jane", "APP", "")
	var refused *powerauth.ServerError
	err := w.phone("alpha/OTHER").Activate(t.Context(), strings.Split(c.ActivationQrCodeData, "#")[0], powerauth.ActivateOptions{})
	require.ErrorAs(t, err, &refused)
	require.Equal(t, powerauth.ServerError{Status: 400, Code: "ERR_ACTIVATION", Message: "POWER_AUTH_ACTIVATION_INVALID"}, *refused)

	req, err := http.NewRequestWithContext(t.Context(), "GET", w.url+"/pa/v3/other", nil)
	require.NoError(t, err)
	a := w.send(req)
	require.Equal(t, 404, a.status)
	require.JSONEq(t, `{"status":"ERROR","responseObject":{"code":"ERROR_NOT_FOUND","message":"NOT_FOUND"}}`, string(a.body))
}

func TestUnknownURLsSpeakTheDialect(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, path := range []string{"/", "/v2", "/v2/registrations/", "/v3/registrations", "/v2/registrations/x/y/z", "/favicon.ico"} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", w.url+path, nil)
		require.NoError(t, err)
		a := w.send(req)
		require.Equal(t, 404, a.status, path)
		require.JSONEq(t, `{"status":"ERROR","responseObject":{"code":"ERROR_NOT_FOUND","message":"Not found"}}`, string(a.body), path)
	}
	req, err := http.NewRequestWithContext(t.Context(), "PATCH", w.url+"/v2/registrations", nil)
	require.NoError(t, err)
	a := w.send(req)
	require.Equal(t, 405, a.status)
	require.Equal(t, "GET, HEAD, POST", a.header.Get("Allow"))
}

// Without a database there is no verdict, and nobody is told that a registration
// is gone.
func TestOutageIsNoVerdict(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active("jane")
	w.DB.Close()
	a := w.call("PA-AUTH-01", w.shop, `{"method":"POST","uriId":"/pay","authHeader":`+text(t, w.signed(d))+`}`)
	require.Equal(t, 500, a.status)
	require.Equal(t, "ERROR_INTERNAL_API", a.code(t))
	require.NotEmpty(t, a.header.Get("Retry-After"))
	require.Equal(t, "ERROR_INTERNAL_API", w.call("PA-REG-03", w.shop, "", d.ActivationID()).code(t))
	require.Equal(t, "ERROR_INTERNAL_API", w.call("PA-REG-03", login{"never-seen", "x"}, "", d.ActivationID()).code(t))
}

func TestBasePath(t *testing.T) {
	t.Parallel()
	in := apitest.NewInstallation(t)
	password := in.Login(t, pgtest.Alpha, "shop", access.PAIntegration, "APP")
	c := api.Config{Registrations: in.Registrations, Basic: in.Basic, BasePath: "/powerauth-cloud"}
	served, err := api.New(c)
	require.NoError(t, err)
	mux := http.NewServeMux()
	served.Mount(mux)
	for path, want := range map[string]int{
		"/powerauth-cloud/v2/registrations?userId=x": 200,
		"/powerauth-cloud/v2/other":                  404,
		"/v2/registrations?userId=x":                 404,
	} {
		r := httptest.NewRequest("GET", path, nil)
		r.SetBasicAuth("shop", password)
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, r)
		require.Equal(t, want, rec.Code, path)
	}
	for _, bad := range []string{"powerauth-cloud", "/powerauth-cloud/", "/"} {
		c.BasePath = bad
		_, err := api.New(c)
		require.Error(t, err, bad)
	}
	_, err = api.New(api.Config{})
	require.Error(t, err)
}
