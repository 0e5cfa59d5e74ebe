package api_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api"
	"github.com/signet-hsm/signet/api/ast"
	"github.com/signet-hsm/signet/api/ops"
	"github.com/signet-hsm/signet/api/powerauth"
)

type part map[string]int

func (p part) Mount(mux *http.ServeMux) {
	for pattern, status := range p {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	}
}

func TestUncleanPathsAreUnknownNotRedirected(t *testing.T) {
	t.Parallel()
	h := api.Handler(part{"/v2/x/{id}": 200, "/v2/x": 200}, part{"/": 404})
	for path, want := range map[string]int{
		"/v2/x": 200, "/v2/x/1": 200, "/v2/x/a%2fb": 200, "/": 404,
		"//v2/x": 404, "/v2//x": 404, "/v2/./x": 404, "/v2/y/../x": 404, "/v2/x/%2e%2e/x": 404, "/v2/x/a%2f%2fb": 404,
	} {
		u, err := url.ParseRequestURI(path) // as net/http reads a request line
		require.NoError(t, err)
		r := httptest.NewRequest("GET", "/", nil)
		r.URL = u
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		require.Equal(t, want, rec.Code, path)
	}
}

func TestServerHasAllItsLimits(t *testing.T) {
	t.Parallel()
	_, err := api.NewServer(api.ServerConfig{})
	require.Error(t, err)
	s, err := api.NewServer(api.ServerConfig{Handler: api.Handler(part{"/": 200})})
	require.NoError(t, err)
	for _, d := range []time.Duration{s.ReadHeaderTimeout, s.ReadTimeout, s.WriteTimeout, s.IdleTimeout} {
		require.Positive(t, d)
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, _ = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: h\r\nX: %s\r\n\r\n", strings.Repeat("x", 64<<10))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, resp.StatusCode)
}

type credentials struct{}

func (credentials) Authenticate(context.Context, string) (access.Principal, error) {
	return access.Principal{}, access.ErrUnauthenticated
}

type passwords struct{}

func (passwords) Authenticate(context.Context, string, string) (access.Principal, error) {
	return access.Principal{}, access.ErrUnauthenticated
}

type signers struct{ ast.Signers }

type registrations struct{ powerauth.Registrations }

// The three parts stand on one mux, and each answers its own unknown URLs.
func TestPartsShareOneMux(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	a, err := ast.New(ast.Config{Signers: signers{}, Realms: credentials{}, Metrics: reg})
	require.NoError(t, err)
	p, err := powerauth.New(powerauth.Config{Registrations: registrations{}, Basic: passwords{}, Metrics: reg})
	require.NoError(t, err)
	ready, err := ops.NewReadiness()
	require.NoError(t, err)
	o, err := ops.New(ops.Config{Readiness: ready, Metrics: reg})
	require.NoError(t, err)
	h := api.Handler(a, p, o)
	for path, want := range map[string]string{
		"/v2/tenants/alpha/signers":   `401 {"code":"401",`,
		"/v2/tenants/alpha/other":     `404 {"code":"404",`,
		"/v2/registrations/x":         `401 {"responseObject":{"code":"HTTP_401"`,
		"/v2/other":                   `404 {"responseObject":{"code":"ERROR_NOT_FOUND"`,
		"/pa/v3/other":                `404 {"status":"ERROR","responseObject":{"code":"ERROR_NOT_FOUND","message":"NOT_FOUND"`,
		"//v2/tenants/alpha/signers":  `404 {"responseObject":{"code":"ERROR_NOT_FOUND"`,
		"/v2/tenants/../tenants/x":    `404 {"responseObject":{"code":"ERROR_NOT_FOUND"`,
		"/readyz":                     `200 {"ready":true`,
		"/livez":                      `200 {"live":true`,
		"/v2/tenants/alpha%2fsigners": `404 {"code":"404",`,
	} {
		rec := httptest.NewRecorder()
		u, err := url.ParseRequestURI(path)
		require.NoError(t, err)
		r := httptest.NewRequest("GET", "/", nil)
		r.URL = u
		h.ServeHTTP(rec, r)
		require.Contains(t, fmt.Sprint(rec.Code, " ", rec.Body), want, path)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	require.Contains(t, rec.Body.String(), `signet_http_requests_total{api="ast",code="4xx",route="CA-05"} 1`)
}
