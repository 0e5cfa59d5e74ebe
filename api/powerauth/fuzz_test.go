package powerauth_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/internal/rest"
	api "github.com/signet-hsm/signet/api/powerauth"
	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/signature"
)

// anyRequest is what a fuzzer chooses. "@reg", "@op" and so on in any text stand
// for objects that exist, whose ids differ from process to process.
type anyRequest struct {
	route              uint8
	path, query        string // path: what stands for the wildcards, with | between
	header, body, kind string
}

// fuzzed is the API over real domains, entered below HTTP Basic: a request that
// is refused there tells nothing.
type fuzzed struct {
	w      *world
	mux    *http.ServeMux
	routes []rest.Route
	known  *strings.Replacer
	holder *powerauth.Device // of the token; it signs nothing, so nothing blocks it
	token  powerauth.Token
	signer *powerauth.Device
}

// everyone passes the guard of every route.
type everyone struct{}

func (everyone) Authenticate(context.Context, string, string) (access.Principal, error) {
	return access.Principal{
		Tenant: pgtest.Alpha, Name: "fuzzer", Apps: []string{"APP"},
		Privileges: access.Any(access.PAIntegration, access.PAAdmin, access.PAInternal),
	}, nil
}

func newFuzzed(f *testing.F) *fuzzed {
	f.Helper()
	w := newWorld(f)
	w.template("pay")
	holder, signer := w.active("jane"), w.active("jim")
	created := w.create(w.shop, "joe", "APP", "").RegistrationID
	held, err := holder.CreateToken(f.Context(), signature.Possession)
	require.NoError(f, err)
	served, err := api.New(api.Config{
		Registrations: w.Registrations, Basic: everyone{}, Applications: w.Applications, ServiceURL: "https://pa.example",
		Users: w.Basic, Audit: w.Audit, Operations: w.Operations, Tokens: w.Tokens, Push: w.Push, Callbacks: w.Callbacks,
	})
	require.NoError(f, err)
	v := w.Versions["alpha/APP"]
	x := &fuzzed{w: w, holder: holder, token: held, signer: signer, mux: http.NewServeMux(), routes: slices.Concat(api.Routes(), api.DeviceRoutes(), api.MobileRoutes())}
	served.Mount(x.mux)
	x.known = strings.NewReplacer(
		"@reg", signer.ActivationID(), "@new", created, "@op", w.operate("jane").OperationID,
		"@key", signature.EncodeBase64(v.Key[:]),
	)
	return x
}

// fill puts what exists in the place of its name; quote is for texts within JSON.
func (x *fuzzed) fill(t *testing.T, s string, quote bool) string {
	t.Helper()
	s = x.known.Replace(s)
	for name, header := range map[string]func() (string, error){
		"@token":  func() (string, error) { return x.holder.TokenHeader(x.token) },
		"@signed": func() (string, error) { return x.signer.Sign("POST", "/pay", []byte("{}"), signature.Possession) },
	} {
		if !strings.Contains(s, name) {
			continue
		}
		value, err := header()
		require.NoError(t, err)
		if quote {
			value = strings.ReplaceAll(value, `"`, `\"`)
		}
		s = strings.ReplaceAll(s, name, value)
	}
	return s
}

// headerFor tells under which name a device would send the value.
func headerFor(value string) string {
	switch {
	case strings.Contains(value, "token_digest"):
		return signature.TokenHeaderName
	case strings.Contains(value, "pa_signature"):
		return signature.HeaderName
	}
	return signature.EncryptionHeaderName
}

// serve sends the request straight to the mux. ok is false for what no HTTP
// client can send.
func (x *fuzzed) serve(t *testing.T, q anyRequest) (route rest.Route, a answer, ok bool) {
	t.Helper()
	route = x.routes[int(q.route)%len(x.routes)]
	path, names := route.Pattern, strings.Split(x.fill(t, q.path, false), "|")
	for head, tail, found := strings.Cut(path, "{"); found; head, tail, found = strings.Cut(path, "{") {
		_, tail, _ = strings.Cut(tail, "}")
		path = head + url.PathEscape(names[0]) + tail
		names = names[min(1, len(names)-1):] // the last serves all that follow
	}
	target, err := url.ParseRequestURI(path)
	if err != nil {
		return route, a, false
	}
	target.RawQuery = x.fill(t, q.query, false)
	req := httptest.NewRequestWithContext(t.Context(), route.Method, "/", strings.NewReader(x.fill(t, q.body, true)))
	req.URL, req.RequestURI = target, target.RequestURI()
	req.Header.Set("Content-Type", q.kind)
	req.SetBasicAuth("any", "body")
	if header := x.fill(t, q.header, false); header != "" {
		req.Header.Set(headerFor(header), header)
	}
	rec := httptest.NewRecorder()
	x.mux.ServeHTTP(rec, req)
	return route, answer{rec.Code, rec.Header(), rec.Body.Bytes()}, true
}

