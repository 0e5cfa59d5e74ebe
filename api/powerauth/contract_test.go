package powerauth_test

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/internal/apitest"
	api "github.com/signet-hsm/signet/api/powerauth"
	"github.com/signet-hsm/signet/signature"
)

var inventory = []string{"PA-"}

func TestContractIsTheGivenOne(t *testing.T) {
	t.Parallel()
	apitest.RequireSameContract(t, "openapi-powerauth.yaml")
}

func TestRoutesAreTheServedOperations(t *testing.T) {
	t.Parallel()
	var routes []apitest.Operation
	for _, r := range api.Routes() {
		routes = append(routes, apitest.Operation{ID: r.ID, Method: r.Method, Path: r.Pattern})
	}
	apitest.RequireCoverage(t, apitest.LoadContract(t), routes, inventory...)
}

// Only the device's own endpoint goes without credentials.
func TestPublicRoutes(t *testing.T) {
	t.Parallel()
	for _, r := range api.Routes() {
		require.False(t, r.Allow.Has(access.Public), r.ID)
	}
	for _, r := range api.MobileRoutes() {
		require.True(t, strings.HasPrefix(r.Pattern, "/api/"), r.ID)
		require.Equal(t, access.Any(access.Public), r.Allow)
	}
	for _, r := range api.DeviceRoutes() {
		require.True(t, strings.HasPrefix(r.Pattern, "/pa/v3/"), r.ID)
		require.Equal(t, access.Any(access.Public), r.Allow)
	}
}

