package identity_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/egress"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/registration/identity"
	"github.com/signet-hsm/signet/tenant"
)

var (
	alpha    = tenant.MustParse("alpha")
	loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	rawKey   = []byte("0123456789abcdef0123456789abcdef")
	shared   = "whsec_" + base64.StdEncoding.EncodeToString(rawKey)
)

// bank is an identity provider: who has the voucher V-1 is petr.
func bank(tb testing.TB) (url string) {
	tb.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		unix, stamp := strconv.ParseInt(r.Header.Get("Webhook-Timestamp"), 10, 64)
		want := egress.Sign([]secret.Bytes{secret.New(rawKey)}, r.Header.Get("Webhook-Id"), time.Unix(unix, 0), body)
		if err != nil || stamp != nil || r.Method != http.MethodPost || r.Header.Get("Webhook-Signature") != want {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		var q struct {
			Tenant, AppID      string
			IdentityAttributes map[string]any
			CustomAttributes   map[string]any
		}
		if json.Unmarshal(body, &q) != nil || q.Tenant != "alpha" || q.AppID != "APP" || q.CustomAttributes["campaign"] != "spring" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if q.IdentityAttributes["voucher"] != "V-1" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"userId":"petr","flags":["VOUCHER"],"since":2026}`)
	}))
	tb.Cleanup(srv.Close)
	return srv.URL
}

func provider(tb testing.TB, url string, change ...func(*identity.Config)) *identity.Provider {
	tb.Helper()
	c := identity.Config{
		Endpoints: []identity.Endpoint{{Tenant: alpha, App: "APP", URL: url, Secret: secret.New([]byte(shared)), Commit: true}},
		Allow:     loopback, AllowHTTP: true,
	}
	for _, f := range change {
		f(&c)
	}
	p, err := identity.New(c)
	require.NoError(tb, err)
	tb.Cleanup(p.Close)
	return p
}

func activation(voucher string) registration.CustomActivation {
	return registration.CustomActivation{
		Tenant: alpha, App: "APP", Identity: map[string]any{"voucher": voucher}, Custom: map[string]any{"campaign": "spring"},
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	p := provider(t, bank(t))
	user, err := p.Resolve(t.Context(), activation("V-1"))
	require.NoError(t, err)
	require.Equal(t, &registration.CustomUser{UserID: "petr", Flags: []string{"VOUCHER"}, Commit: true}, user)

	user, err = p.Resolve(t.Context(), activation("V-2"))
	require.NoError(t, err)
	require.Nil(t, user)

	elsewhere := activation("V-1")
	elsewhere.App = "OTHER"
	user, err = p.Resolve(t.Context(), elsewhere)
	require.NoError(t, err)
	require.Nil(t, user, "no endpoint vouches for nobody")
}

// Whatever is not a clear answer is an outage, and tells nothing of the attributes.
func TestResolveFailsClosed(t *testing.T) {
	t.Parallel()
	const private = "hunter2"
	good := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, body)
		}
	}
	status := func(n int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, private, n) }
	}
	for name, h := range map[string]http.HandlerFunc{
		"500": status(500), "404": status(404), "401": status(401), "201": status(201),
		"redirect":   func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) },
		"no JSON":    func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"userId":"petr"}`) },
		"broken":     good(`{"userId":"` + private),
		"empty":      good(``),
		"no user":    good(`{}`),
		"null":       good(`{"userId":null}`),
		"number":     good(`{"userId":7}`),
		"twice":      good(`{"userId":"a","userId":"b"}`),
		"long":       good(`{"userId":"` + strings.Repeat("x", 256) + `"}`),
		"zero":       good(`{"userId":"a\u0000"}`),
		"empty flag": good(`{"userId":"a","flags":[""]}`),
		"many flags": good(`{"userId":"a","flags":["` + strings.Repeat(`f","`, 100) + `f"]}`),
		"large":      good(`{"userId":"a","x":"` + strings.Repeat("x", 64<<10) + `"}`),
		"hang up": func(http.ResponseWriter, *http.Request) {
			panic(http.ErrAbortHandler)
		},
	} {
		srv := httptest.NewServer(h)
		user, err := provider(t, srv.URL+"/?key="+private).Resolve(t.Context(), activation(private))
		require.Error(t, err, name)
		require.Nil(t, user, name)
		require.NotContains(t, err.Error(), private, name)
		srv.Close()
	}
	_, err := provider(t, "http://127.0.0.1:1/").Resolve(t.Context(), activation(private))
	require.Error(t, err)
	_, err = provider(t, strings.Replace(bank(t), "127.0.0.1", "localhost", 1), func(c *identity.Config) { c.Allow = nil }).Resolve(t.Context(), activation("V-1"))
	require.ErrorIs(t, err, egress.ErrBlocked, "a name that leads inside")
	_, err = provider(t, bank(t), func(c *identity.Config) {
		c.Endpoints[0].Secret = egress.ShowSecret(secret.New(make([]byte, 32)))
	}).Resolve(t.Context(), activation("V-1"))
	require.ErrorContains(t, err, "status 401")
}

// An endpoint that hangs holds a bounded number of requests, each for a bounded time.
func TestResolveIsBounded(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{}, 2*identity.MaxCalls)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		entered <- struct{}{}
		<-r.Context().Done()
	}))
	t.Cleanup(srv.Close)
	p := provider(t, srv.URL, func(c *identity.Config) { c.Timeout = time.Hour })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, identity.MaxCalls)
	for range identity.MaxCalls {
		go func() {
			_, err := p.Resolve(ctx, activation("V-1"))
			done <- err
		}()
	}
	for range identity.MaxCalls {
		<-entered
	}
	one, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	_, err := p.Resolve(one, activation("V-1"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Empty(t, entered, "not called any more")
	cancel()
	for range identity.MaxCalls {
		require.ErrorIs(t, <-done, context.Canceled)
	}
	_, err = provider(t, srv.URL, func(c *identity.Config) { c.Timeout = 50 * time.Millisecond }).Resolve(t.Context(), activation("V-1"))
	var timeout interface{ Timeout() bool }
	require.True(t, errors.As(err, &timeout) && timeout.Timeout(), "%v", err)
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	base := identity.Endpoint{Tenant: alpha, App: "APP", URL: "https://idp.bank.example/resolve", Secret: secret.New([]byte(shared))}
	for name, change := range map[string]func(*identity.Endpoint){
		"no tenant": func(e *identity.Endpoint) { e.Tenant = tenant.ID{} },
		"no app":    func(e *identity.Endpoint) { e.App = "" },
		"http":      func(e *identity.Endpoint) { e.URL = "http://idp.bank.example/" },
		"relative":  func(e *identity.Endpoint) { e.URL = "/resolve" },
		"user":      func(e *identity.Endpoint) { e.URL = "https://u:p@idp.bank.example/" },
		"fragment":  func(e *identity.Endpoint) { e.URL = "https://idp.bank.example/#x" },
		"internal":  func(e *identity.Endpoint) { e.URL = "https://169.254.169.254/" },
		"secret":    func(e *identity.Endpoint) { e.Secret = secret.New([]byte("short")) },
	} {
		e := base
		change(&e)
		_, err := identity.New(identity.Config{Endpoints: []identity.Endpoint{e}})
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "short", name)
	}
	_, err := identity.New(identity.Config{Endpoints: []identity.Endpoint{base, base}})
	require.ErrorContains(t, err, "two endpoints")
	_, err = identity.New(identity.Config{Timeout: -1})
	require.Error(t, err)
	_, err = identity.New(identity.Config{Endpoints: []identity.Endpoint{base}})
	require.NoError(t, err)
}