// written counts the transactions of this database's server that changed
// something, whether they came to an end or not: a row-free refusal takes none.
func (x *fuzzed) written(t *testing.T) (id string) {
	t.Helper()
	require.NoError(t, x.w.DB.QueryRow(t.Context(), `select pg_snapshot_xmax(pg_current_snapshot())::text`).Scan(&id))
	return id
}

// goodRequests have a request for each route, so that the fuzzer starts behind the
// first check.
func goodRequests() map[string]anyRequest {
	const registration = "@reg"
	return map[string]anyRequest{
		"PA-REG-01":  {body: `{"userId":"u","appId":"APP","flags":["F"],"otp":"1","otpValidation":"ON_COMMIT"}`},
		"PA-REG-02":  {path: "@new", body: `{"externalUserId":"op","otp":"1"}`},
		"PA-REG-03":  {path: registration},
		"PA-REG-04":  {query: "userId=jane"},
		"PA-REG-05":  {path: registration, body: `{"change":"BLOCK","externalUserId":"op","blockReason":"LOST"}`},
		"PA-REG-06":  {path: "@new"},
		"PA-REG-07":  {path: registration, body: `{"flags":["F"]}`},
		"PA-REG-08":  {path: registration, body: `{"flags":["F","G"]}`},
		"PA-REG-09":  {path: registration, body: `{"flags":["F"]}`},
		"PA-AUTH-01": {body: `{"method":"POST","uriId":"/pay","authHeader":"@signed","requestBody":"e30=","queryParams":null}`},
		"PA-AUTH-02": {body: `{"authHeader":"@token"}`},
		"PA-OP-01":   {body: `{"userId":"jane","template":"pay","language":"en","externalId":"e","flag":"","parameters":{"a":"b"}}`},
		"PA-OP-02":   {path: "@op"},
		"PA-OP-03":   {path: "@op", query: "statusReason=late"},
		"PA-OP-04":   {path: "@op", query: "registrationId=@reg"},
		"PA-OP-05":   {path: "@op", body: `{"otp":"1234-5678-1234-5678","nonce":"AAAAAAAAAAAAAAAAAAAAAA==","registrationId":"@reg"}`},
		"PA-INT-01":  {body: `{"operationId":"@op"}`},
		"PA-ADM-01":  {body: `{"id":"APP","roles":["R"]}`},
		"PA-ADM-02":  {},
		"PA-ADM-03":  {query: "id=APP&version=default"},
		"PA-ADM-04":  {body: `{"id":"APP","roles":["R"]}`},
		"PA-ADM-05":  {body: `{"id":"APP","roles":["R"]}`},
		"PA-X-01":    {body: `{"username":"tier"}`},
		"PA-X-02":    {path: "shop|APP"},
		"PA-X-03":    {path: "APP", body: `{"topic":"t","keyId":"AAAAAAAAAA","teamId":"AAAAAAAAAA","environment":"development","privateKeyBase64":"AAAA"}`},
		"PA-X-04":    {path: "APP", body: `{"projectId":"p","privateKeyBase64":"AAAA"}`},
		"PA-X-05":    {path: "APP", body: `{"name":"n","type":"OPERATION_STATUS_CHANGE","callbackUrl":"https://bank.example/cb"}`},
		"PA-X-06": {body: `{"templateName":"t","operationType":"t","dataTemplate":"A1*A${amount}EUR*N${note}","signatureType":["POSSESSION"],
			"maxFailureCount":5,"expiration":300,"riskFlags":"XF","texts":{"en":{"title":"t","message":"${note}","labels":{"operation.note":"N"}}}}`},
		"PA-X-07":    {},
		"PA-X-08":    {path: "pay", body: `{"templateName":"pay","operationType":"t","dataTemplate":"A2","signatureType":["POSSESSION"]}`},
		"PA-X-09":    {path: "t"},
		"PA-X-10":    {body: `{"userId":"jane","subject":"S","summary":"s","body":"b","type":"text","silent":true}`},
		"PA-X-11":    {query: "userId=jane&limit=2&onlyUnread=true"},
		"PA-X-12":    {path: "APP", body: `{"hmsAppId":"1","clientSecret":"s"}`},
		"PA-X-13":    {path: "APP"},
		"PA-X-14":    {path: "APP|@op"},
		"PA-X-15":    {path: "APP|@op"},
		"PA-X-16":    {path: "APP"},
		"PA-X-17":    {path: "APP", body: `{"version":"default"}`},
		"PA-X-18":    {path: "APP|default", body: `{"supported":true}`},
		"PA-X-19":    {path: "NOWHERE"}, // each rotation makes a key in the HSM
		"PA-X-20":    {path: "@op", query: "appId=APP"},
		"PA-PUSH-01": {body: `{"userId":"jane","registrationId":"@reg","title":"T","message":"M"}`},
		"PA-AUD-01":  {query: "userId=jane&limit=2"},

		"PA-V3-ACTIVATION-CREATE": {header: `PowerAuth version="3.2", application_key="@key"`, body: encrypted},
		"PA-V3-ACTIVATION-STATUS": {body: `{"requestObject":{"activationId":"@reg","challenge":"AAAAAAAAAAAAAAAAAAAAAA=="}}`},
		"PA-V3-ACTIVATION-REMOVE": {header: "@signed"},
		"PA-V3-ACTIVATION-RENAME": {header: "@signed", body: encrypted},
		"PA-V3-KEYSTORE-CREATE": {body: `{"requestObject":{"jwt":"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.` +
			`eyJhcHBsaWNhdGlvbktleSI6IkFBIiwiY2hhbGxlbmdlIjoiQUEifQ.AAAA"}}`},
		"PA-V3-VAULT-UNLOCK":              {header: "@signed", body: encrypted},
		"PA-V3-SIGNATURE-VALIDATE":        {header: "@signed", body: `{}`},
		"PA-V3-SIGNATURE-VALIDATE-GET":    {header: "@signed", query: "a=b"},
		"PA-V3-SIGNATURE-VALIDATE-PUT":    {header: "@signed", body: `{}`},
		"PA-V3-SIGNATURE-VALIDATE-DELETE": {header: "@signed", body: `{}`},
		"PA-V3-STATUS":                    {},
		"PA-V3-TOKEN-CREATE":              {header: "@signed", body: encrypted},
		"PA-V3-TOKEN-REMOVE":              {header: "@signed", body: `{"requestObject":{"tokenId":"@op"}}`},
		"PA-MOBILE-LIST":                  {header: "@token", body: `{}`},
		"PA-MOBILE-DETAIL":                {header: "@token", body: `{"requestObject":{"id":"@op"}}`},
		"PA-MOBILE-HISTORY":               {header: "@signed", body: `{}`},
		"PA-MOBILE-AUTHORIZE":             {header: "@signed", body: `{"requestObject":{"id":"@op","data":"A1*A100CZK*NRent"}}`},
		"PA-MOBILE-CANCEL":                {header: "@signed", body: `{"requestObject":{"id":"@op","reason":"UNKNOWN"}}`},
		"PA-MOBILE-PUSH-TOKEN":            {header: "@token", body: `{"requestObject":{"platform":"ios","token":"0011"}}`},
		"PA-MOBILE-INBOX-COUNT":           {header: "@token", body: `{}`},
		"PA-MOBILE-INBOX-LIST":            {header: "@token", body: `{"requestObject":{"page":0,"size":10,"onlyUnread":false}}`},
		"PA-MOBILE-INBOX-DETAIL":          {header: "@token", body: `{"requestObject":{"id":"@op"}}`},
		"PA-MOBILE-INBOX-READ":            {header: "@token", body: `{"requestObject":{"id":"@op"}}`},
		"PA-MOBILE-INBOX-READ-ALL":        {header: "@token", body: `{}`},
		"PA-MOBILE-PUSH":                  {header: "@token", body: `{"requestObject":{"platform":"ios","token":"0011"}}`},
	}
}

