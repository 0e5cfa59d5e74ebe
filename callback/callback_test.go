package callback_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/callback"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
)

func blocked(registration string) outbox.Event {
	return outbox.Event{
		Tenant: pgtest.Alpha, Kind: outbox.RegistrationChanged, App: "APP", User: "u", Registration: registration,
		Data: map[string]any{"status": "BLOCKED", "blockedReason": "MAX_FAILED_ATTEMPTS"},
	}
}

func finished(operation string, data map[string]any) outbox.Event {
	return outbox.Event{Tenant: pgtest.Alpha, Kind: outbox.OperationFinished, App: "APP", User: "u", Operation: operation, Data: data}
}

func TestPAX05_DeliversSigned(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t), newBackend(t)
	cb := w.callbacks(b.trust)
	regs := w.create(cb, callback.Registrations, b.server.URL+"/regs?key=k")
	ops := w.create(cb, callback.Operations, b.server.URL+"/ops")
	w.run(cb)

	w.add(blocked("r1"))
	c := b.wait(1)[0]
	require.Equal(t, "/regs?key=k", c.path)
	require.True(t, verified(regs.Secret, c))
	require.False(t, verified(ops.Secret, c))
	id, err := uuid.Parse(c.header.Get("webhook-id"))
	require.NoError(t, err)
	require.Equal(t, uuid.Version(7), id.Version())
	require.Equal(t, id.String(), c.header.Get("Idempotency-Key"))
	require.Equal(t, "application/json", c.header.Get("Content-Type"))
	var body map[string]any
	require.NoError(t, json.Unmarshal([]byte(c.body), &body))
	require.WithinDuration(t, time.Now(), time.UnixMilli(int64(body["timestamp"].(float64))), time.Minute)
	delete(body, "timestamp")
	require.Equal(t, map[string]any{
		"type": "ACTIVATION", "activationId": "r1", "applicationId": "APP", "userId": "u",
		"activationStatus": "BLOCKED", "blockedReason": "MAX_FAILED_ATTEMPTS",
	}, body)

	n := 1
	for _, o := range []struct {
		kind   outbox.Kind
		data   map[string]any
		status string
	}{
		{outbox.OperationCreated, map[string]any{}, "PENDING"},
		{outbox.OperationFinished, map[string]any{"result": "authentication.success"}, "APPROVED"},
		{outbox.OperationFinished, map[string]any{"result": "authentication.fail"}, "FAILED"},
		{outbox.OperationFinished, map[string]any{"result": "authentication.fail", "status": "REJECTED"}, "REJECTED"},
		{outbox.OperationFinished, map[string]any{"result": "operation.timeout"}, "EXPIRED"},
		{outbox.OperationFinished, map[string]any{"result": "operation.canceled"}, "CANCELED"},
	} {
		e := finished("o1", o.data)
		e.Kind = o.kind
		e.Data["name"] = "login"
		w.add(e)
		n++
		c := b.wait(n)[n-1]
		require.Equal(t, "/ops", c.path)
		require.True(t, verified(ops.Secret, c))
		var body map[string]any
		require.NoError(t, json.Unmarshal([]byte(c.body), &body))
		delete(body, "timestamp")
		require.Equal(t, map[string]any{
			"type": "OPERATION", "operationId": "o1", "applications": []any{"APP"}, "userId": "u", "operationType": "login", "status": o.status,
		}, body)
	}

	// Another application's and another tenant's changes are not told here.
	other, twin := blocked("r2"), blocked("r3")
	other.App, twin.Tenant = "OTHER", pgtest.Beta
	w.add(other, twin, blocked("r4"))
	require.Contains(t, b.wait(n + 1)[n].body, `"r4"`)
}

