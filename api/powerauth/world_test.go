package powerauth_test

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/internal/apitest"
	api "github.com/signet-hsm/signet/api/powerauth"
	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/signature"
)

func TestMain(m *testing.M) {
	if !apitest.Drive(driver) { // the other process of a benchmark
		pgtest.Main(m)
	}
}

// login is a username and its password; the zero value sends none.
type login struct{ user, password string }

// world is the API over an installation. APP exists in both tenants; OTHER only
// in alpha.
type world struct {
	*apitest.Installation
	tb       testing.TB
	url      string
	contract *apitest.Contract

	// Callers, by what they may do.
	shop, other, admin, internal      login // of alpha
	betaShop, betaAdmin, betaInternal login
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	in := apitest.NewInstallation(tb)
	w := &world{
		Installation: in, tb: tb, contract: apitest.LoadContract(tb),
		shop:     login{"shop", in.Login(tb, pgtest.Alpha, "shop", access.PAIntegration, "APP")},
		other:    login{"other", in.Login(tb, pgtest.Alpha, "other", access.PAIntegration, "OTHER")},
		admin:    login{"admin", in.Login(tb, pgtest.Alpha, "admin", access.PAAdmin, "APP")},
		internal: login{"internal", in.Login(tb, pgtest.Alpha, "internal", access.PAInternal, "APP")},
		betaShop: login{"beta-shop", in.Login(tb, pgtest.Beta, "beta-shop", access.PAIntegration, "APP")},

		betaAdmin:    login{"beta-admin", in.Login(tb, pgtest.Beta, "beta-admin", access.PAAdmin, "APP")},
		betaInternal: login{"beta-internal", in.Login(tb, pgtest.Beta, "beta-internal", access.PAInternal, "APP")},
	}
	served, err := api.New(api.Config{
		Registrations: in.Registrations, Basic: in.Basic, Applications: in.Applications, ServiceURL: "https://pa.example",
		Users: in.Basic, Audit: in.Audit, Operations: in.Operations,
		Tokens: in.Tokens, Push: in.Push, Callbacks: in.Callbacks,
	})
	require.NoError(tb, err)
	mux := http.NewServeMux()
	served.Mount(mux)
	srv := httptest.NewServer(mux)
	tb.Cleanup(srv.Close)
	w.url = srv.URL
	return w
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) into(tb testing.TB, v any) {
	tb.Helper()
	require.NoError(tb, json.Unmarshal(a.body, v), "%s", a.body)
}

func (a answer) code(tb testing.TB) string {
	tb.Helper()
	var e struct {
		Status         string
		ResponseObject struct {
			Code, Message string
			Violations    []struct{ FieldName string }
		}
	}
	require.NoError(tb, json.Unmarshal(a.body, &e, json.MatchCaseInsensitiveNames(true)), "%s", a.body)
	require.Equal(tb, "ERROR", e.Status)
	require.NotEmpty(tb, e.ResponseObject.Message)
	var fields strings.Builder
	for _, v := range e.ResponseObject.Violations {
		fields.WriteString(" " + v.FieldName)
	}
	return e.ResponseObject.Code + fields.String()
}

// operation finds the contract's operation by id.
func (w *world) operation(id string) apitest.Operation {
	w.tb.Helper()
	ops := w.contract.Operations(id)
	require.Len(w.tb, ops, 1, id)
	return ops[0]
}

