package ast_test

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/ast"
	"github.com/signet-hsm/signet/api/internal/apitest"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// world is the API over an installation.
type world struct {
	*apitest.Installation
	tb       testing.TB
	mux      *http.ServeMux
	contract *apitest.Contract

	reader, writer, client, betaWriter string // tokens
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	in := apitest.NewInstallation(tb)
	w := &world{
		Installation: in, tb: tb, mux: http.NewServeMux(), contract: apitest.LoadContract(tb),
		reader:     in.Token(tb, pgtest.Alpha, time.Hour, "admin-read"),
		writer:     in.Token(tb, pgtest.Alpha, time.Hour, "admin-write"),
		client:     in.Token(tb, pgtest.Alpha, time.Hour, "ast-client"),
		betaWriter: in.Token(tb, pgtest.Beta, time.Hour, "admin-write", "admin-read", "ast-client"),
	}
	served, err := ast.New(ast.Config{Signers: in.Authority, Realms: in.Realms})
	require.NoError(tb, err)
	served.Mount(w.mux)
	return w
}

// call sends one request of an operation to a tenant, and holds the answer
// against the contract. tail is what the path names next, a query, or both.
func (w *world) call(id, token, tenant, body string, tail ...string) *httptest.ResponseRecorder {
	w.tb.Helper()
	ops := w.contract.Operations(id)
	require.Len(w.tb, ops, 1)
	path, query := strings.NewReplacer("{tenant}", tenant, "{tenantId}", tenant).Replace(ops[0].Path), ""
	for _, s := range tail {
		if strings.HasPrefix(s, "?") {
			query = s
		} else {
			path = wildcard.ReplaceAllString(path, s)
		}
	}
	path += query
	r := httptest.NewRequest(ops[0].Method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	rec := httptest.NewRecorder()
	w.mux.ServeHTTP(rec, r)
	w.contract.RequireResponse(ops[0], r, rec.Code, rec.Header(), rec.Body.Bytes())
	return rec
}

var wildcard = regexp.MustCompile(`\{[^}]+\}`)

func (w *world) into(rec *httptest.ResponseRecorder, status int, v any) {
	w.tb.Helper()
	require.Equal(w.tb, status, rec.Code, "%s", rec.Body)
	require.NoError(w.tb, json.Unmarshal(rec.Body.Bytes(), v))
}

type signer struct {
	ID         string    `json:"id"`
	Tenant     string    `json:"tenant"`
	Name       string    `json:"name"`
	Generation int       `json:"generation"`
	State      string    `json:"state"`
	CreatedAt  time.Time `json:"createdAt"`
	UpdatedAt  time.Time `json:"updatedAt"`
}

func TestCA05_CA06_CA07_CA09_Signers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Equal(t, 404, w.call("CA-07", w.reader, "alpha", "", "current").Code, "no signer yet")
	require.Equal(t, 404, w.call("CA-09", w.reader, "alpha", "", "current").Code)
	var list []signer
	rec := w.call("CA-05", w.reader, "alpha", "")
	w.into(rec, 200, &list)
	require.Empty(t, list)
	require.Equal(t, "0", rec.Header().Get("X-Total-Count"))

	var first, second signer
	rec = w.call("CA-06", w.writer, "alpha", `{"name":"first"}`)
	w.into(rec, 201, &first)
	require.Equal(t, "/v2/tenants/alpha/signers/"+first.ID, rec.Header().Get("Location"))
	require.Equal(t, "first", first.Name)
	require.Equal(t, "alpha", first.Tenant)
	require.Equal(t, 0, first.Generation)
	require.Equal(t, "ACTIVE", first.State)
	_, err := ulid.ParseStrict(first.ID)
	require.NoError(t, err)
	w.into(w.call("CA-06", w.writer, "alpha", ""), 201, &second) // no body: the default name
	require.Equal(t, 1, second.Generation)

	rec = w.call("CA-05", w.reader, "alpha", "", "?page=1&page_size=5")
	w.into(rec, 200, &list)
	require.Equal(t, "2", rec.Header().Get("X-Total-Count"))
	require.Equal(t, []string{second.ID, first.ID}, []string{list[0].ID, list[1].ID})
	require.Equal(t, "RETIRED", list[1].State)
	w.into(w.call("CA-05", w.reader, "alpha", "", "?page=2"), 200, &list)
	require.Empty(t, list)

	var got struct {
		Info        signer `json:"info"`
		Certificate string `json:"certificate"`
	}
	for token, spec := range map[string]string{w.reader: "current", w.client: second.ID} {
		w.into(w.call("CA-07", token, "alpha", "", spec), 200, &got)
		require.Equal(t, second.ID, got.Info.ID)
	}
	var chain struct {
		Chain []string `json:"chain"`
	}
	w.into(w.call("CA-09", w.client, "alpha", "", "current"), 200, &chain)
	require.Equal(t, got.Certificate, chain.Chain[0])
	leaf, roots, between := parse(t, chain.Chain[0]), x509.NewCertPool(), x509.NewCertPool()
	require.Equal(t, w.Root, parse(t, chain.Chain[len(chain.Chain)-1]).Raw)
	roots.AddCert(parse(t, chain.Chain[len(chain.Chain)-1]))
	for _, c := range chain.Chain[1 : len(chain.Chain)-1] {
		between.AddCert(parse(t, c))
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	require.NoError(t, err)
}

func parse(t *testing.T, b64 string) *x509.Certificate {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(b64)
	require.NoError(t, err)
	c, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return c
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, rec := range map[string]*httptest.ResponseRecorder{
		"page 0":           w.call("CA-05", w.reader, "alpha", "", "?page=0"),
		"page text":        w.call("CA-05", w.reader, "alpha", "", "?page=x"),
		"page too big":     w.call("CA-05", w.reader, "alpha", "", "?page=2147483648"),
		"page twice":       w.call("CA-05", w.reader, "alpha", "", "?page=1&page=2"),
		"page_size 4":      w.call("CA-05", w.reader, "alpha", "", "?page_size=4"),
		"page_size 101":    w.call("CA-05", w.reader, "alpha", "", "?page_size=101"),
		"filter":           w.call("CA-05", w.reader, "alpha", "", "?filter=name%3D"),
		"filter property":  w.call("CA-05", w.reader, "alpha", "", "?filter=certRef%3Dx"),
		"filter twice":     w.call("CA-05", w.reader, "alpha", "", "?filter=name%3Dx&filter=name%3Dy"),
		"long filter":      w.call("CA-05", w.reader, "alpha", "", "?filter=name%3D"+strings.Repeat("x", 4092)),
		"NUL in filter":    w.call("CA-05", w.reader, "alpha", "", "?filter=name%3D%00"),
		"no UTF-8":         w.call("CA-05", w.reader, "alpha", "", "?filter=name%3D%ff"),
		"v1: no name":      w.call("CA-02", w.writer, "alpha", `{}`),
		"v1: no body":      w.call("CA-02", w.writer, "alpha", ""),
		"v1: empty name":   w.call("CA-02", w.writer, "alpha", `{"name":""}`),
		"v1: null name":    w.call("CA-02", w.writer, "alpha", `{"name":null}`),
		"v1: long name":    w.call("CA-02", w.writer, "alpha", `{"name":"`+strings.Repeat("ä", 65)+`"}`),
		"list page":        w.call("CA-12", w.reader, "alpha", "", "?page=0"),
		"list page_size":   w.call("CA-12", w.reader, "alpha", "", "?page_size=1000"),
		"list filter":      w.call("CA-12", w.reader, "alpha", "", "?filter=name%3Dx"),
		"certRef":          w.call("CA-13", w.reader, "alpha", "", "current"),
		"certRef too long": w.call("CA-13", w.reader, "alpha", "", strings.Repeat("0", 27)),
		"certRef in lower": w.call("CA-13", w.reader, "alpha", "", "01f6mj6j1aa8hwb7g6xrjb709e"),
		"bad query":        w.call("CA-05", w.reader, "alpha", "", "?page=%zz"),
		"empty name":       w.call("CA-06", w.writer, "alpha", `{"name":""}`),
		"null name":        w.call("CA-06", w.writer, "alpha", `{"name":null}`),
		"long name":        w.call("CA-06", w.writer, "alpha", `{"name":"`+strings.Repeat("x", 65)+`"}`),
		"control in name":  w.call("CA-06", w.writer, "alpha", `{"name":"a\nb"}`),
		"unknown field":    w.call("CA-06", w.writer, "alpha", `{"tenant":"beta"}`),
		"mis-cased field":  w.call("CA-06", w.writer, "alpha", `{"Name":"x"}`),
		"array":            w.call("CA-06", w.writer, "alpha", `[]`),
		"signer spec":      w.call("CA-07", w.reader, "alpha", "", "Current"),
		"short id":         w.call("CA-07", w.reader, "alpha", "", "01F6MJ6J1AA8HWB7G6XRJB709"),
		"id with I":        w.call("CA-07", w.reader, "alpha", "", "01F6MJ6J1AA8HWB7G6XRJB709I"),
		"id beyond range":  w.call("CA-09", w.reader, "alpha", "", "81F6MJ6J1AA8HWB7G6XRJB709E"),
		"id in lower case": w.call("CA-09", w.reader, "alpha", "", "01f6mj6j1aa8hwb7g6xrjb709e"),
	} {
		var e struct {
			Message, Code string
			Subsystem     int
		}
		require.Equal(t, 400, rec.Code, "%s: %s", name, rec.Body)
		require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &e, json.MatchCaseInsensitiveNames(true)))
		require.Equal(t, "400", e.Code, name)
		require.Contains(t, e.Message, ": ", "%s: which rule was broken", name)
	}
	require.Equal(t, 200, w.call("CA-05", w.reader, "alpha", "", "?filter=").Code)
	rec := w.call("CA-05", w.reader, "alpha", "")
	require.Equal(t, "0", rec.Header().Get("X-Total-Count"), "nothing was stored")
	require.Equal(t, 404, w.call("CA-07", w.reader, "alpha", "", ulid.Make().String()).Code)
	require.Equal(t, 404, w.call("CA-13", w.reader, "alpha", "", ulid.Make().String()).Code)
}

