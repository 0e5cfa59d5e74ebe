package rest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/tenant"
)

var alpha = tenant.MustParse("alpha")

// dialect speaks {"reason": ...}; its callers are "reader" and "writer" of alpha.
func dialect() rest.Dialect {
	status := map[string]int{
		"URL_UNKNOWN": 404, "METHOD_NOT_ALLOWED": 405, "BODY_TOO_LARGE": 413, "MEDIA_TYPE": 415,
		"REQUEST_INVALID": 400, "BODY_INCOMPLETE": 400, "UNAUTHENTICATED": 401, "FORBIDDEN": 403, "UNAVAILABLE": 503,
	}
	return rest.Dialect{
		Name: "test",
		Authenticate: func(_ context.Context, r *http.Request) (access.Principal, error) {
			token, _ := rest.AuthorizationOf(r.Header).Bearer()
			privilege, ok := map[string]access.Privilege{"reader": access.AdminRead, "writer": access.AdminWrite}[token]
			switch {
			case token == "outage":
				return access.Principal{}, fmt.Errorf("jwks: %w", fault.ErrUnavailable)
			case !ok:
				return access.Principal{}, access.ErrUnauthenticated
			}
			return access.Principal{Tenant: alpha, Name: token, Privileges: access.Any(privilege)}, nil
		},
		Problem: func(err error, _ string) rest.Response {
			f := fault.Of(err)
			if f == nil {
				return rest.Response{Status: 500, Body: map[string]string{"reason": "INTERNAL"}}
			}
			var fields []string
			for _, v := range f.Violations {
				fields = append(fields, v.Field)
			}
			return rest.Response{Status: status[f.Reason], Body: map[string]any{"reason": f.Reason, "fields": fields}}
		},
	}
}

type order struct {
	Name   string             `json:"name"`
	Count  *int               `json:"count,omitempty"`
	Tags   []string           `json:"tags"`
	Params *map[string]string `json:"params"`
	Nested map[string]any     `json:"nested"`
}

func ok(context.Context, *rest.Request) (rest.Response, error) {
	return rest.OK(map[string]string{"ok": "yes"}), nil
}

func routes() []rest.Route {
	echo := func(decode func(*rest.Request) (order, error)) rest.Handler {
		return func(_ context.Context, r *rest.Request) (rest.Response, error) {
			o, err := decode(r)
			if err != nil {
				return rest.Response{}, err
			}
			return rest.Created("/orders/1", o), nil
		}
	}
	public := access.Any(access.Public)
	return []rest.Route{
		{ID: "T-1", Method: "GET", Pattern: "/t/{tenant}/x", Allow: access.Any(access.AdminRead), Handler: ok},
		{ID: "T-2", Method: "POST", Pattern: "/t/{tenant}/x", Allow: access.Any(access.AdminWrite), Handler: ok},
		{ID: "T-3", Method: "POST", Pattern: "/orders", Allow: public, Handler: echo(func(r *rest.Request) (order, error) { return rest.Decode[order](r, "params") })},
		{ID: "T-4", Method: "POST", Pattern: "/optional", Allow: public, Handler: echo(func(r *rest.Request) (order, error) { return rest.DecodeOptional[order](r) })},
		{ID: "T-5", Method: "GET", Pattern: "/panic", Allow: public, Handler: func(context.Context, *rest.Request) (rest.Response, error) { panic("secret-in-panic") }},
		{ID: "T-6", Method: "GET", Pattern: "/plain", Allow: public, Handler: func(context.Context, *rest.Request) (rest.Response, error) {
			return rest.Response{}, errors.New("pq: password=hunter2")
		}},
		{ID: "T-7", Method: "GET", Pattern: "/slow", Allow: public, Handler: func(ctx context.Context, _ *rest.Request) (rest.Response, error) {
			<-ctx.Done()
			return rest.Response{}, ctx.Err()
		}},
		{ID: "T-12", Method: "POST", Pattern: "/things/{id}", Allow: public, Handler: ok},
		{ID: "T-8", Method: "POST", Pattern: "/small", MaxBody: 10, Allow: public, Handler: ok},
		{ID: "T-9", Method: "GET", Pattern: "/unencodable", Allow: public, Handler: func(context.Context, *rest.Request) (rest.Response, error) {
			return rest.OK(map[string]any{"f": func() {}}), nil
		}},
		{ID: "T-10", Method: "GET", Pattern: "/raw", Allow: public, Handler: func(context.Context, *rest.Request) (rest.Response, error) {
			return rest.OK(rest.Raw{ContentType: "image/png", Data: []byte{1, 2}}), nil
		}},
		{ID: "T-11", Method: "GET", Pattern: "/query", Allow: public, Handler: func(_ context.Context, r *rest.Request) (rest.Response, error) {
			var c rest.Check
			page := c.QueryInt(r, "page", 1, 1, 1000)
			who, _ := c.Query(r, "who")
			return rest.OK(map[string]any{"page": page, "who": who}), c.Err()
		}},
	}
}