// call sends one request of an operation, and holds the answer against the
// contract. args fill the path's wildcards in order; a last one that starts with
// '?' is the query.
func (w *world) call(id string, who login, body string, args ...string) answer {
	w.tb.Helper()
	op := w.operation(id)
	path := op.Path
	for _, a := range args {
		if strings.HasPrefix(a, "?") {
			path += a
			continue
		}
		head, tail, ok := strings.Cut(path, "{")
		require.True(w.tb, ok)
		_, tail, _ = strings.Cut(tail, "}")
		path = head + a + tail
	}
	req, err := http.NewRequestWithContext(w.tb.Context(), op.Method, w.url+path, strings.NewReader(body))
	require.NoError(w.tb, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if who.user != "" {
		req.SetBasicAuth(who.user, who.password)
	}
	a := w.send(req)
	w.contract.RequireResponse(op, req, a.status, a.header, a.body)
	return a
}

func (w *world) send(req *http.Request) answer {
	w.tb.Helper()
	resp, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(w.tb, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(w.tb, err)
	return answer{resp.StatusCode, resp.Header, body}
}

type created struct{ ActivationQrCodeData, RegistrationID string }

func (w *world) create(who login, user, appID, more string) created {
	w.tb.Helper()
	a := w.call("PA-REG-01", who, `{"userId":"`+user+`","appId":"`+appID+`"`+more+`}`)
	require.Equal(w.tb, 200, a.status, "%s", a.body)
	var c struct {
		ActivationQrCodeData string `json:"activationQrCodeData"`
		RegistrationID       string `json:"registrationId"`
	}
	a.into(w.tb, &c)
	return created(c)
}

// phone is a device of an application, "alpha/APP".
func (w *world) phone(key string) *powerauth.Device { return w.phoneOf(key, signature.V32) }

func (w *world) phoneOf(key string, version signature.Version) *powerauth.Device {
	w.tb.Helper()
	d, err := powerauth.New(w.phoneConfig(key, version))
	require.NoError(w.tb, err)
	return d
}

func (w *world) phoneConfig(key string, version signature.Version) powerauth.Config {
	v := w.Versions[key]
	return powerauth.Config{
		BaseURL: w.url, ApplicationKey: base64.StdEncoding.EncodeToString(v.Key[:]), ApplicationSecret: string(v.Secret.Reveal()),
		MasterPublicKey: base64.StdEncoding.EncodeToString(w.Masters[key]), Version: version,
	}
}

// active makes a phone with an ACTIVE registration of the user with shop.
func (w *world) active(user string) *powerauth.Device {
	w.tb.Helper()
	c := w.create(w.shop, user, "APP", "")
	d := w.phone("alpha/APP")
	require.NoError(w.tb, d.Activate(w.tb.Context(), c.ActivationQrCodeData, powerauth.ActivateOptions{Name: "phone", Platform: "ios", DeviceInfo: "iPhone10,6"}))
	require.Equal(w.tb, 200, w.call("PA-REG-02", w.shop, "", c.RegistrationID).status)
	return d
}

func text(tb testing.TB, v any) string {
	tb.Helper()
	var b bytes.Buffer
	require.NoError(tb, json.MarshalWrite(&b, v))
	return b.String()
}

// signed is a valid header for POST /pay with an empty body.
func (w *world) signed(d *powerauth.Device) string {
	w.tb.Helper()
	h, err := d.Sign("POST", "/pay", nil, signature.Possession)
	require.NoError(w.tb, err)
	return h
}

// may is alpha's login that may call an operation.
func (w *world) may(id string) login {
	for _, r := range api.Routes() {
		switch {
		case r.ID == id && r.Allow.Has(access.PAAdmin):
			return w.admin
		case r.ID == id && r.Allow.Has(access.PAInternal):
			return w.internal
		}
	}
	return w.shop
}

// template makes an operation template of alpha, without parameters.
func (w *world) template(name string) {
	w.tb.Helper()
	a := w.call("PA-X-06", w.admin, `{"templateName":"`+name+`","operationType":"authorize_payment","dataTemplate":"A1*A100CZK*NRent",
		"signatureType":["POSSESSION_KNOWLEDGE","POSSESSION_BIOMETRY"],"maxFailureCount":3,
		"texts":{"en":{"title":"Pay","message":"Pay the rent?"},"cs":{"title":"Platba","message":"Zaplatit?"}}}`)
	require.Equal(w.tb, 200, a.status, "%s", a.body)
}

// callback registers one of alpha's APP and returns its id.
func (w *world) callback(name string) string {
	w.tb.Helper()
	var made struct {
		ID string `json:"id"`
	}
	w.call("PA-X-05", w.shop, `{"name":"`+name+`","type":"OPERATION_STATUS_CHANGE","callbackUrl":"https://bank.example/cb"}`, "APP").into(w.tb, &made)
	return made.ID
}

// tokenHeader is a valid token header, good once.
func (w *world) tokenHeader(d *powerauth.Device) string {
	w.tb.Helper()
	held, err := d.CreateToken(w.tb.Context(), signature.Possession)
	require.NoError(w.tb, err)
	header, err := d.TokenHeader(held)
	require.NoError(w.tb, err)
	return header
}

type operated struct {
	OperationID string `json:"operationId"`
	Status      string `json:"status"`
}

// operate makes an operation of the template "pay".
func (w *world) operate(user string) (op operated) {
	w.tb.Helper()
	a := w.call("PA-OP-01", w.shop, `{"userId":"`+user+`","template":"pay"}`)
	require.Equal(w.tb, 200, a.status, "%s", a.body)
	a.into(w.tb, &op)
	return op
}

// state asks for the operation's.
func (w *world) state(id string) string {
	w.tb.Helper()
	var op operated
	w.call("PA-OP-02", w.shop, "", id).into(w.tb, &op)
	return op.Status
}