// Every route, every role, own and foreign objects. A route without a line here
// fails. The objects are alpha's, of APP where they have an application.
func TestRoutesByRoleAndTenant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active("jane")
	header := w.signed(d)
	held, err := d.CreateToken(t.Context(), signature.Possession)
	require.NoError(t, err)
	tokenHeader, err := d.TokenHeader(held)
	require.NoError(t, err)
	w.template("pay")
	w.template("other")
	op := func() string { return w.operate("jane").OperationID }
	open, cancel := op(), op()
	const noOperation, noAdmin = "400 ERROR_OPERATION_NOT_FOUND", "400 ERROR_ADMIN"
	template := func(name string) string {
		return `{"templateName":"` + name + `","operationType":"t","dataTemplate":"A2","signatureType":["POSSESSION"]}`
	}
	otp := `{"otp":"1234567812345678","nonce":"AAAAAAAAAAAAAAAAAAAAAA==","registrationId":"` + d.ActivationID() + `"}`
	expect := map[string]struct {
		body    string
		args    []string
		own     string // status and code of the owner
		foreign string // of callers of another tenant or application
	}{
		"PA-REG-01":  {`{"userId":"joe","appId":"OTHER"}`, nil, "400 ERROR_REGISTRATION_NOT_FOUND", "400 ERROR_REGISTRATION_NOT_FOUND"},
		"PA-REG-02":  {"", []string{d.ActivationID()}, "400 ERROR_REGISTRATION_CHANGE", "400 ERROR_REGISTRATION_NOT_FOUND"},
		"PA-REG-03":  {"", []string{d.ActivationID()}, "200", "400 ERROR_REGISTRATION_NOT_FOUND"},
		"PA-REG-04":  {"", []string{"?userId=jane"}, `200 1`, `200 0`},
		"PA-REG-05":  {`{"change":"UNBLOCK"}`, []string{d.ActivationID()}, "400 ERROR_REGISTRATION_CHANGE", "400 ERROR_REGISTRATION_NOT_FOUND"},
		"PA-REG-06":  {"", []string{w.create(w.shop, "gone", "APP", "").RegistrationID}, "200", "400 ERROR_REGISTRATION_NOT_FOUND"},
		"PA-REG-07":  {`{"flags":["F"]}`, []string{d.ActivationID()}, "200", "400 ERROR_REGISTRATION_NOT_FOUND"},
		"PA-REG-08":  {`{"flags":[]}`, []string{d.ActivationID()}, "200", "400 ERROR_REGISTRATION_NOT_FOUND"},
		"PA-REG-09":  {`{"flags":["F"]}`, []string{d.ActivationID()}, "200", "400 ERROR_REGISTRATION_NOT_FOUND"},
		"PA-AUTH-01": {`{"method":"POST","uriId":"/pay","authHeader":` + text(t, header) + `}`, nil, "200 ACTIVE", "200 REMOVED"},
		"PA-OP-01":   {`{"userId":"jane","template":"pay"}`, nil, "200", "400 ERROR_REGISTRATION_NOT_FOUND"},
		"PA-OP-02":   {"", []string{open}, "200", noOperation},
		"PA-OP-03":   {"", []string{cancel}, "200", noOperation},
		"PA-OP-04":   {"", []string{open, "?registrationId=" + d.ActivationID()}, "200", noOperation},
		"PA-OP-05":   {otp, []string{open}, "200 ACTIVE", noOperation},
		"PA-INT-01":  {`{"operationId":"` + open + `"}`, nil, "200", "400 ERROR_REQUEST operationId"},
		"PA-AUTH-02": {`{"authHeader":` + text(t, tokenHeader) + `}`, nil, "200 ACTIVE", "200 REMOVED"},
		"PA-PUSH-01": {`{"userId":"jane","registrationId":"` + d.ActivationID() + `","title":"T","message":"M"}`, nil, "200", "400 ERROR_PUSH_MESSAGE"},
		"PA-X-03":    {apnsBody(t), []string{"OTHER"}, "200", noAdmin},
		"PA-X-04":    {`{"projectId":"p","privateKeyBase64":"AAAA"}`, []string{"OTHER"}, "400 ERROR_REQUEST privateKeyBase64", "400 ERROR_REQUEST privateKeyBase64"},
		"PA-X-05":    {`{"name":"n","type":"OPERATION_STATUS_CHANGE","callbackUrl":"https://bank.example/cb"}`, []string{"APP"}, "200", "200"},
		"PA-AUD-01":  {"", []string{"?userId=jane"}, "200", "400 ERROR_AUDIT"},
		"PA-ADM-01":  {`{"id":"APP"}`, nil, noAdmin, noAdmin},
		"PA-ADM-02":  {"", nil, "200 2", "200 1"},
		"PA-ADM-04":  {`{"id":"OTHER","roles":["R"]}`, nil, "200", "400 ERROR_REQUEST id"},
		"PA-ADM-05":  {`{"id":"OTHER","roles":["R"]}`, nil, "200", "400 ERROR_REQUEST id"},
		"PA-ADM-03":  {"", []string{"?id=OTHER"}, "200", noAdmin},
		"PA-X-01":    {`{"username":"shop"}`, nil, noAdmin, noAdmin},
		"PA-X-02":    {"", []string{"shop", "OTHER"}, "200", noAdmin},
		"PA-X-06":    {template("pay"), nil, noAdmin, noAdmin},
		"PA-X-07":    {"", nil, "200 2", "200 1"},
		"PA-X-08":    {template("other"), []string{"other"}, "200", noAdmin},
		"PA-X-09":    {"", []string{"other"}, "200", noAdmin},
		"PA-X-10":    {`{"userId":"reader","appId":"APP","subject":"S","summary":"S"}`, nil, "200", "200"},
		"PA-X-11":    {"", []string{"?userId=reader&appId=APP"}, "200 1", "200 1"},
		"PA-X-12":    {`{"hmsAppId":"1","clientSecret":"s"}`, []string{"OTHER"}, "200", noAdmin},
		"PA-X-13":    {"", []string{"APP"}, "200 3", "200 1"},
		"PA-X-14":    {"", []string{"APP", w.callback("gone")}, "200", noAdmin},
		"PA-X-15":    {"", []string{"APP", w.callback("kept")}, "200", noAdmin},
		"PA-X-16":    {"", []string{"OTHER"}, "200 1", noAdmin},
		"PA-X-17":    {`{"version":"2.0"}`, []string{"OTHER"}, "200", noAdmin},
		"PA-X-18":    {`{"supported":false}`, []string{"OTHER", "2.0"}, "200", noAdmin},
		"PA-X-19":    {"", []string{"OTHER"}, "200", noAdmin},
		"PA-X-20":    {"", []string{open}, "200", noOperation},
	}
	w.call("PA-X-06", w.betaAdmin, template("pay")) // a twin, of which alpha's changes leave nothing to see
	outcome := func(a answer) string {
		var ok struct {
			RegistrationStatus string           `json:"registrationStatus"`
			SignatureType      *string          `json:"signatureType"`
			Registrations      []map[string]any `json:"registrations"`
			Applications       []map[string]any `json:"applications"`
			Messages           []map[string]any `json:"messages"`
			Callbacks          []map[string]any `json:"callbacks"`
			Versions           []map[string]any `json:"versions"`
		}
		if a.status != http.StatusOK {
			return fmt.Sprint(a.status, " ", a.code(t))
		}
		if bytes.HasPrefix(a.body, []byte("[")) {
			var list []map[string]any
			a.into(t, &list)
			return fmt.Sprint(a.status, " ", len(list))
		}
		a.into(t, &ok)
		for _, list := range [][]map[string]any{ok.Registrations, ok.Applications, ok.Messages, ok.Callbacks, ok.Versions} {
			if list != nil {
				return fmt.Sprint(a.status, " ", len(list))
			}
		}
		if ok.SignatureType != nil {
			return fmt.Sprint(a.status, " ", ok.RegistrationStatus)
		}
		return fmt.Sprint(a.status)
	}
	for _, r := range api.Routes() {
		e, ok := expect[r.ID]
		require.True(t, ok, "route %s has no expectation: add its line", r.ID)
		type caller struct {
			who  login
			want string
		}
		const refused = "401 HTTP_401"
		callers := map[string]caller{
			"nobody":               {login{}, refused},
			"wrong password":       {login{w.shop.user, "wrong"}, refused},
			"unknown user":         {login{"nobody", w.shop.password}, refused},
			"another's password":   {login{w.shop.user, w.betaShop.password}, refused},
			"injection":            {login{"shop' or '1'='1", w.shop.password}, refused},
			"upper-case user name": {login{"SHOP", w.shop.password}, refused},
			"internal role":        {w.internal, refused},
			"integration role":     {w.shop, refused},
			"admin role":           {w.admin, refused},
		}
		switch {
		case r.Allow.Has(access.PAIntegration):
			callers["integration role"] = caller{w.shop, e.own}
			callers["other tenant"] = caller{w.betaShop, e.foreign}
			if slices.Contains([]string{"PA-X-05", "PA-X-10", "PA-X-11", "PA-X-13"}, r.ID) { // of an application that is named
				callers["other application"] = caller{w.other, noAdmin}
			} else if r.ID != "PA-REG-01" { // OTHER is its own: checked in the next test
				callers["other application"] = caller{w.other, e.foreign}
			}
		case r.Allow.Has(access.PAAdmin):
			callers["admin role"] = caller{w.admin, e.own}
			callers["other tenant"] = caller{w.betaAdmin, e.foreign}
		case r.Allow.Has(access.PAInternal):
			callers["internal role"] = caller{w.internal, e.own}
			callers["other tenant"] = caller{w.betaInternal, e.foreign}
		}
		for _, name := range slices.Sorted(maps.Keys(callers)) { // strangers before and after the owner
			c := callers[name]
			a := w.call(r.ID, c.who, e.body, e.args...)
			require.Equal(t, c.want, outcome(a), "%s as %s: %s", r.ID, name, a.body)
			if a.status == http.StatusUnauthorized {
				require.Equal(t, `Basic realm="signet", charset="UTF-8"`, a.header.Get("WWW-Authenticate"))
				require.JSONEq(t, `{"status":"ERROR","responseObject":{"code":"HTTP_401","message":"Unauthorized"}}`, string(a.body))
			}
		}
	}
}

