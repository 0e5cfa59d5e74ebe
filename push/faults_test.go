package push_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/push"
)

// Fault 41: what a provider refuses never reaches a caller; dead tokens go,
// overload is waited out, wrong credentials are logged in again.
func TestProviderFaults(t *testing.T) {
	t.Parallel()
	type step struct {
		status int
		body   string
		header map[string]string
	}
	const gone = `{"reason":"Unregistered","timestamp":4102444800000}` // in 2100: after the token was told
	for name, c := range map[string]struct {
		at           push.Platform
		steps        []step // then success
		pruned, dead bool
		relogin      bool
	}{
		"apns gone":             {at: push.APNs, steps: []step{{410, gone, nil}}, pruned: true},
		"apns bad token":        {at: push.APNs, steps: []step{{400, `{"reason":"BadDeviceToken"}`, nil}}, pruned: true},
		"apns overload":         {at: push.APNs, steps: []step{{429, `{"reason":"TooManyRequests"}`, map[string]string{"Retry-After": "1"}}, {503, ``, nil}}},
		"apns old login":        {at: push.APNs, steps: []step{{403, `{"reason":"ExpiredProviderToken"}`, nil}}, relogin: true},
		"apns broken line":      {at: push.APNs, steps: []step{{0, ``, nil}}}, // the error would repeat the URL
		"apns too large":        {at: push.APNs, steps: []step{{413, `{"reason":"PayloadTooLarge"}`, nil}}, dead: true},
		"apns no answer to use": {at: push.APNs, steps: []step{{500, `<html>`, nil}, {502, strings.Repeat("x", 1<<20), nil}}},
		"apns redirect":         {at: push.APNs, steps: []step{{302, ``, map[string]string{"Location": "/elsewhere"}}}, dead: true},
		"fcm gone":              {at: push.FCM, steps: []step{{404, `{"error":{"status":"NOT_FOUND","details":[{"@type":"x"},{"errorCode":"UNREGISTERED"}]}}`, nil}}, pruned: true},
		"fcm overload":          {at: push.FCM, steps: []step{{429, `{"error":{"status":"RESOURCE_EXHAUSTED"}}`, map[string]string{"Retry-After": "1"}}}},
		"fcm old login":         {at: push.FCM, steps: []step{{401, `{"error":{"status":"UNAUTHENTICATED"}}`, nil}}, relogin: true},
		"fcm bad argument":      {at: push.FCM, steps: []step{{400, `{"error":{"status":"INVALID_ARGUMENT"}}`, nil}}, dead: true},
		"hms gone":              {at: push.HMS, steps: []step{{200, `{"code":"80300007"}`, nil}}, pruned: true},
		"hms old login":         {at: push.HMS, steps: []step{{200, `{"code":"80200003"}`, nil}}, relogin: true},
		"hms trouble":           {at: push.HMS, steps: []step{{200, `{"code":"81000001"}`, nil}, {503, ``, nil}}},
		"hms too large":         {at: push.HMS, steps: []step{{200, `{"code":"80300008"}`, nil}}, dead: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.providers.answer = func(n int, rw http.ResponseWriter, _ request) bool {
				if n >= len(c.steps) {
					return false
				}
				for k, v := range c.steps[n].header {
					rw.Header().Set(k, v)
				}
				if c.steps[n].status == 0 {
					panic(http.ErrAbortHandler)
				}
				rw.WriteHeader(c.steps[n].status)
				_, _ = rw.Write([]byte(c.steps[n].body))
				return true
			}
			p := w.pusher()
			w.credentials(p)
			w.device(p, "u", c.at, appleToken)
			w.run(p)
			w.add(created("u"))
			switch {
			case c.pruned:
				require.Eventually(t, func() bool { return w.count(`select count(*) from push_device`) == 0 }, soon, 5*time.Millisecond)
				require.Equal(t, 1, w.count(`select count(*) from audit_event where action = 'push.device.prune' and outcome = 'dead_token'`))
				require.Len(t, w.providers.requests(), 1)
			case c.dead:
				require.Eventually(t, func() bool { return w.count(`select count(*) from audit_event where action = 'push.dead'`) == 1 }, soon, 5*time.Millisecond)
				require.Len(t, w.providers.requests(), 1)
				require.Equal(t, 1, w.count(`select count(*) from push_device`))
			default:
				got := w.providers.wait(len(c.steps) + 1)
				if c.relogin {
					require.NotEqual(t, got[0].header.Get("Authorization"), got[1].header.Get("Authorization"))
				}
			}
			require.Zero(t, w.count(`select count(*) from river_job where errors::text like '%' || $1 || '%'`, appleToken), "no device token in what is kept")
		})
	}
}