func TestPAX05_Registration(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	cb := w.callbacks()
	p := callback.CreateParams{App: "APP", Name: "ops", Type: callback.Operations, URL: "https://bank.test/cb?key=k", Actor: "backend"}
	c, err := cb.Create(ctx, pgtest.Alpha, p)
	require.NoError(t, err)
	require.Regexp(t, `^whsec_[A-Za-z0-9+/]{43}=$`, string(c.Secret.Reveal()))
	var sealed []byte
	require.NoError(t, w.db.QueryRow(ctx, `select secret_sealed from callback_endpoint`).Scan(&sealed))
	require.Greater(t, len(sealed), 32)

	_, err = cb.Create(ctx, pgtest.Alpha, p)
	require.ErrorIs(t, err, callback.ErrExists)
	_, err = cb.Create(ctx, pgtest.Beta, p)
	require.NoError(t, err)
	p.App = "OTHER"
	_, err = cb.Create(ctx, pgtest.Alpha, p)
	require.NoError(t, err)
	p.App = "NONE"
	_, err = cb.Create(ctx, pgtest.Alpha, p)
	require.ErrorIs(t, err, app.ErrNotFound)

	list, err := cb.List(ctx, pgtest.Alpha, "APP")
	require.NoError(t, err)
	require.Equal(t, []callback.Endpoint{c.Endpoint}, list)

	for _, ref := range []callback.Ref{{App: "OTHER", ID: c.ID}, {App: "APP", ID: uuid.NewString()}, {App: "APP", ID: "x"}} {
		require.ErrorIs(t, cb.Remove(ctx, pgtest.Alpha, ref), callback.ErrNotFound)
		_, err := cb.Rotate(ctx, pgtest.Alpha, ref)
		require.ErrorIs(t, err, callback.ErrNotFound)
	}
	ref := callback.Ref{App: "APP", ID: c.ID, Actor: "backend"}
	require.ErrorIs(t, cb.Remove(ctx, pgtest.Beta, ref), callback.ErrNotFound)
	fresh, err := cb.Rotate(ctx, pgtest.Alpha, ref)
	require.NoError(t, err)
	require.NotEqual(t, c.Secret.Reveal(), fresh.Reveal())
	require.NoError(t, cb.Remove(ctx, pgtest.Alpha, ref))
	list, err = cb.List(ctx, pgtest.Alpha, "APP")
	require.NoError(t, err)
	require.Empty(t, list)

	events, err := w.audit.List(ctx, pgtest.Alpha, audit.Filter{Apps: []string{"APP"}})
	require.NoError(t, err)
	var actions []string
	for _, e := range events {
		if e.Subject == c.ID {
			actions = append(actions, e.Action)
			require.Equal(t, "backend", e.Actor)
		}
	}
	require.Equal(t, []string{"callback.remove", "callback.rotate", "callback.create"}, actions)
	require.Zero(t, w.count(`select count(*) from audit_event where detail::text like '%key=k%'`))
}

