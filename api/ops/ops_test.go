package ops_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/api/ops"
)

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func TestReadyzNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	var broken error
	h, err := ops.New(ops.Config{Registry: prometheus.NewRegistry(), Checks: []ops.Check{
		{Name: "database", Run: func(context.Context) error { return broken }},
		{Name: "hsm", Run: func(context.Context) error { return nil }},
	}})
	require.NoError(t, err)
	status, body := get(t, h, "/readyz")
	require.Equal(t, 200, status)
	require.JSONEq(t, `{"status":"ok","checks":{"database":"ok","hsm":"ok"}}`, body)
	broken = errors.New("connection refused")
	status, body = get(t, h, "/readyz")
	require.Equal(t, 503, status)
	require.JSONEq(t, `{"status":"unavailable","checks":{"database":"connection refused","hsm":"ok"}}`, body)
	status, body = get(t, h, "/livez")
	require.Equal(t, 200, status)
	require.JSONEq(t, `{"status":"ok"}`, body)
}

func TestReadyzBoundsAStuckCheck(t *testing.T) {
	t.Parallel()
	h, err := ops.New(ops.Config{Registry: prometheus.NewRegistry(), Checks: []ops.Check{
		{Name: "stuck", Run: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
	}})
	require.NoError(t, err)
	at := time.Now()
	status, body := get(t, h, "/readyz")
	require.Equal(t, 503, status)
	require.True(t, json.Valid([]byte(body)))
	require.Less(t, time.Since(at), 30*time.Second)
}

func TestMetricsAndUnknown(t *testing.T) {
	t.Parallel()
	r := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "signet_probe_total", Help: "x"})
	r.MustRegister(c)
	c.Inc()
	h, err := ops.New(ops.Config{Registry: r})
	require.NoError(t, err)
	status, body := get(t, h, "/metrics")
	require.Equal(t, 200, status)
	require.Contains(t, body, "signet_probe_total 1")
	status, _ = get(t, h, "/secrets")
	require.Equal(t, 404, status)
}

func TestNewRefusesBadChecks(t *testing.T) {
	t.Parallel()
	ok := func(context.Context) error { return nil }
	for _, checks := range [][]ops.Check{{{Name: "", Run: ok}}, {{Name: "a"}}, {{Name: "a", Run: ok}, {Name: "a", Run: ok}}} {
		_, err := ops.New(ops.Config{Registry: prometheus.NewRegistry(), Checks: checks})
		require.Error(t, err)
	}
	_, err := ops.New(ops.Config{})
	require.Error(t, err)
}