type server struct {
	http.Handler
	log     *bytes.Buffer
	metrics *prometheus.Registry
}

func newServer(t testing.TB) *server {
	s := &server{log: &bytes.Buffer{}, metrics: prometheus.NewRegistry()}
	api, err := rest.New(rest.Config{
		Dialect: dialect(), Routes: routes(), Prefixes: []string{"/t", "/orders"},
		Logger: slog.New(slog.NewJSONHandler(s.log, nil)), Metrics: s.metrics,
	})
	require.NoError(t, err)
	mux := http.NewServeMux()
	api.Mount(mux)
	s.Handler = mux
	return s
}

func (s *server) do(method, path, token, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestGuard(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, c := range []struct {
		method, path, token string
		want                int
	}{
		{"GET", "/t/alpha/x", "reader", 200},
		{"HEAD", "/t/alpha/x", "reader", 200},
		{"GET", "/t/alpha/x", "", 401},
		{"GET", "/t/alpha/x", "stranger", 401},
		{"GET", "/t/alpha/x", "writer", 403},
		{"POST", "/t/alpha/x", "reader", 403},
		{"POST", "/t/alpha/x", "writer", 200},
		{"GET", "/t/beta/x", "reader", 403},
		{"GET", "/t/unknown/x", "reader", 403},
		{"GET", "/t/ALPHA/x", "reader", 403},
		{"GET", "/t/alpha%2f/x", "reader", 403},
		{"GET", "/t/alpha/x", "outage", 503},
	} {
		w := s.do(c.method, c.path, c.token, "")
		require.Equal(t, c.want, w.Code, "%v: %s", c, w.Body)
		require.NotEmpty(t, w.Header().Get("X-Request-Id"))
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	}
	require.Equal(t, s.do("GET", "/t/beta/x", "reader", "").Body.String(), s.do("GET", "/t/nobody/x", "reader", "").Body.String(),
		"a foreign and an unknown tenant look alike")
	require.Equal(t, "2", s.do("GET", "/t/alpha/x", "outage", "").Header().Get("Retry-After"))
}

func TestTwoAuthorizationHeadersAreNone(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := httptest.NewRequest("GET", "/t/alpha/x", nil)
	r.Header["Authorization"] = []string{"Bearer reader", "Bearer reader"}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	require.Equal(t, 401, w.Code)
}

func TestUnknownURLsAndMethods(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, path := range []string{"/t", "/t/", "/t/alpha", "/t/alpha/x/y", "/orders/", "/orders/1"} {
		w := s.do("GET", path, "reader", "")
		require.Equal(t, 404, w.Code, path)
		require.JSONEq(t, `{"reason":"URL_UNKNOWN","fields":[]}`, w.Body.String())
	}
	w := s.do("DELETE", "/t/alpha/x", "reader", "")
	require.Equal(t, 405, w.Code)
	require.Equal(t, "GET, HEAD, POST", w.Header().Get("Allow"))
	require.JSONEq(t, `{"reason":"METHOD_NOT_ALLOWED","fields":[]}`, w.Body.String())
	require.Equal(t, 405, s.do("OPTIONS", "/orders", "", "").Code)
}

func TestBodies(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	deep := func(n int) string {
		return `{"nested":` + strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) + "}"
	}
	long := func(n int) string { return `{"tags":[` + strings.TrimSuffix(strings.Repeat(`"",`, n), ",") + `]}` }
	wide := `{"nested":{`
	for i := range 1001 {
		wide += fmt.Sprintf(`"k%d":1,`, i)
	}
	wide = strings.TrimSuffix(wide, ",") + "}}"
	for name, c := range map[string]struct {
		body  string
		field string // "" when accepted
	}{
		"good":                {`{"name":"x","count":3,"tags":["a"]}`, ""},
		"white space":         {" \n{\"name\" : \"x\"}\t ", ""},
		"nullable null":       {`{"params":null}`, ""},
		"text with braces":    {`{"name":"{[{[,,,null\\\""}`, ""},
		"32 deep":             {deep(31), ""},
		"1000 members":        {long(1000), ""},
		"empty":               {``, "body"},
		"null":                {`null`, "body"},
		"array":               {`[]`, "body"},
		"string":              {`"x"`, "body"},
		"unknown name":        {`{"name":"x","surplus":1}`, "surplus"},
		"mis-cased name":      {`{"Name":"x"}`, "Name"},
		"repeated name":       {`{"name":"a","name":"b"}`, "name"},
		"repeated escaped":    {`{"name":"a","n\u0061me":"b"}`, "name"},
		"repeated below":      {`{"nested":{"a":1,"a":2}}`, "nested.a"},
		"null string":         {`{"name":null}`, "name"},
		"null in array":       {`{"tags":["a",null]}`, "tags[1]"},
		"null pointer":        {`{"count":null}`, "count"},
		"wrong type":          {`{"name":1}`, "name"},
		"number as text":      {`{"count":"3"}`, "count"},
		"fraction":            {`{"count":1.5}`, "count"},
		"too big":             {`{"count":99999999999999999999}`, "count"},
		"trailing data":       {`{"name":"x"}{}`, "body"},
		"trailing text":       {`{"name":"x"} x`, "body"},
		"trailing comma":      {`{"name":"x",}`, "body"},
		"comment":             {`{"name":"x"/**/}`, "body"},
		"cut off":             {`{"name":"x`, "body"},
		"byte order mark":     {"\ufeff{}", "body"},
		"invalid UTF-8":       {"{\"name\":\"a\xff\"}", "body"},
		"lone surrogate":      {`{"name":"\ud800"}`, "body"},
		"33 deep":             {deep(32), "body"},
		"a million deep":      {strings.Repeat("[", 60_000), "body"},
		"a million deep, {":   {`{"nested":` + strings.Repeat(`{"a":`, 10_000), "body"},
		"1001 members":        {long(1001), "body"},
		"1001 named members":  {wide, "body"},
		"very long name":      {`{"` + strings.Repeat("k", 5000) + `":1}`, strings.Repeat("k", 64) + "..."},
		"NUL":                 {`{"name":"a\u0000"}`, "name"},
		"NUL further in":      {`{"params":null,"tags":["a","\u0000"]}`, "tags[1]"},
		"NUL in a name":       {`{"nested":{"a\u0000b":1}}`, `nested.a\u0000b`},
		"no NUL":              {`{"name":"a\\u0000"}`, ""},
		"control in the name": {"{\"a\nb\":1}", "body"},
	} {
		t.Run(name, func(t *testing.T) {
			w := s.do("POST", "/orders", "", c.body, "Content-Type", "application/json")
			if c.field == "" {
				require.Equal(t, 201, w.Code, w.Body)
				require.Equal(t, "/orders/1", w.Header().Get("Location"))
				return
			}
			require.Equal(t, 400, w.Code, w.Body)
			require.JSONEq(t, `{"reason":"REQUEST_INVALID","fields":["`+strings.ReplaceAll(c.field, "\n", `\n`)+`"]}`, w.Body.String())
		})
	}
	for path, want := range map[string]int{"/things/%c3%a4": 200, "/things/%00": 400, "/things/%ff": 400} {
		require.Equal(t, want, s.do("POST", path, "", "").Code, path)
	}
	require.Equal(t, 201, s.do("POST", "/optional", "", "").Code)
	require.Equal(t, 400, s.do("POST", "/optional", "", " ").Code)
	require.Equal(t, 400, s.do("POST", "/optional", "", "null").Code)
}