// An unknown id, another application's and another tenant's are one answer.
func TestForeignAndUnknownLookAlike(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mine := w.create(w.shop, "jane", "APP", "").RegistrationID
	for _, id := range []string{"PA-REG-02", "PA-REG-03", "PA-REG-06"} {
		want := w.call(id, w.shop, "", uuid.NewString()).body
		require.Equal(t, want, w.call(id, w.shop, "", "not-a-uuid").body)
		require.Equal(t, want, w.call(id, w.shop, "", url.PathEscape("' or 1=1 --")).body)
		require.Equal(t, want, w.call(id, w.other, "", mine).body)
		require.Equal(t, want, w.call(id, w.betaShop, "", mine).body)
	}
	w.create(w.other, "joe", "OTHER", "")
	require.Equal(t,
		w.call("PA-REG-01", w.shop, `{"userId":"joe","appId":"OTHER"}`).body,
		w.call("PA-REG-01", w.shop, `{"userId":"joe","appId":"NOWHERE"}`).body)
}

// mutations makes requests that are wrong in one place each from a right one:
// every field left out, of another type, null, empty, too long or not in its
// list; plus shapes that no schema knows of.
func mutations(base string, texts ...string) []string {
	var obj map[string]any
	if err := json.Unmarshal([]byte(base), &obj); err != nil {
		panic(err)
	}
	out := []string{``, `null`, `[]`, `"x"`, `{`, base + "x"}
	names := []string{"surplus"}
	for name := range obj {
		names = append(names, name)
	}
	for _, name := range names {
		values := []any{nil, "", 1, 1.5, true, []any{}, []any{1}, []any{""}, map[string]any{}, map[string]any{"a": 1}}
		for _, long := range texts {
			values = append(values, long)
		}
		for _, v := range append(values, "NONSENSE") {
			m := map[string]any{}
			for k, x := range obj {
				m[k] = x
			}
			m[name] = v
			b, _ := json.Marshal(m, json.Deterministic(true))
			out = append(out, string(b))
		}
		m := map[string]any{}
		for k, x := range obj {
			if k != name {
				m[k] = x
			}
		}
		b, _ := json.Marshal(m, json.Deterministic(true))
		out = append(out, string(b))
	}
	return out
}

