package ops_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/api/ops"
)

func good(context.Context) error { return nil }

func get(t *testing.T, r *ops.Readiness, path string) *httptest.ResponseRecorder {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "signet_test_total"}))
	a, err := ops.New(ops.Config{Readiness: r, Metrics: reg})
	require.NoError(t, err)
	return ask(a, path)
}

func ask(a *ops.API, path string) *httptest.ResponseRecorder {
	mux := http.NewServeMux()
	a.Mount(mux)
	rec := httptest.NewRecorder()
	mux.ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
	return rec
}

func TestReadyzNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	var out atomic.Bool
	r, err := ops.NewReadiness(
		ops.Check{Name: "database", Func: good},
		ops.Check{Name: "hsm", Func: func(context.Context) error {
			if out.Load() {
				return errors.New("did not sign since 10:00")
			}
			return nil
		}},
	)
	require.NoError(t, err)
	rec := get(t, r, "/readyz")
	require.Equal(t, 200, rec.Code)
	require.JSONEq(t, `{"ready":true,"checks":[{"name":"database","ok":true},{"name":"hsm","ok":true}]}`, rec.Body.String())
	require.NoError(t, r.Ready(t.Context()))

	out.Store(true)
	rec = get(t, r, "/readyz")
	require.Equal(t, 503, rec.Code)
	require.JSONEq(t, `{"ready":false,"checks":[{"name":"database","ok":true},{"name":"hsm","ok":false}]}`, rec.Body.String())
	require.ErrorContains(t, r.Ready(t.Context()), "hsm: did not sign")
	require.Equal(t, 200, get(t, r, "/livez").Code, "alive, though not ready")

	out.Store(false)
	r.Drain()
	require.Equal(t, 503, get(t, r, "/readyz").Code)
	require.Error(t, r.Ready(t.Context()))
}

// Why a check fails is for the log, once for as long as it stays so.
func TestCausesGoToTheLog(t *testing.T) {
	t.Parallel()
	var (
		cause error
		log   strings.Builder
	)
	r, err := ops.NewReadiness(ops.Check{Name: "database", Func: func(context.Context) error { return cause }})
	require.NoError(t, err)
	a, err := ops.New(ops.Config{Readiness: r, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	lines := func() (list []string) {
		for line := range strings.Lines(log.String()) {
			_, line, _ = strings.Cut(strings.TrimSpace(line), " ") // the time
			list = append(list, line)
		}
		return list
	}
	for _, cause = range []error{nil, errors.New("db7.bank.example: refused"), errors.New("db7.bank.example: refused"), errors.New("no route"), nil, nil} {
		require.NotContains(t, ask(a, "/readyz").Body.String(), "bank.example")
	}
	require.Equal(t, []string{
		`level=WARN msg="not ready" check=database error="db7.bank.example: refused"`,
		`level=WARN msg="not ready" check=database error="no route"`,
		`level=INFO msg="ready again" check=database`,
	}, lines())
}

func TestChecksThatHangOrPanicAreFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		r, err := ops.NewReadiness(
			ops.Check{Name: "hangs", Func: func(context.Context) error { <-release; return nil }},
			ops.Check{Name: "panics", Func: func(context.Context) error { panic("boom") }},
			ops.Check{Name: "good", Func: good},
		)
		require.NoError(t, err)
		started := time.Now()
		results := r.Results(t.Context())
		require.Equal(t, 2*time.Second, time.Since(started))
		require.False(t, results[0].OK)
		require.Equal(t, "panic: boom", results[1].Error)
		require.True(t, results[2].OK)
	})
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	r, err := ops.NewReadiness()
	require.NoError(t, err)
	require.Contains(t, get(t, r, "/metrics").Body.String(), "signet_test_total 0")
	_, err = ops.New(ops.Config{})
	require.Error(t, err)
	_, err = ops.NewReadiness(ops.Check{Name: "x"})
	require.Error(t, err)
}