func TestMediaTypes(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for kind, want := range map[string]int{
		"application/json": 201, "application/json; charset=UTF-8": 201, "Application/JSON;charset=utf-8": 201,
		"": 415, "text/plain": 415, "application/x-www-form-urlencoded": 415, "application/json; charset=latin1": 415,
		"application/jsonp": 415, "application/json, text/html": 415, ";": 415,
	} {
		r := httptest.NewRequest("POST", "/orders", strings.NewReader(`{"name":"x"}`))
		if kind != "" {
			r.Header.Set("Content-Type", kind)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		require.Equal(t, want, w.Code, "%q", kind)
	}
	require.Equal(t, 415, s.do("POST", "/orders", "", `{"name":"x"}`, "Content-Encoding", "gzip").Code)
}

func TestBodyLimit(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	require.Equal(t, 200, s.do("POST", "/small", "", strings.Repeat("x", 10)).Code)
	w := s.do("POST", "/small", "", strings.Repeat("x", 11))
	require.Equal(t, 413, w.Code)
	require.Equal(t, "close", w.Header().Get("Connection"))
	require.Equal(t, 413, s.do("POST", "/orders", "", `{"name":"`+strings.Repeat("x", 64<<10)+`"}`).Code)
	// Without a declared length the limit holds while reading.
	r := httptest.NewRequest("POST", "/small", io.MultiReader(strings.NewReader("xxxxxxxxxxx")))
	r.ContentLength = -1
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, r)
	require.Equal(t, 413, rec.Code)
	// A refused caller's body is not read at all.
	r = httptest.NewRequest("POST", "/t/alpha/x", readerFunc(func([]byte) (int, error) { t.Error("body was read"); return 0, io.EOF }))
	rec = httptest.NewRecorder()
	s.ServeHTTP(rec, r)
	require.Equal(t, 401, rec.Code)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestFailuresKeepTheirSecrets(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, path := range []string{"/panic", "/plain", "/unencodable"} {
		w := s.do("GET", path, "", "")
		require.Equal(t, 500, w.Code, path)
		require.JSONEq(t, `{"reason":"INTERNAL"}`, w.Body.String())
	}
	require.Equal(t, 200, s.do("GET", "/t/alpha/x", "reader", "").Code, "a panic ends one request only")
	require.InDelta(t, 1, counter(t, s.metrics, "signet_http_panics_total"), 0)
}

func counter(t *testing.T, g prometheus.Gatherer, name string) float64 {
	families, err := g.Gather()
	require.NoError(t, err)
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func TestDeadlineIsAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		w := newServer(t).do("GET", "/slow", "", "")
		require.Equal(t, 503, w.Code)
		require.Equal(t, 10*time.Second, time.Since(started))
	})
}

