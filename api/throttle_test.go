package api_test

import (
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/api"
)

// clients ask a throttled server at a time of the test's choice.
type clients struct {
	tb      testing.TB
	now     time.Time
	handler http.Handler
}

func throttle(tb testing.TB, c api.ThrottleConfig) *clients {
	tb.Helper()
	x := &clients{tb: tb, now: time.Unix(1_700_000_000, 0)}
	c.Now = func() time.Time { return x.now }
	t, err := api.NewThrottle(c)
	require.NoError(tb, err)
	x.handler = t.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	return x
}

func (x *clients) ask(remote, path string, forwarded ...string) *httptest.ResponseRecorder {
	x.tb.Helper()
	r := httptest.NewRequest(http.MethodPost, path, nil)
	r.RemoteAddr = remote
	for _, f := range forwarded {
		r.Header.Add("X-Forwarded-For", f)
	}
	w := httptest.NewRecorder()
	x.handler.ServeHTTP(w, r)
	return w
}

const status = "/pa/v3/status"

func TestThrottle(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	x := throttle(t, api.ThrottleConfig{Rate: 0.5, Burst: 3, Metrics: reg})
	for range 3 {
		require.Equal(t, 204, x.ask("192.0.2.1:1000", status).Code)
	}
	w := x.ask("192.0.2.1:2000", status)
	require.Equal(t, 429, w.Code, "another port is no other client")
	require.Equal(t, "2", w.Header().Get("Retry-After"))
	require.JSONEq(t, `{"status":"ERROR","responseObject":{"code":"ERROR_TOO_MANY_REQUESTS","message":"Too many requests"}}`, w.Body.String())
	require.Equal(t, 429, x.ask("192.0.2.1:1", "/api/auth/token/app/operation/list").Code, "one bucket for all of them")
	w = x.ask("192.0.2.1:1", "/v1/tenants/alpha/certificates/renew")
	require.Equal(t, 429, w.Code)
	require.JSONEq(t, `{"code":"429","subsystem":599,"message":"too many requests"}`, w.Body.String())
	require.Equal(t, 204, x.ask("192.0.2.1:1", "/v2/signature/verify").Code, "callers with credentials are not throttled")
	require.Equal(t, 204, x.ask("192.0.2.2:1", status).Code)
	require.Equal(t, 204, x.ask("@", status).Code, "a local socket")

	x.now = x.now.Add(2 * time.Second)
	require.Equal(t, 204, x.ask("192.0.2.1:1", status).Code)
	require.Equal(t, 429, x.ask("192.0.2.1:1", status).Code)
	refused, err := testutil.GatherAndCount(reg, "signet_api_throttled_total")
	require.NoError(t, err)
	require.Equal(t, 1, refused)
}

func TestThrottledClients(t *testing.T) {
	t.Parallel()
	x := throttle(t, api.ThrottleConfig{Rate: 1, Burst: 1, Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	for _, c := range []struct {
		remote    string
		forwarded []string
		want      int
	}{
		{"[2001:db8::1]:1", nil, 204},
		{"[2001:db8::ffff:1]:1", nil, 429}, // of the same /64
		{"[2001:db8:0:1::1]:1", nil, 204},
		{"[::ffff:192.0.2.1]:1", nil, 204},
		{"192.0.2.1:1", nil, 429},
		{"10.0.0.1:1", []string{"198.51.100.1"}, 204},
		{"10.0.0.2:1", []string{"198.51.100.1"}, 429},              // by another proxy
		{"10.0.0.1:1", []string{"203.0.113.9, 198.51.100.1"}, 429}, // what a client claims
		{"10.0.0.1:1", []string{"198.51.100.2"}, 204},
		{"192.0.2.2:1", []string{"198.51.100.3"}, 204}, // no proxy of ours
		{"192.0.2.2:1", []string{"198.51.100.4"}, 429},
	} {
		require.Equal(t, c.want, x.ask(c.remote, status, c.forwarded...).Code, "%s %s", c.remote, c.forwarded)
	}
}

func TestThrottleCountsConcurrentRequests(t *testing.T) {
	t.Parallel()
	x := throttle(t, api.ThrottleConfig{Rate: 1, Burst: 10, Clients: 10})
	var (
		wg      sync.WaitGroup
		allowed atomic.Int32
	)
	for range 100 {
		wg.Go(func() {
			if x.ask("192.0.2.1:1", status).Code == 204 {
				allowed.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 10, allowed.Load())
}

func TestThrottleConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []api.ThrottleConfig{
		{}, {Rate: -1}, {Rate: math.NaN()}, {Rate: math.Inf(1)}, {Rate: 1, Burst: -1}, {Rate: 1, Clients: -1},
	} {
		_, err := api.NewThrottle(c)
		require.Error(t, err)
	}
}