// Every route, every role, own, other and no tenant. A route without a line here
// fails.
func TestRoutesByRoleAndTenant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Equal(t, 201, w.call("CA-06", w.writer, "alpha", "").Code)
	var foreign signer
	w.into(w.call("CA-06", w.betaWriter, "beta", ""), 201, &foreign)

	read, write, both := []string{"reader"}, []string{"writer"}, []string{"reader", "client"}
	config := `{"tlsBundle":["` + base64.StdEncoding.EncodeToString(w.Root) + `"]}`
	expect := map[string]struct {
		ok      int
		allowed []string
		body    string
		tail    []string
	}{
		"CA-01": {200, read, "", nil},
		"CA-02": {201, write, `{"name":"v1"}`, nil},
		"CA-03": {202, write, `{"ignoreNotIssued":true}`, nil},
		"CA-04": {204, write, "", nil}, // the one that CA-02 made
		"CA-05": {200, read, "", nil},
		"CA-06": {201, write, "", nil},
		"CA-07": {200, both, "", []string{"current"}},
		"CA-08": {404, write, "", []string{ulid.Make().String()}},
		"CA-09": {200, both, "", []string{"current"}},
		"CA-10": {202, write, "", []string{"current"}},
		"CA-11": {404, write, "", []string{ulid.Make().String()}},
		"CA-12": {200, read, "", nil},
		"CA-13": {404, read, "", []string{ulid.Make().String()}},
		"CA-14": {200, write, config, nil},

		"CA-X-01": {201, write, order(t), nil},
		"CA-X-02": {404, write, "", []string{ulid.Make().String()}},
		"CA-X-03": {401, nil, "", nil}, // for who shows a certificate
	}
	tokens := map[string]string{
		"reader": w.reader, "writer": w.writer, "client": w.client,
		"no role": w.Token(t, pgtest.Alpha, time.Hour), "other roles": w.Token(t, pgtest.Alpha, time.Hour, "integration", "admin", "public"),
	}
	bad := map[string]string{"nobody": "", "junk": "junk", "expired": w.Token(t, pgtest.Alpha, -time.Hour, "admin-read", "admin-write", "ast-client")}
	var public []string
	for _, r := range ast.Routes() {
		e, ok := expect[r.ID]
		require.True(t, ok, "route %s has no expectation: add its line", r.ID)
		if r.Allow.Has(access.Public) {
			public = append(public, r.ID)
			for _, token := range tokens {
				require.Equal(t, e.ok, w.call(r.ID, token, "alpha", e.body, e.tail...).Code, "%s: a token changes nothing", r.ID)
			}
			continue
		}
		for role, token := range tokens {
			want := http.StatusForbidden
			for _, a := range e.allowed {
				if a == role {
					want = e.ok
				}
			}
			require.Equal(t, want, w.call(r.ID, token, "alpha", e.body, e.tail...).Code, "%s as %s", r.ID, role)
			other := w.call(r.ID, token, "beta", e.body, e.tail...)
			unknown := w.call(r.ID, token, "no-such-tenant", e.body, e.tail...)
			require.Equal(t, http.StatusForbidden, other.Code, "%s as %s of another tenant", r.ID, role)
			require.Equal(t, other.Body.String(), unknown.Body.String())
		}
		for name, token := range bad {
			rec := w.call(r.ID, token, "alpha", e.body, e.tail...)
			require.Equal(t, http.StatusUnauthorized, rec.Code, "%s as %s", r.ID, name)
			require.Equal(t, `Bearer realm="signet"`, rec.Header().Get("WWW-Authenticate"))
		}
		require.Equal(t, e.ok, w.call(r.ID, w.betaWriter, "beta", e.body, e.tail...).Code, "%s in its own tenant", r.ID)
	}
	require.Equal(t, []string{"CA-X-03"}, public, "what needs no token")
	// An id of another tenant is as good as none.
	for id, token := range map[string]string{"CA-07": w.reader, "CA-08": w.writer, "CA-09": w.reader, "CA-10": w.writer, "CA-11": w.writer, "CA-X-02": w.writer, "CA-13": w.reader} {
		theirs := w.call(id, token, "alpha", "", foreign.ID)
		require.Equal(t, 404, theirs.Code, id)
		require.Equal(t, w.call(id, token, "alpha", "", ulid.Make().String()).Body.String(), theirs.Body.String())
	}
}

func TestBasicCredentialsAreNoToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	password := w.Login(t, pgtest.Alpha, "admin", access.PAAdmin)
	r := httptest.NewRequest("GET", "/v2/tenants/alpha/signers", nil)
	r.SetBasicAuth("admin", password)
	rec := httptest.NewRecorder()
	w.mux.ServeHTTP(rec, r)
	require.Equal(t, 401, rec.Code)
}

func TestOutageIs503(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.DB.Close()
	for _, id := range []string{"CA-01", "CA-05", "CA-07", "CA-12", "CA-13"} {
		rec := w.call(id, w.reader, "alpha", "", map[bool]string{true: ulid.Make().String(), false: "current"}[id == "CA-13"])
		require.Equal(t, 503, rec.Code)
		require.NotEmpty(t, rec.Header().Get("Retry-After"))
	}
}

func TestUnknownURLs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, path := range []string{"/v2/tenants", "/v2/tenants/", "/v2/tenants/alpha", "/v1/tenants/alpha/certificates", "/v1/tenants/alpha/signers/current", "/v2/tenants/alpha/signers/"} {
		rec := httptest.NewRecorder()
		w.mux.ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
		require.Equal(t, 404, rec.Code, path)
		require.JSONEq(t, `{"message":"Not found","code":"404","subsystem":599}`, rec.Body.String())
	}
}