func TestQuery(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for query, want := range map[string]int{
		"": 200, "?page=7&who=%C3%A4": 200, "?surplus=1": 200,
		"?page=0": 400, "?page=1001": 400, "?page=": 400, "?page=x": 400, "?page=1.0": 400, "?page=1&page=1": 400,
		"?who=%ff": 400, "?who=%00": 400, "?who=%zz": 400, "?who=a;b": 400, "?page=99999999999999999999": 400,
	} {
		w := s.do("GET", "/query"+query, "", "")
		require.Equal(t, want, w.Code, "%s: %s", query, w.Body)
	}
	require.JSONEq(t, `{"page":7,"who":"ä"}`, s.do("GET", "/query?page=7&who=%C3%A4", "", "").Body.String())
}

func TestOneLogLinePerRequestWithoutSecrets(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.do("POST", "/orders?otp=s3cret", "s3cret", `{"name":"s3cret","s3cret":"s3cret"}`, "X-Request-Id", "caller-7")
	s.do("GET", "/t/s3cret/x", "reader", "", "X-Request-Id", "a\nb s3cret")
	s.do("GET", "/t/s3cret", "", "")
	require.Equal(t, 3, strings.Count(s.log.String(), "\n"), s.log.String())
	require.NotContains(t, s.log.String(), "s3cret")
	require.Contains(t, s.log.String(), `"request_id":"caller-7"`)
	require.Contains(t, s.log.String(), `"route":"T-3"`)
	require.Contains(t, s.log.String(), `"reason":"REQUEST_INVALID"`)
	require.Contains(t, s.log.String(), `"principal":"reader"`)
}

