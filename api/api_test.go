package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/api"
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