// changed is a rule that no schema can say about some of the members: what a
// mutation makes of them is not good.
func changed(names ...string) func(map[string]any) bool {
	return func(b map[string]any) bool {
		_, surplus := b["surplus"]
		return surplus || slices.ContainsFunc(names, func(name string) bool {
			s, _ := b[name].(string)
			return s == "" || s == "NONSENSE" || len(s) == 256
		})
	}
}

// The hand-written checks and the contract give one verdict: what the contract
// refuses is refused with 400, and what is refused as ERROR_REQUEST the contract
// refuses too, but for rules that no schema can say.
func TestVerdictsAgreeWithTheContract(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active("jane")
	w.template("pay")
	long := strings.Repeat("x", 256)
	surplus := func(b map[string]any) bool { _, ok := b["surplus"]; return ok }
	for id, c := range map[string]struct {
		base     string
		args     []string
		stricter func(body map[string]any) bool // refused by us although the schema allows it
	}{
		"PA-REG-01": {`{"userId":"jane","appId":"NOWHERE","otpValidation":"NONE","flags":["F"]}`, nil, func(b map[string]any) bool {
			_, surplus := b["surplus"]
			_, otp := b["otp"]
			mode := b["otpValidation"]
			return surplus || otp != (mode == "ON_COMMIT" || mode == "ON_KEY_EXCHANGE") && (otp || mode != nil)
		}},
		"PA-REG-02": {`{"externalUserId":"op","otp":"1"}`, []string{uuid.NewString()}, func(b map[string]any) bool {
			_, surplus := b["surplus"]
			otp, _ := b["otp"].(string)
			return surplus || len(otp) > 255
		}},
		"PA-REG-05": {`{"change":"UNBLOCK","externalUserId":"op","blockReason":"LOST"}`, []string{uuid.NewString()}, surplus},
		"PA-REG-07": {`{"flags":["F"]}`, []string{uuid.NewString()}, surplus},
		"PA-REG-08": {`{"flags":["F"]}`, []string{uuid.NewString()}, surplus},
		"PA-REG-09": {`{"flags":["F"]}`, []string{uuid.NewString()}, surplus},
		"PA-OP-01": {`{"userId":"jane","template":"pay","language":"en","externalId":"e","flag":"f","parameters":{"a":"b"}}`, nil, func(b map[string]any) bool {
			return surplus(b) || b["template"] != "pay"
		}},
		"PA-OP-05": {`{"otp":"1234567812345678","nonce":"AAAAAAAAAAAAAAAAAAAAAA==","registrationId":"x"}`, []string{uuid.NewString()}, func(b map[string]any) bool {
			return surplus(b) || b["registrationId"] == "" || b["nonce"] != "AAAAAAAAAAAAAAAAAAAAAA=="
		}},
		"PA-INT-01": {`{"operationId":"` + uuid.NewString() + `"}`, nil, func(map[string]any) bool { return true }},
		"PA-ADM-01": {`{"id":"APP","roles":["R"]}`, nil, surplus},
		"PA-ADM-04": {`{"id":"APP","roles":["R"]}`, nil, func(map[string]any) bool { return true }},
		"PA-ADM-05": {`{"id":"APP","roles":["ROLE"]}`, nil, func(map[string]any) bool { return true }},
		"PA-X-01":   {`{"username":"shop"}`, nil, surplus},
		"PA-X-06": {`{"templateName":"pay","operationType":"t","dataTemplate":"A2","signatureType":["POSSESSION"],"maxFailureCount":5,"expiration":300,"riskFlags":"XF","texts":{"en":{"title":"t","message":"m"}}}`, nil, func(b map[string]any) bool {
			name, _ := b["dataTemplate"].(string)
			return surplus(b) || name == "NONSENSE" || len(name) > 255
		}},
		"PA-AUTH-01": {`{"method":"POST","uriId":"/pay","authHeader":` + text(t, w.signed(d)) + `,"requestBody":"e30=","queryParams":null}`, nil, func(b map[string]any) bool {
			_, surplus := b["surplus"]
			body, _ := b["requestBody"].(string)
			return surplus || body == "NONSENSE" || len(body) > 255 || b["queryParams"] != nil
		}},
		"PA-AUTH-02": {`{"authHeader":` + text(t, w.tokenHeader(d)) + `}`, nil, surplus},
		"PA-PUSH-01": {`{"userId":"jane","registrationId":"` + d.ActivationID() + `","silent":false,"title":"T","message":"M","sound":"default","extras":{"a":[null,{"b":null}]}}`, nil, func(b map[string]any) bool {
			sound, _ := b["sound"].(string)
			registration, _ := b["registrationId"].(string)
			return surplus(b) || len(sound) > 255 || registration != "" && registration != d.ActivationID() || b["registrationId"] == ""
		}},
		"PA-X-03": {apnsBody(t), []string{"OTHER"}, changed("topic", "keyId", "teamId", "privateKeyBase64")},
		"PA-X-04": {fcmBody(t), []string{"OTHER"}, changed("projectId", "privateKeyBase64")},
		"PA-X-05": {`{"name":"n","type":"OPERATION_STATUS_CHANGE","callbackUrl":"https://bank.example/cb"}`, []string{"APP"}, func(b map[string]any) bool {
			name, _ := b["name"].(string)
			return surplus(b) || len(name) > 255 || b["callbackUrl"] != "https://bank.example/cb"
		}},
		"PA-X-08": {`{"templateName":"pay","operationType":"t","dataTemplate":"A2","signatureType":["POSSESSION"],"maxFailureCount":5,"expiration":300,"riskFlags":"XF","texts":{"en":{"title":"t","message":"m"}}}`, []string{"pay"}, func(b map[string]any) bool {
			return surplus(b) || b["dataTemplate"] != "A2" || b["templateName"] != "pay"
		}},
		"PA-X-10": {`{"userId":"jane","appId":"APP","subject":"S","summary":"S","body":"B","type":"text","silent":true}`, nil, surplus},
		"PA-X-12": {`{"hmsAppId":"1","clientSecret":"s"}`, []string{"OTHER"}, surplus},
		"PA-X-17": {`{"version":"1.0"}`, []string{"OTHER"}, surplus},
		"PA-X-18": {`{"supported":true}`, []string{"OTHER", "default"}, surplus},
	} {
		op := w.operation(id)
		agreed := 0
		for _, body := range mutations(c.base, long) {
			a := w.call(id, w.may(id), body, c.args...)
			req, err := http.NewRequestWithContext(t.Context(), op.Method, w.url+op.Path, strings.NewReader(body))
			require.NoError(t, err)
			req.Header.Set("Content-Type", "application/json")
			contract := w.contract.Request(op, req, []byte(body))
			refused := a.status == http.StatusBadRequest && strings.HasPrefix(a.code(t), "ERROR_REQUEST")
			malformed := a.status == http.StatusBadRequest && slices.Contains([]string{"ERROR_SIGNATURE_INVALID", "ERROR_OTP_INVALID", "ERROR_TOKEN_INVALID"}, a.code(t))
			require.NotEqual(t, 500, a.status, body)
			if contract != nil {
				agreed++
				require.True(t, refused || malformed, "%s: the contract refuses %s (%v), we answer %d %s", id, body, contract, a.status, a.body)
				continue
			}
			if refused {
				var obj map[string]any
				if json.Unmarshal([]byte(body), &obj) != nil {
					continue // trailing data, which the validator does not look at
				}
				require.True(t, c.stricter(obj), "%s: we refuse %s (%s), the contract does not", id, body, a.body)
			}
		}
		require.Greater(t, agreed, 10, "the mutations have to break something")
	}
}

