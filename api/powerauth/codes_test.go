package powerauth_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	api "github.com/signet-hsm/signet/api/powerauth"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// never are codes that the contract documents and no request leads to, and why.
var never = map[string]string{
	"ERROR_REGISTRATION": "every failure of a registration has a code of its own",
	"ERROR_UNAUTHORIZED": "HTTP_401 as in the samples (DISC-17)",

	"PA-REG-04 ERROR_REGISTRATION_NOT_FOUND": "a user without registrations has an empty list",
	"PA-OP-02 ERROR_REGISTRATION_NOT_FOUND":  "an operation of others is ERROR_OPERATION_NOT_FOUND",
	"PA-OP-03 ERROR_REGISTRATION_NOT_FOUND":  "an operation of others is ERROR_OPERATION_NOT_FOUND",
}

// Every code of every operation is told by a real request, or stands in never.
func TestErrors_EveryCode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active("jane")
	id := d.ActivationID()
	w.template("pay")
	open, over := w.operate("jane").OperationID, w.operate("jane").OperationID
	require.Equal(t, 200, w.call("PA-OP-03", w.shop, "", over).status)
	waiting := w.create(w.shop, "joe", "APP", "").RegistrationID
	w.callback("taken")
	unknown := uuid.NewString()
	const surplus, qr = `{"surplus":1}`, "ERROR_OPERATION_STATE_CHANGE"
	otp := func(otp, registration string) string {
		return `{"otp":"` + otp + `","nonce":"AAAAAAAAAAAAAAAAAAAAAA==","registrationId":"` + registration + `"}`
	}
	template := `{"templateName":"pay","operationType":"t","dataTemplate":"A2","signatureType":["POSSESSION"]}`
	hook := `{"name":"taken","type":"OPERATION_STATUS_CHANGE","callbackUrl":"https://bank.example/cb"}`
	cases := []struct {
		id, code, body string
		args           []string
	}{
		{"PA-REG-01", "ERROR_REGISTRATION_NOT_ALLOWED", `{"userId":"joe","appId":"APP"}`, nil},
		{"PA-REG-01", "ERROR_REGISTRATION_NOT_FOUND", `{"userId":"joe","appId":"NOWHERE"}`, nil},
		{"PA-REG-01", "ERROR_REQUEST", surplus, nil},
		{"PA-REG-02", "ERROR_REGISTRATION_NOT_FOUND", "", []string{unknown}},
		{"PA-REG-02", "ERROR_REGISTRATION_CHANGE", "", []string{waiting}},
		{"PA-REG-02", "ERROR_REQUEST", surplus, []string{waiting}},
		{"PA-REG-03", "ERROR_REGISTRATION_NOT_FOUND", "", []string{unknown}},
		{"PA-REG-03", "ERROR_REQUEST", "", []string{"a%00"}},
		{"PA-REG-04", "ERROR_REQUEST", "", nil},
		{"PA-REG-05", "ERROR_REGISTRATION_CHANGE", `{"change":"UNBLOCK"}`, []string{id}},
		{"PA-REG-05", "ERROR_REGISTRATION_NOT_FOUND", `{"change":"BLOCK"}`, []string{unknown}},
		{"PA-REG-05", "ERROR_REQUEST", `{"change":"BREAK"}`, []string{id}},
		{"PA-REG-06", "ERROR_REGISTRATION_NOT_FOUND", "", []string{unknown}},
		{"PA-REG-07", "ERROR_REGISTRATION_NOT_FOUND", `{"flags":["F"]}`, []string{unknown}},
		{"PA-REG-07", "ERROR_REQUEST", `{}`, []string{id}},
		{"PA-REG-08", "ERROR_REGISTRATION_NOT_FOUND", `{"flags":["F"]}`, []string{unknown}},
		{"PA-REG-08", "ERROR_REQUEST", `{}`, []string{id}},
		{"PA-REG-09", "ERROR_REGISTRATION_NOT_FOUND", `{"flags":["F"]}`, []string{unknown}},
		{"PA-REG-09", "ERROR_REQUEST", `{}`, []string{id}},
		{"PA-OP-01", "ERROR_REGISTRATION_NOT_FOUND", `{"userId":"nobody","template":"pay"}`, nil},
		{"PA-OP-01", "ERROR_REQUEST", `{"userId":"jane","template":"unknown"}`, nil},
		{"PA-OP-02", "ERROR_OPERATION_NOT_FOUND", "", []string{unknown}},
		{"PA-OP-03", "ERROR_OPERATION_NOT_FOUND", "", []string{unknown}},
		{"PA-OP-03", "ERROR_OPERATION_STATE_CHANGE", "", []string{over}},
		{"PA-OP-04", "ERROR_OPERATION_NOT_FOUND", "", []string{unknown, "?registrationId=" + id}},
		{"PA-OP-04", qr, "", []string{over, "?registrationId=" + id}},
		{"PA-OP-04", "ERROR_REGISTRATION_NOT_FOUND", "", []string{open, "?registrationId=" + unknown}},
		{"PA-OP-05", "ERROR_OTP_INVALID", otp("1234", id), []string{open}},
		{"PA-OP-05", "ERROR_OPERATION_NOT_FOUND", otp("1234567812345678", id), []string{unknown}},
		{"PA-OP-05", qr, otp("1234567812345678", id), []string{over}},
		{"PA-OP-05", "ERROR_REGISTRATION_NOT_FOUND", otp("1234567812345678", unknown), []string{open}},
		{"PA-AUTH-01", "ERROR_SIGNATURE_INVALID", `{"method":"POST","uriId":"/pay","authHeader":"PowerAuth x"}`, nil},
		{"PA-AUTH-01", "ERROR_REQUEST", `{"method":"HEAD","uriId":"/pay","authHeader":"PowerAuth x"}`, nil},
		{"PA-AUTH-02", "ERROR_TOKEN_INVALID", `{"authHeader":"PowerAuth x"}`, nil},
		{"PA-AUTH-02", "ERROR_REQUEST", `{}`, nil},
		{"PA-PUSH-01", "ERROR_PUSH_MESSAGE", `{"userId":"jane"}`, nil},
		{"PA-PUSH-01", "ERROR_REQUEST", `{"userId":"","silent":true}`, nil},
		{"PA-AUD-01", "ERROR_AUDIT", "", []string{"?userId=nobody"}},
		{"PA-AUD-01", "ERROR_REQUEST", "", nil},
		{"PA-ADM-01", "ERROR_ADMIN", `{"id":"APP"}`, nil},
		{"PA-ADM-01", "ERROR_REQUEST", `{"id":""}`, nil},
		{"PA-ADM-03", "ERROR_ADMIN", "", []string{"?id=UNKNOWN"}},
		{"PA-ADM-03", "ERROR_REQUEST", "", nil},
		{"PA-ADM-04", "ERROR_REQUEST", `{"id":"UNKNOWN","roles":[]}`, nil},
		{"PA-ADM-05", "ERROR_REQUEST", `{"id":"APP"}`, nil},
		{"PA-INT-01", "ERROR_REQUEST", `{"operationId":"` + unknown + `"}`, nil},
		{"PA-X-01", "ERROR_ADMIN", `{"username":"shop"}`, nil},
		{"PA-X-01", "ERROR_REQUEST", `{"username":""}`, nil},
		{"PA-X-02", "ERROR_ADMIN", "", []string{"nobody", "APP"}},
		{"PA-X-02", "ERROR_REQUEST", "", []string{"a%00", "APP"}},
		{"PA-X-03", "ERROR_ADMIN", apnsBody(t), []string{"UNKNOWN"}},
		{"PA-X-03", "ERROR_REQUEST", `{"topic":"","keyId":"k","teamId":"t","privateKeyBase64":"AAAA"}`, []string{"APP"}},
		{"PA-X-04", "ERROR_ADMIN", fcmBody(t), []string{"UNKNOWN"}},
		{"PA-X-04", "ERROR_REQUEST", `{"projectId":"p","privateKeyBase64":"AAAA"}`, []string{"APP"}},
		{"PA-X-05", "ERROR_ADMIN", hook, []string{"APP"}},
		{"PA-X-05", "ERROR_REQUEST", surplus, []string{"APP"}},
		{"PA-X-06", "ERROR_ADMIN", template, nil},
		{"PA-X-06", "ERROR_REQUEST", surplus, nil},
		{"PA-X-08", "ERROR_ADMIN", strings.Replace(template, "pay", "unknown", 1), []string{"unknown"}},
		{"PA-X-08", "ERROR_REQUEST", template, []string{"other"}},
		{"PA-X-09", "ERROR_ADMIN", "", []string{"unknown"}},
		{"PA-X-09", "ERROR_REQUEST", "", []string{"a%00"}},
		{"PA-X-10", "ERROR_ADMIN", `{"userId":"jane","appId":"OTHER","subject":"S","summary":"S"}`, nil},
		{"PA-X-10", "ERROR_REQUEST", `{}`, nil},
		{"PA-X-11", "ERROR_ADMIN", "", []string{"?userId=jane&appId=OTHER"}},
		{"PA-X-11", "ERROR_REQUEST", "", nil},
		{"PA-X-12", "ERROR_ADMIN", `{"hmsAppId":"1","clientSecret":"s"}`, []string{"UNKNOWN"}},
		{"PA-X-12", "ERROR_REQUEST", `{}`, []string{"APP"}},
		{"PA-X-13", "ERROR_ADMIN", "", []string{"OTHER"}},
		{"PA-X-14", "ERROR_ADMIN", "", []string{"APP", unknown}},
		{"PA-X-15", "ERROR_ADMIN", "", []string{"APP", unknown}},
		{"PA-X-16", "ERROR_ADMIN", "", []string{"UNKNOWN"}},
		{"PA-X-17", "ERROR_ADMIN", `{"version":"1"}`, []string{"UNKNOWN"}},
		{"PA-X-17", "ERROR_REQUEST", `{}`, []string{"APP"}},
		{"PA-X-18", "ERROR_ADMIN", `{"supported":true}`, []string{"APP", "unknown"}},
		{"PA-X-18", "ERROR_REQUEST", `{}`, []string{"APP", "default"}},
		{"PA-X-19", "ERROR_ADMIN", "", []string{"UNKNOWN"}},
		{"PA-X-20", "ERROR_OPERATION_NOT_FOUND", "", []string{unknown}},
		{"PA-X-20", qr, "", []string{over}},
		{"PA-X-20", "ERROR_REQUEST", "", []string{open, "?appId=OTHER"}},
	}
	told := map[string]bool{}
	before := w.snapshot()
	for _, c := range cases {
		a := w.call(c.id, w.may(c.id), c.body, c.args...)
		require.Equal(t, 400, a.status, "%s %s: %s", c.id, c.code, a.body)
		got, fields, _ := strings.Cut(a.code(t), " ")
		require.Equal(t, c.code, got, "%s: %s", c.id, a.body)
		if body := strings.HasPrefix(c.body, "{"); body && got == "ERROR_REQUEST" {
			require.NotEmpty(t, fields, "%s: a structural fault names its fields: %s", c.id, a.body)
		}
		told[c.id+" "+got], told[got] = true, true
	}
	require.Equal(t, before, w.snapshot(), "what is refused leaves nothing behind")

	// What every operation may answer.
	requireCode := func(a answer, status int, code string) {
		require.Equal(t, status, a.status, "%s", a.body)
		require.Equal(t, code, a.code(t))
		told[code] = true
	}
	for _, op := range w.contract.Operations("PA-") {
		requireCode(w.call(op.ID, login{}, "", slices.Repeat([]string{"x"}, strings.Count(op.Path, "{"))...), 401, "HTTP_401")
	}
	requireCode(w.get("/v2/nothing"), 404, "ERROR_NOT_FOUND")
	requireCode(w.broken(errors.New("nobody has declared this")).get("/v2/registrations?userId=jane"), 500, "ERROR_GENERIC")
	w.DB.Close()
	requireCode(w.get("/v2/registrations?userId=jane"), 500, "ERROR_INTERNAL_API")

	for _, code := range w.contract.ErrorCodes("ErrorResponse") {
		require.True(t, told[code] != (never[code] != ""), "%s: either a request leads to it, or never says why not", code)
	}
	for _, op := range w.contract.Operations("PA-") {
		for _, code := range w.contract.Codes(op) {
			name := op.ID + " " + code
			require.True(t, told[name] != (never[name] != ""), "%s: either a request leads to it, or never says why not", name)
		}
	}
}