func TestPAX05_Refusals(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	cb := w.callbacks(func(c *callback.Config) { c.Allow = nil })
	for name, c := range map[string]struct {
		change func(*callback.CreateParams)
		fields []string
	}{
		"empty":         {func(p *callback.CreateParams) { *p = callback.CreateParams{App: "APP"} }, []string{"name", "type", "callbackUrl"}},
		"long name":     {func(p *callback.CreateParams) { p.Name = strings.Repeat("ž", 256) }, []string{"name"}},
		"type":          {func(p *callback.CreateParams) { p.Type = "ACTIVATION_STATUS_CHANGE" }, []string{"type"}},
		"relative":      {func(p *callback.CreateParams) { p.URL = "/cb" }, []string{"callbackUrl"}},
		"http":          {func(p *callback.CreateParams) { p.URL = "http://bank.test/" }, []string{"callbackUrl"}},
		"file":          {func(p *callback.CreateParams) { p.URL = "file:///etc/passwd" }, []string{"callbackUrl"}},
		"user":          {func(p *callback.CreateParams) { p.URL = "https://u:p@bank.test/" }, []string{"callbackUrl"}},
		"fragment":      {func(p *callback.CreateParams) { p.URL = "https://bank.test/#a" }, []string{"callbackUrl"}},
		"no host":       {func(p *callback.CreateParams) { p.URL = "https://:443/" }, []string{"callbackUrl"}},
		"long":          {func(p *callback.CreateParams) { p.URL = "https://bank.test/" + strings.Repeat("x", 2048) }, []string{"callbackUrl"}},
		"loopback":      {func(p *callback.CreateParams) { p.URL = "https://127.0.0.1/" }, []string{"callbackUrl"}},
		"metadata":      {func(p *callback.CreateParams) { p.URL = "https://169.254.169.254/" }, []string{"callbackUrl"}},
		"v6 loopback":   {func(p *callback.CreateParams) { p.URL = "https://[::1]/" }, []string{"callbackUrl"}},
		"mapped":        {func(p *callback.CreateParams) { p.URL = "https://[::ffff:10.0.0.1]/" }, []string{"callbackUrl"}},
		"line break":    {func(p *callback.CreateParams) { p.URL = "https://bank.test/\r\nX: y" }, []string{"callbackUrl"}},
		"no characters": {func(p *callback.CreateParams) { p.Name = "\xff" }, []string{"name"}},
	} {
		p := callback.CreateParams{App: "APP", Name: "ops", Type: callback.Operations, URL: "https://bank.test/cb"}
		c.change(&p)
		_, err := cb.Create(ctx, pgtest.Alpha, p)
		require.ErrorIs(t, err, callback.ErrInvalid, name)
		var fields []string
		for _, v := range fault.Of(err).Violations {
			fields = append(fields, v.Field)
		}
		require.Equal(t, c.fields, fields, name)
	}
	_, err := w.db.Exec(ctx, `insert into callback_endpoint (tenant_id, id, app_id, name, type, url, secret_sealed, created_at)
select 'alpha', gen_random_uuid(), 'APP', 'n' || i, 'OPERATION_STATUS_CHANGE', 'https://bank.test', '\x00', now() from generate_series(1, $1) i`, callback.MaxEndpoints)
	require.NoError(t, err)
	_, err = cb.Create(ctx, pgtest.Alpha, callback.CreateParams{App: "APP", Name: "one more", Type: callback.Operations, URL: "https://bank.test/cb"})
	require.ErrorIs(t, err, callback.ErrLimit)
	over, cancel := context.WithCancel(ctx)
	cancel()
	_, err = cb.Create(over, pgtest.Alpha, callback.CreateParams{App: "APP", Name: "x", Type: callback.Operations, URL: "https://bank.test/cb"})
	require.ErrorIs(t, err, fault.ErrUnavailable)
}

func TestRotationSignsWithBothForADay(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t), newBackend(t)
	cb := w.callbacks(b.trust)
	c := w.create(cb, callback.Registrations, b.server.URL)
	fresh, err := cb.Rotate(t.Context(), pgtest.Alpha, callback.Ref{App: "APP", ID: c.ID})
	require.NoError(t, err)
	w.run(cb)
	w.add(blocked("r"))
	got := b.wait(1)[0]
	require.True(t, verified(c.Secret, got))
	require.True(t, verified(fresh, got))
	w.skew.Store(int64(25 * time.Hour))
	w.add(blocked("r"))
	got = b.wait(2)[1]
	require.False(t, verified(c.Secret, got))
	require.True(t, verified(fresh, got))
}

// Fault 38: errors, redirects, huge and endless answers; one key for all
// attempts; everything arrives once the endpoint is well.
func TestFaultsOfAnEndpoint(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t), newBackend(t)
	var elsewhere atomic.Int32
	b.answer = func(n int, rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			elsewhere.Add(1)
			return
		}
		switch n {
		case 0:
			rw.WriteHeader(http.StatusInternalServerError)
		case 1:
			http.Redirect(rw, r, "/elsewhere", http.StatusTemporaryRedirect)
		case 2:
			panic(http.ErrAbortHandler) // the connection breaks
		case 3: // it hangs
			<-r.Context().Done()
		case 4: // it never ends
			rw.WriteHeader(http.StatusBadGateway)
			for r.Context().Err() == nil {
				if _, err := rw.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		case 5:
			rw.Header().Set("Retry-After", "1")
			rw.WriteHeader(http.StatusTooManyRequests)
		}
	}
	cb := w.callbacks(b.trust, func(c *callback.Config) { c.Timeout, c.Breaker.Failures = 300*time.Millisecond, 100 })
	c := w.create(cb, callback.Registrations, b.server.URL+"/hook")
	w.run(cb)
	w.add(blocked("r"))
	got := b.wait(7)
	for _, g := range got {
		require.Equal(t, got[0].header.Get("Idempotency-Key"), g.header.Get("Idempotency-Key"))
		require.Equal(t, got[0].body, g.body)
		require.True(t, verified(c.Secret, g), "each attempt is signed for its own time")
	}
	require.Zero(t, elsewhere.Load())
	require.Eventually(t, func() bool {
		return w.count(`select count(*) from river_job where kind = 'signet.delivery' and state = 'completed'`) == 1
	}, soon, 5*time.Millisecond)
	require.Len(t, b.calls(), 7)
}