func TestMetricsAreByRoute(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.do("GET", "/t/alpha/x", "reader", "")
	s.do("GET", "/t/alpha/x", "", "")
	s.do("GET", "/t/anything", "", "")
	require.NoError(t, testutil.GatherAndCompare(s.metrics, strings.NewReader(`
# HELP signet_http_requests_total Requests by route (inventory id) and status class.
# TYPE signet_http_requests_total counter
signet_http_requests_total{api="test",code="2xx",route="T-1"} 1
signet_http_requests_total{api="test",code="4xx",route="T-1"} 1
signet_http_requests_total{api="test",code="4xx",route="unknown"} 1
`), "signet_http_requests_total"))
}

func TestRawBodies(t *testing.T) {
	t.Parallel()
	w := newServer(t).do("GET", "/raw", "", "")
	require.Equal(t, "image/png", w.Header().Get("Content-Type"))
	require.Equal(t, []byte{1, 2}, w.Body.Bytes())
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	good := rest.Route{ID: "T-1", Method: "GET", Pattern: "/x", Allow: access.Any(access.AdminRead), Handler: ok}
	with := func(f func(*rest.Route)) []rest.Route { r := good; f(&r); return []rest.Route{r} }
	for name, table := range map[string][]rest.Route{
		"no privilege":      with(func(r *rest.Route) { r.Allow = 0 }),
		"zero privilege":    with(func(r *rest.Route) { r.Allow = access.Any(0) }),
		"invalid privilege": with(func(r *rest.Route) { r.Allow = access.Any(200) }),
		"public and more":   with(func(r *rest.Route) { r.Allow = access.Any(access.Public, access.AdminRead) }),
		"no id":             with(func(r *rest.Route) { r.ID = "" }),
		"no handler":        with(func(r *rest.Route) { r.Handler = nil }),
		"method":            with(func(r *rest.Route) { r.Method = "get" }),
		"pattern":           with(func(r *rest.Route) { r.Pattern = "x" }),
		"subtree":           with(func(r *rest.Route) { r.Pattern = "/x/" }),
		"id twice":          append(with(func(r *rest.Route) { r.Pattern = "/y" }), good),
		"route twice":       append(with(func(r *rest.Route) { r.ID = "T-2" }), good),
	} {
		_, err := rest.New(rest.Config{Dialect: dialect(), Routes: table})
		require.Error(t, err, name)
	}
	_, err := rest.New(rest.Config{Routes: []rest.Route{good}})
	require.Error(t, err, "dialect missing")
	_, err = rest.New(rest.Config{Dialect: dialect(), Routes: []rest.Route{good}})
	require.NoError(t, err)
}