// What a violation may repeat, and what never.
func TestViolationsKeepSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	secret := strings.Repeat("s3cret", 60)
	for id, body := range map[string]string{
		"PA-REG-01":  `{"userId":"` + strings.Repeat("u", 256) + `","appId":"APP","otp":"` + secret + `","otpValidation":"ON_COMMIT"}`,
		"PA-REG-02":  `{"otp":"` + secret + `","otp":"x"}`,
		"PA-AUTH-01": `{"method":"HEAD","uriId":"","authHeader":"` + secret + `","requestBody":"` + secret + `!"}`,
	} {
		args := []string{}
		if id == "PA-REG-02" {
			args = append(args, uuid.NewString())
		}
		a := w.call(id, w.shop, body, args...)
		require.Equal(t, 400, a.status)
		require.True(t, strings.HasPrefix(a.code(t), "ERROR_REQUEST "), "%s has violations: %s", id, a.body)
		require.NotContains(t, string(a.body), "s3cret")
	}
	require.Equal(t, "ERROR_REQUEST method uriId requestBody",
		w.call("PA-AUTH-01", w.shop, `{"method":"HEAD","uriId":"","authHeader":"x","requestBody":"!"}`).code(t))
	require.Equal(t, "ERROR_REQUEST userId", w.call("PA-REG-04", w.shop, "").code(t))
	require.Equal(t, "ERROR_REQUEST userId", w.call("PA-REG-04", w.shop, "", "?userId=a&userId=b").code(t))
}