func TestGivenUpIsADeadLetterWithAnAuditEvent(t *testing.T) {
	t.Parallel()
	ctx, w, b := t.Context(), newWorld(t), newBackend(t)
	b.answer = func(_ int, rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/gone" {
			rw.WriteHeader(http.StatusGone)
			return
		}
		rw.WriteHeader(http.StatusTeapot)
	}
	cb := w.callbacks(b.trust)
	gone := w.create(cb, callback.Operations, b.server.URL+"/gone?key=hidden")
	bad := w.create(cb, callback.Operations, b.server.URL+"/bad?key=hidden")
	w.run(cb, func(c *outbox.Consumer) { c.Attempts = 3 })
	w.add(finished("o1", map[string]any{"result": "operation.timeout"}))
	var dead []outbox.DeadLetter
	require.Eventually(t, func() bool {
		var err error
		dead, err = w.outbox.Dead(ctx, pgtest.Alpha, 0, 0)
		require.NoError(t, err)
		return len(dead) == 2
	}, soon, 5*time.Millisecond)
	require.Len(t, b.calls(), 4, "410 once, the other three times")
	attempts := map[string]int{}
	for _, l := range dead {
		require.NotContains(t, l.Cause, "hidden")
		attempts[l.Delivery.Target] = l.Delivery.Attempt
	}
	require.Equal(t, map[string]int{gone.ID: 1, bad.ID: 3}, attempts)
	events, err := w.audit.List(ctx, pgtest.Alpha, audit.Filter{})
	require.NoError(t, err)
	told := map[any]string{}
	for _, e := range events {
		if e.Action == "callback.dead" {
			require.Equal(t, "o1", e.Subject)
			told[e.Detail["callback"]] = e.Detail["cause"].(string)
		}
	}
	require.Len(t, told, 2)
	require.Contains(t, told[bad.ID], "answer 418")

	// What is on its way to an endpoint that is removed is dropped.
	require.NoError(t, cb.Remove(ctx, pgtest.Alpha, callback.Ref{App: "APP", ID: bad.ID}))
	require.NoError(t, w.outbox.Redeliver(ctx, pgtest.Alpha, dead[0].ID))
	require.NoError(t, w.outbox.Redeliver(ctx, pgtest.Alpha, dead[1].ID))
	require.Eventually(t, func() bool {
		return w.count(`select count(*) from river_job where kind = 'signet.delivery' and state = 'completed'`) == 1
	}, soon, 5*time.Millisecond)
}

// An endpoint that is down is asked five times, not once for each event; when it
// is back, everything arrives.
func TestBreakerLeavesAnEndpointAlone(t *testing.T) {
	t.Parallel()
	w, down, fine := newWorld(t), newBackend(t), newBackend(t)
	var well atomic.Bool
	down.answer = func(_ int, rw http.ResponseWriter, _ *http.Request) {
		if !well.Load() {
			rw.WriteHeader(http.StatusServiceUnavailable)
		}
	}
	const open = 700 * time.Millisecond
	cb := w.callbacks(down.trust, func(c *callback.Config) {
		c.TLS.RootCAs.AddCert(fine.server.Certificate())
		c.Breaker = callback.Breaker{Open: open, MaxOpen: open}
		c.Workers = 2 // one at a time for each
	})
	w.create(cb, callback.Registrations, down.server.URL)
	w.create(cb, callback.Registrations, fine.server.URL)
	w.run(cb, func(c *outbox.Consumer) { c.Attempts = 1000 })
	const events = 10
	began := time.Now()
	for range events {
		w.add(blocked("r"))
	}
	fine.wait(events)
	down.wait(5)
	time.Sleep(300 * time.Millisecond)
	asked := len(down.calls())
	// One more may be under way at once, and one for each time that it half opened.
	require.LessOrEqual(t, asked, 6+int(time.Since(began)/open))
	well.Store(true)
	ids := func() map[string]bool {
		out := map[string]bool{}
		for _, c := range down.calls() {
			out[c.header.Get("webhook-id")] = true
		}
		return out
	}
	require.Eventually(t, func() bool {
		return len(ids()) == events && w.count(`select count(*) from river_job where kind = 'signet.delivery' and state = 'completed'`) == 2*events
	}, 2*soon, 10*time.Millisecond)
}