// Bodies and headers that do not parse are refused before anything is counted or
// written: not a row of the database changes.
func TestNothingIsWrittenForWhatDoesNotParse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active("jane")
	w.template("pay")
	open := w.operate("jane").OperationID
	args := map[string][]string{
		"PA-REG-02": {d.ActivationID()}, "PA-REG-05": {d.ActivationID()}, "PA-REG-07": {d.ActivationID()}, "PA-REG-08": {d.ActivationID()},
		"PA-REG-09": {d.ActivationID()}, "PA-OP-05": {open}, "PA-X-03": {"APP"}, "PA-X-04": {"APP"}, "PA-X-05": {"APP"}, "PA-X-08": {"pay"},
		"PA-X-12": {"APP"}, "PA-X-17": {"APP"}, "PA-X-18": {"APP", "default"},
	}
	signed, err := d.Sign("POST", "/pay", nil, signature.PossessionKnowledge)
	require.NoError(t, err)
	bodies := []string{
		`{`, `[]`, `null`, `"x"`, `{"surplus":1}`, `{"userId":7}`, `{"userId":"a","userId":"b"}`, "{\"userId\":\"\xff\"}", `{"userId":"a"}x`,
		`{"a":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`,
	}
	before := w.snapshot()
	tried := 0
	for _, op := range w.contract.Operations("PA-") {
		if op.Method == http.MethodGet || len(args[op.ID]) != strings.Count(op.Path, "{") {
			continue
		}
		for _, body := range bodies {
			a := w.call(op.ID, w.may(op.ID), body, args[op.ID]...)
			require.Equal(t, 400, a.status, "%s %s: %s", op.ID, body, a.body)
			require.True(t, strings.HasPrefix(a.code(t), "ERROR_REQUEST "), "%s %s: %s", op.ID, body, a.body)
			tried++
		}
	}
	require.Greater(t, tried, 200)
	for _, header := range []string{"PowerAuth", signed[:len(signed)-10], strings.Replace(signed, `pa_version="3.2"`, `pa_version="9.9"`, 1), strings.Replace(signed, "pa_nonce", "pa_once", 1)} {
		a := w.call("PA-AUTH-01", w.shop, `{"method":"POST","uriId":"/pay","authHeader":`+text(t, header)+`}`)
		require.Equal(t, "ERROR_SIGNATURE_INVALID", a.code(t), header)
		require.Equal(t, 401, w.post("/pa/v3/signature/validate", signature.HeaderName, header, `{}`).status, header)
		require.Equal(t, "ERROR_TOKEN_INVALID", w.call("PA-AUTH-02", w.shop, `{"authHeader":`+text(t, header)+`}`).code(t), header)
		require.Equal(t, 401, w.post("/api/inbox/count", signature.TokenHeaderName, header, `{}`).status, header)
	}
	for _, body := range bodies[:4] {
		require.Equal(t, 400, w.post("/pa/v3/activation/create", "", "", body).status, body)
		require.Equal(t, 400, w.post("/pa/v3/keystore/create", "", "", body).status, body)
	}
	require.Equal(t, before, w.snapshot())
}