// The provider may speak of the token before the present one.
func TestAStaleVerdictDoesNotDeleteAReplacedToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.providers.answer = func(n int, rw http.ResponseWriter, _ request) bool {
		if n > 0 {
			return false
		}
		rw.WriteHeader(http.StatusGone)
		_, _ = rw.Write([]byte(`{"reason":"Unregistered","timestamp":1000}`))
		return true
	}
	p := w.pusher()
	w.credentials(p)
	w.device(p, "u", push.APNs, appleToken)
	w.run(p)
	w.add(created("u"))
	w.providers.wait(2)
	require.Equal(t, 1, w.count(`select count(*) from push_device`))
}

// What is personal is asked for again when it was delayed; a change of the
// registration is told all the same.
func TestPUSHX10_ADelayedPushDoesNotReachABlockedDevice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var refuse atomic.Bool
	refuse.Store(true)
	w.providers.answer = func(_ int, rw http.ResponseWriter, _ request) bool {
		if refuse.Load() {
			rw.WriteHeader(http.StatusServiceUnavailable)
		}
		return refuse.Load()
	}
	p := w.pusher()
	w.credentials(p)
	id := w.device(p, "u", push.APNs, appleToken)
	w.run(p)
	w.add(created("u"))
	w.providers.wait(1)
	_, err := w.db.Exec(t.Context(), `update registration set state = 'BLOCKED' where id = $1`, id)
	require.NoError(t, err)
	w.skew.Store(int64(2 * time.Minute))
	done := func() int {
		return w.count(`select count(*) from river_job where kind = 'signet.delivery' and state = 'completed'`)
	}
	require.Eventually(t, func() bool { return done() == 1 }, soon, 5*time.Millisecond)
	refuse.Store(false)
	before := len(w.providers.requests())
	w.add(outbox.Event{Tenant: pgtest.Alpha, Kind: outbox.RegistrationChanged, App: "APP", User: "u", Registration: id, Data: map[string]any{"status": "BLOCKED"}})
	require.Eventually(t, func() bool { return done() == 2 }, soon, 5*time.Millisecond)
	got := w.providers.requests()[before:]
	require.Len(t, got, 1)
	require.Equal(t, "mtoken.statusChange", got[0].body["messageType"])
}

// A provider that hangs holds its share of the workers; the others go on.
func TestPUSHX13_AProviderThatHangsStopsNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	release := make(chan struct{})
	w.providers.answer = func(_ int, _ http.ResponseWriter, r request) bool {
		if strings.HasPrefix(r.path, "/sandbox/") {
			<-release
		}
		return false
	}
	p := w.pusher(func(c *push.Config) { c.Workers, c.Timeout = 2, 30*time.Second })
	w.credentials(p)
	w.device(p, "apple", push.APNs, appleToken)
	w.device(p, "google", push.FCM, "token")
	w.run(p)
	t.Cleanup(func() { close(release) }) // before the runner stops
	for range 3 {
		w.add(created("apple"))
	}
	w.providers.wait(1)
	for range 3 {
		w.add(created("google"))
	}
	got := w.providers.wait(4)
	for _, r := range got[1:] {
		require.Contains(t, r.path, "/google/")
	}
}

// A login that is refused is no reason to give up at once, and its answer, which
// may repeat what we sent, is kept nowhere.
func TestALoginThatFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pusher()
	require.NoError(t, p.SetHMS(t.Context(), pgtest.Alpha, push.HMSCredential{App: "APP", HMSAppID: "10001", ClientSecret: secret.New([]byte("wrong"))}))
	w.device(p, "u", push.HMS, "token")
	w.run(p)
	w.add(created("u"), created("u"), created("u"))
	require.Eventually(t, func() bool {
		return w.count(`select count(*) from river_job where errors::text like '%invalid_grant%'`) == 3
	}, soon, 5*time.Millisecond)
	require.Zero(t, w.count(`select count(*) from river_job where errors::text like '%repeats%' or errors::text like '%wrong%'`))
	require.Less(t, w.providers.loginCount(), 3, "one attempt for all who wait")
	require.NoError(t, p.SetHMS(t.Context(), pgtest.Alpha, push.HMSCredential{App: "APP", HMSAppID: "10001", ClientSecret: secret.New([]byte(hmsSecret))}))
	w.providers.wait(3)
}