// An endpoint that hangs holds half of the workers; nobody who adds waits, and
// the others are told.
func TestASlowEndpointBlocksNobody(t *testing.T) {
	t.Parallel()
	w, slow, fine := newWorld(t), newBackend(t), newBackend(t)
	slow.answer = func(_ int, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	cb := w.callbacks(slow.trust, func(c *callback.Config) {
		c.TLS.RootCAs.AddCert(fine.server.Certificate())
		c.Workers, c.Timeout = 2, 20*time.Second
	})
	w.create(cb, callback.Registrations, slow.server.URL)
	w.create(cb, callback.Operations, fine.server.URL)
	stop := w.run(cb)
	for range 5 {
		begun := time.Now()
		w.add(blocked("r"), finished("o", map[string]any{"result": "operation.timeout"}))
		require.Less(t, time.Since(begun), 2*time.Second)
	}
	fine.wait(5)
	require.Len(t, slow.calls(), 1)
	stop()
}

// Fault 39: the address counts, at the moment it is dialled.
func TestInternalAddressesAreNotCalled(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	_, port, _ := strings.Cut(strings.TrimPrefix(b.server.URL, "https://"), ":")
	for name, c := range map[string]struct {
		url      string
		resolver func(*testing.T, *callback.Config)
		allow    []netip.Prefix
		blocked  bool
	}{
		"by name of the machine": {url: "https://localhost:" + port, blocked: true},
		"a name that leads inside": {url: "https://example.com:" + port, blocked: true, resolver: func(t *testing.T, c *callback.Config) {
			c.Resolver = nameServer(t, func() netip.Addr { return netip.MustParseAddr("127.0.0.1") })
		}},
		"another network is allowed": {url: "https://localhost:" + port, blocked: true, allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		"allowed": {url: "https://example.com:" + port, allow: loopback, resolver: func(t *testing.T, c *callback.Config) {
			c.Resolver = nameServer(t, func() netip.Addr { return netip.MustParseAddr("127.0.0.1") })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			before := len(b.calls())
			cb := w.callbacks(b.trust, func(cfg *callback.Config) {
				cfg.Allow = c.allow
				if c.resolver != nil {
					c.resolver(t, cfg)
				}
			})
			w.create(cb, callback.Registrations, c.url)
			w.run(cb)
			w.add(blocked("r"))
			if !c.blocked {
				b.wait(before + 1)
				return
			}
			require.Eventually(t, func() bool {
				return w.count(`select count(*) from audit_event where action = 'callback.dead' and detail->>'cause' like '%not public%'`) == 1
			}, soon, 5*time.Millisecond)
			require.Len(t, b.calls(), before)
		})
	}
}

// A name that was good when it was first used is judged again at the next dial.
func TestANameThatChangesItsMind(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t), newBackend(t)
	_, port, _ := strings.Cut(strings.TrimPrefix(b.server.URL, "https://"), ":")
	var inside atomic.Bool
	cb := w.callbacks(b.trust, func(c *callback.Config) {
		c.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")} // stands for the public internet
		c.Resolver = nameServer(t, func() netip.Addr {
			if inside.Load() {
				return netip.MustParseAddr("127.0.0.2")
			}
			return netip.MustParseAddr("127.0.0.1")
		})
	})
	w.create(cb, callback.Registrations, "https://example.com:"+port)
	w.run(cb)
	w.add(blocked("r"))
	b.wait(1)
	require.Eventually(t, func() bool {
		return w.count(`select count(*) from river_job where kind = 'signet.delivery' and state = 'completed'`) == 1
	}, soon, 5*time.Millisecond)
	cb.Close() // the connection that is open leads to where it was allowed
	inside.Store(true)
	w.add(blocked("r"))
	require.Eventually(t, func() bool {
		return w.count(`select count(*) from audit_event where action = 'callback.dead' and detail->>'cause' like '%not public%'`) == 1
	}, soon, 5*time.Millisecond)
	require.Len(t, b.calls(), 1)
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	_, err := callback.New(callback.Config{})
	require.Error(t, err)
}
