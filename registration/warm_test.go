package registration_test

import (
	"bytes"
	"context"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
	"github.com/signet-hsm/signet/tenant"
)

// statements counts what goes to the database, BEGIN and COMMIT too.
type statements struct{ n atomic.Int64 }

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	s.n.Add(1)
	return ctx
}

func (*statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// measured is one node whose every statement, HSM operation, unwrapped data key and
// opened registration is counted.
type measured struct {
	*world
	statements statements
	metrics    *prometheus.Registry
}

func newMeasured(t *testing.T) *measured {
	t.Helper()
	m := &measured{metrics: prometheus.NewRegistry()}
	c := softhsmtest.Create(t).HSM()
	c.Metrics = m.metrics
	m.world = newWorldWith(t, pgtest.URL(t), softhsmtest.Open(t, c))
	traced := m.pool().Config()
	traced.ConnConfig.Tracer = &m.statements
	db, err := pgxpool.NewWithConfig(t.Context(), traced)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	keys := envelope.New(db, m.kek, envelope.Options{Metrics: m.metrics})
	log, err := audit.New(audit.Config{DB: db})
	require.NoError(t, err)
	apps, err := app.New(app.Config{DB: db, HSM: m.hsm, Envelope: keys, Audit: log, Now: m.now})
	require.NoError(t, err)
	m.node, err = registration.New(registration.Config{DB: db, Apps: apps, Envelope: keys, Audit: log, Now: m.now, Metrics: m.metrics})
	require.NoError(t, err)
	return m
}

// cost is what one call took.
type cost struct {
	statements, hsm, unwraps, opened int
	cpu                              time.Duration
}

// of runs f alone on its thread. The thread's CPU time is the work of hashing,
// whatever the neighbours do, as long as f does nothing else that is large.
func (m *measured) of(f func()) cost {
	m.tb.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, at := m.read(), threadTime()
	f()
	spent := threadTime() - at
	after := m.read()
	return cost{
		statements: after.statements - before.statements, hsm: after.hsm - before.hsm,
		unwraps: after.unwraps - before.unwraps, opened: after.opened - before.opened, cpu: spent,
	}
}

func (m *measured) read() (c cost) {
	c.statements = int(m.statements.n.Load())
	families, err := m.metrics.Gather()
	require.NoError(m.tb, err)
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			switch f.GetName() {
			case "signet_hsm_operation_seconds":
				c.hsm += int(metric.GetHistogram().GetSampleCount())
			case "signet_envelope_unwraps_total":
				c.unwraps += int(metric.GetCounter().GetValue())
			case "signet_registration_key_cache_total":
				for _, l := range metric.GetLabel() {
					if l.GetValue() == "miss" {
						c.opened += int(metric.GetCounter().GetValue())
					}
				}
			}
		}
	}
	return c
}

const rusageThread = 1 // RUSAGE_THREAD of Linux

func threadTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(rusageThread, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Once a registration is in use, a verification is statements and hashing: no HSM
// operation, no data key unwrapped, nothing opened, no key of anybody parsed and
// nothing agreed. The last is shown by breaking the stored keys: who needs them
// (the reference, in BenchmarkVerify) fails.
func TestPAAUTH01_WarmVerifyIsStatementsAndHashing(t *testing.T) {
	t.Parallel()
	m := newMeasured(t)
	d := m.active(alpha, "petr")
	const pk = signature.PossessionKnowledge
	require.True(t, d.verify(d.sign(pk)).Valid)
	require.NotZero(t, m.read().hsm, "the counter of HSM operations counts nothing")
	require.NotZero(t, m.read().unwraps, "the counter of unwrapped keys counts nothing")
	require.NotZero(t, m.read().opened, "the counter of opened registrations counts nothing")

	_, err := m.db.Exec(t.Context(), `update registration set device_public_key = decode(repeat('04', 65), 'hex'), server_public_key = decode(repeat('04', 65), 'hex'),
		server_private_sealed = '\x00' where tenant_id = 'alpha' and id = $1`, d.id)
	require.NoError(t, err)
	_, err = (&naive{w: m.world, envelope: m.keyring(m.db)}).verify(t.Context(), alpha, d.signAt(d.ctr, pk))
	require.Error(t, err, "the stored keys are still good")

	const n = 20
	good, bad := d.sign(pk), d.wrong(pk)
	got := m.of(func() {
		for range n {
			require.True(t, d.verify(good).Valid)
			require.False(t, d.verify(bad).Valid)
			good = d.sign(pk)
		}
	})
	require.Zero(t, got.hsm)
	require.Zero(t, got.unwraps)
	require.Zero(t, got.opened)
	require.LessOrEqual(t, got.statements, 2*n*2, "one to read, one to write")
}

// A signature that is not accepted costs the same, whatever is wrong with it: the
// time of an answer tells nobody who is registered. Work is counted in statements,
// HSM operations and CPU time of hashing; a large body makes hashing nearly all of
// the latter.
func TestPAAUTH01_RefusalsCostTheSame(t *testing.T) {
	t.Parallel()
	m := newMeasured(t)
	d, blocked, elsewhere := m.active(alpha, "petr"), m.active(alpha, "jana"), m.active(beta, "petr")
	require.NoError(t, m.node.Change(t.Context(), alpha, registration.ChangeParams{Apps: mine, ID: blocked.id, Change: registration.Block}))
	body := bytes.Repeat([]byte{'x'}, 256<<10)
	large := func(of *device) registration.VerifyRequest {
		r := of.signAt(of.ctr, signature.PossessionKnowledge)
		r.Body = body // what was signed is another
		return r
	}
	unknown := func(r registration.VerifyRequest) registration.VerifyRequest {
		r.Header.ActivationID = "8819ac31-ad29-40d1-ac60-1b54293abe61"
		return r
	}
	refusals := map[string]func() registration.VerifyRequest{
		"wrong signature":      func() registration.VerifyRequest { return large(d) },
		"unknown registration": func() registration.VerifyRequest { return unknown(large(d)) },
		"of another tenant":    func() registration.VerifyRequest { return large(elsewhere) },
		"of another application": func() registration.VerifyRequest {
			r := large(d)
			r.Apps = []string{"OTHER"}
			return r
		},
		"unknown application key": func() registration.VerifyRequest {
			r := large(d)
			r.Header.ApplicationKey = [16]byte{1}
			return r
		},
		"application key of another tenant": func() registration.VerifyRequest {
			r := large(d)
			r.Header.ApplicationKey = m.version[beta].Key
			return r
		},
		"blocked": func() registration.VerifyRequest { return large(blocked) },
	}
	for _, actor := range []string{"backend", "device"} {
		costs := map[string]cost{}
		for name, request := range refusals {
			for i := range 6 { // the first fills the caches; of the others the least disturbed counts
				// A good one before: a wrong one that blocks would cost more.
				require.True(t, m.verdict(alpha, d.sign(signature.PossessionKnowledge)).Valid)
				req := request()
				req.Actor = actor
				c := m.of(func() { require.False(t, m.verdict(alpha, req).Valid, name) })
				if i > 1 {
					c.cpu = min(c.cpu, costs[name].cpu)
				}
				costs[name] = c
			}
		}
		base := costs["wrong signature"]
		for name, c := range costs {
			require.Zero(t, c.hsm+c.unwraps+c.opened, "%s by %s", name, actor)
			require.Contains(t, []int{1, 2}, c.statements, "%s by %s", name, actor)
			ratio := float64(c.cpu) / float64(base.cpu)
			// Work left out would be next to nothing; the garbage collector takes its part of a thread's time.
			require.True(t, ratio > 0.4 && ratio < 2.5, "%s by %s: %s, a wrong signature: %s", name, actor, c.cpu, base.cpu)
			t.Logf("%-8s %-34s %d statements, %6.2f ms of CPU", actor, name, c.statements, float64(c.cpu.Microseconds())/1000)
		}
	}
}

func (m *measured) verdict(t tenant.ID, req registration.VerifyRequest) registration.Verdict {
	m.tb.Helper()
	v, err := m.node.Verify(m.tb.Context(), t, req)
	require.NoError(m.tb, err)
	return v
}

// After a tenant's data keys are gone its devices are refused, though their keys
// were in memory; another tenant's are not.
func TestAnErasedTenantsKeysAreForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ring := w.keyring(w.db)
	r, err := registration.New(registration.Config{DB: w.db, Apps: w.apps(w.db), Envelope: ring, Audit: w.audit})
	require.NoError(t, err)
	w.node = r
	gone, other := w.active(alpha, "user"), w.active(beta, "user")
	for _, d := range []*device{gone, other} {
		v, err := r.Verify(t.Context(), d.tenant, d.sign(pk))
		require.NoError(t, err)
		require.True(t, v.Valid)
	}
	rotation, err := envelope.NewRotation(envelope.RotationConfig{
		DB: w.db, Keyring: ring, Columns: registration.SealedColumns(), Forgotten: r.Forget,
	})
	require.NoError(t, err)
	n, err := rotation.Erase(t.Context(), alpha)
	require.NoError(t, err)
	require.Positive(t, n)
	v, err := r.Verify(t.Context(), alpha, gone.sign(pk))
	require.Error(t, err)
	require.False(t, v.Valid)
	v, err = r.Verify(t.Context(), beta, other.sign(pk))
	require.NoError(t, err)
	require.True(t, v.Valid)
}
