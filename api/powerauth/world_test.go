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
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/internal/apitest"
	api "github.com/signet-hsm/signet/api/powerauth"
	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
	"github.com/signet-hsm/signet/tenant"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// login is a username and its password; the zero value sends none.
type login struct{ user, password string }

// world is the API over real domains, a real database and a real token. APP
// exists in both tenants; OTHER only in alpha.
type world struct {
	tb       testing.TB
	url      string
	db       *pgxpool.Pool
	contract *apitest.Contract
	versions map[string]app.Version // "alpha/APP"
	masters  map[string][]byte

	// Callers, by what they may do.
	shop, other, admin, internal, betaShop login
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	ctx := tb.Context()
	w := &world{
		tb: tb, db: pgtest.New(tb), contract: apitest.LoadContract(tb),
		versions: map[string]app.Version{}, masters: map[string][]byte{},
	}
	token := softhsmtest.New(tb)
	ref := hsm.Ref{Tenant: tenant.System.String(), Role: hsm.RoleKEK, Name: "kek"}
	_, err := token.Generate(ctx, ref, hsm.AES256, [16]byte{1})
	require.NoError(tb, err)
	kek, err := token.AEAD(ctx, ref)
	require.NoError(tb, err)
	keyring := envelope.New(w.db, kek, envelope.Options{})
	log, err := audit.New(audit.Config{DB: w.db})
	require.NoError(tb, err)
	apps, err := app.New(app.Config{DB: w.db, HSM: token, Envelope: keyring, Audit: log})
	require.NoError(tb, err)
	for _, a := range []struct {
		tenant tenant.ID
		id     string
	}{{pgtest.Alpha, "APP"}, {pgtest.Alpha, "OTHER"}, {pgtest.Beta, "APP"}} {
		created, version, err := apps.Create(ctx, a.tenant, app.CreateParams{ID: a.id, Roles: []string{"ROLE"}})
		require.NoError(tb, err)
		key := a.tenant.String() + "/" + a.id
		w.versions[key], w.masters[key] = version, created.MasterPublic
	}
	registrar, err := registration.New(registration.Config{DB: w.db, Apps: apps, Envelope: keyring, Audit: log})
	require.NoError(tb, err)
	basic, err := access.NewBasic(access.BasicConfig{DB: w.db, Sealer: keyring})
	require.NoError(tb, err)
	for _, c := range []struct {
		into   *login
		tenant tenant.ID
		name   string
		role   access.Privilege
		apps   []string
	}{
		{&w.shop, pgtest.Alpha, "shop", access.PAIntegration, []string{"APP"}},
		{&w.other, pgtest.Alpha, "other", access.PAIntegration, []string{"OTHER"}},
		{&w.admin, pgtest.Alpha, "admin", access.PAAdmin, []string{"APP"}},
		{&w.internal, pgtest.Alpha, "internal", access.PAInternal, []string{"APP"}},
		{&w.betaShop, pgtest.Beta, "beta-shop", access.PAIntegration, []string{"APP"}},
	} {
		secret, err := basic.Create(ctx, c.tenant, access.NewCredential{Username: c.name, Role: c.role, Apps: c.apps})
		require.NoError(tb, err)
		*c.into = login{c.name, string(secret.Reveal())}
	}
	served, err := api.New(api.Config{Registrations: registrar, Basic: basic})
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
func (w *world) phone(key string) *powerauth.Device {
	w.tb.Helper()
	v := w.versions[key]
	d, err := powerauth.New(powerauth.Config{
		BaseURL: w.url, ApplicationKey: base64.StdEncoding.EncodeToString(v.Key[:]), ApplicationSecret: string(v.Secret.Reveal()),
		MasterPublicKey: base64.StdEncoding.EncodeToString(w.masters[key]),
	})
	require.NoError(w.tb, err)
	return d
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