const encrypted = `{"ephemeralPublicKey":"BK65EIncn1J7E/C/TQ/ecDxNZazDb+jRlHly5bqfY66vTur4Eni6O5s4OahwRmIYI55KwlFVmD9457cfi/Dbhho=",` +
	`"encryptedData":"5vp8KFKzAS6CqpNM9mm+uQ==","mac":"B59yXUUyclSWOP/Kb0GeAT/dfhhKNosyXHCfG29z82g=",` +
	`"nonce":"c1bwIFPenpLt27/BKNbrIA==","timestamp":1795306649445}`

// structural tells whether an answer refuses the request for its form.
func structural(a answer) bool {
	var e struct {
		ResponseObject struct {
			Violations []struct{} `json:"violations"`
		} `json:"responseObject"`
	}
	return a.status == http.StatusBadRequest && json.Unmarshal(a.body, &e) == nil && len(e.ResponseObject.Violations) > 0
}

// Whatever comes to whatever URL, behind the guard and with the real domains: an
// answer, never a 500 or a panic; and nothing at all is written for a request
// that is refused for its form.
func FuzzBodies(f *testing.F) {
	x := newFuzzed(f)
	good := goodRequests()
	for i, r := range x.routes {
		q := good[r.ID] // a route without one begins with an empty request
		f.Add(uint8(i), q.path, q.query, q.header, q.body, "application/json")
	}
	for i := range x.routes {
		f.Add(uint8(i), "\x00", "id=%00&userId=%00", "PowerAuth ", `{"id":"\u0000"}`, "application/json")
		f.Add(uint8(i), "\xff", "userId=%ff", "\xff", "{\"userId\":\"\xff\"}", "application/json; charset=utf-8")
	}
	f.Fuzz(func(t *testing.T, route uint8, path, query, header, body, kind string) {
		before := x.written(t)
		r, a, ok := x.serve(t, anyRequest{route, path, query, header, body, kind})
		if !ok {
			return
		}
		require.NotZero(t, a.status)
		require.Less(t, a.status, 500, "%s: %s", r.ID, a.body)
		if structural(a) {
			require.Equal(t, before, x.written(t), "%s wrote and refused: %s", r.ID, a.body)
		}
	})
}