func TestContractIsTheGivenOne(t *testing.T) {
	t.Parallel()
	apitest.RequireSameContract(t, "openapi-ast.yaml")
}

func TestRoutesAreTheServedOperations(t *testing.T) {
	t.Parallel()
	var routes []apitest.Operation
	for _, r := range ast.Routes() {
		routes = append(routes, apitest.Operation{ID: r.ID, Method: r.Method, Path: r.Pattern})
	}
	apitest.RequireCoverage(t, apitest.LoadContract(t), routes, "CA-")
}

// What the contract refuses is refused, and the other way round.
func TestVerdictsAgreeWithTheContract(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	op := w.contract.Operations("CA-05")[0]
	for _, query := range []string{
		"", "?page=1", "?page=0", "?page=-1", "?page=x", "?page=1.5", "?page=99999999999", "?page_size=5", "?page_size=4",
		"?page_size=100", "?page_size=101", "?page_size=", "?page=", "?filter=", "?surplus=1",
	} {
		r := httptest.NewRequest("GET", "/v2/tenants/alpha/signers"+query, nil)
		refused := w.contract.Request(op, r, nil) != nil
		require.Equal(t, refused, w.call("CA-05", w.reader, "alpha", "", query).Code == 400, query)
	}
	op = w.contract.Operations("CA-06")[0]
	for _, body := range []string{`{}`, `{"name":"x"}`, `{"name":""}`, `{"name":null}`, `{"name":1}`, `{"name":["x"]}`, `null`, `[]`, `"x"`, `1`, `{`} {
		r := httptest.NewRequest("POST", "/v2/tenants/alpha/signers", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		refused := w.contract.Request(op, r, []byte(body)) != nil
		require.Equal(t, refused, w.call("CA-06", w.writer, "alpha", body).Code == 400, body)
	}
	op = w.contract.Operations("CA-07")[0]
	for _, spec := range []string{"current", "Current", ulid.Make().String(), strings.ToLower(ulid.Make().String()), "x", "8" + ulid.Make().String()[1:]} {
		r := httptest.NewRequest("GET", fmt.Sprintf("/v2/tenants/alpha/signers/%s", spec), nil)
		refused := w.contract.Request(op, r, nil) != nil
		require.Equal(t, refused, w.call("CA-07", w.reader, "alpha", "", spec).Code == 400, spec)
	}
}