// snapshot is a digest of every row of the database but the data keys: a table's
// is made when its first value is sealed, whatever becomes of the request.
func (w *world) snapshot() map[string]string {
	w.tb.Helper()
	ctx := w.tb.Context()
	rows, err := w.DB.Query(ctx, `select table_name::text from information_schema.tables where table_schema = current_schema() and table_type = 'BASE TABLE'`)
	require.NoError(w.tb, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(w.tb, err)
	require.Greater(w.tb, len(tables), 10)
	out := map[string]string{}
	for _, table := range tables {
		if table == "dek" {
			continue
		}
		var digest string
		err := w.DB.QueryRow(ctx, fmt.Sprintf(`select count(*) || ' ' || coalesce(md5(string_agg(r::text, ' ' order by r::text)), '') from %s r`, pgx.Identifier{table}.Sanitize())).Scan(&digest)
		require.NoError(w.tb, err)
		out[table] = digest
	}
	return out
}

// get asks as shop.
func (w *world) get(path string) answer {
	w.tb.Helper()
	req, err := http.NewRequestWithContext(w.tb.Context(), http.MethodGet, w.url+path, nil)
	require.NoError(w.tb, err)
	req.SetBasicAuth(w.shop.user, w.shop.password)
	return w.send(req)
}

// broken is the same API over registrations that fail in a way nobody foresaw.
func (w *world) broken(err error) *world {
	w.tb.Helper()
	served, e := api.New(api.Config{Registrations: failing{w.Registrations, err}, Basic: w.Basic})
	require.NoError(w.tb, e)
	mux := http.NewServeMux()
	served.Mount(mux)
	srv := httptest.NewServer(mux)
	w.tb.Cleanup(srv.Close)
	twin := *w
	twin.url = srv.URL
	return &twin
}

type failing struct {
	api.Registrations
	err error
}

func (f failing) List(context.Context, tenant.ID, []string, string) ([]registration.Registration, error) {
	return nil, f.err
}
