package registration_test

import (
	"context"
	"crypto/ecdh"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/pgcluster"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// BenchmarkVerify is one valid two-factor verification, stored with its audit
// event and synced to disk, warm. "together" is ours; "naive" and "reference"
// are transactions per request, in the same program and on the same database.
// For ratios use BenchmarkVerifyAgainstNaive, which alternates.
func BenchmarkVerify(b *testing.B) {
	w := newDurableWorld(b)
	c := w.newCrowd(1 << 10)
	for _, way := range w.ways(c) {
		for _, callers := range []int{1, 16, 256, 1024} {
			b.Run(fmt.Sprintf("%s/callers=%d", way.name, callers), func(b *testing.B) {
				c.run(b, way, callers, time.Hour, int64(callers)) // warm
				b.ReportAllocs()
				b.ResetTimer()
				s := c.run(b, way, callers, time.Hour, int64(b.N))
				b.StopTimer()
				b.ReportMetric(s.rate(), "verdicts/s")
				b.ReportMetric(s.cpu(), "cpu-us/op")
			})
		}
	}
}

// BenchmarkVerifyAgainstNaive, with 2 k and 100 k registrations (SIGNET_LONG: 1 M and
// 5 M as well), alternates our way and the naive transaction in
// rounds of half a second each; -benchtime=5x makes five rounds of both. It
// reports medians: "x-naive" is the ratio of rates, "x-naive-cpu" that of CPU time
// of this process and PostgreSQL together, which other load on the machine
// changes less.
func BenchmarkVerifyAgainstNaive(b *testing.B) {
	sizes := []int{1 << 11, 100_000}
	if os.Getenv("SIGNET_LONG") != "" {
		sizes = append(sizes, 1_000_000, 5_000_000)
	}
	for _, n := range sizes {
		w := newDurableWorld(b)
		c := w.newCrowd(n)
		ways := w.ways(c)
		// Each its own half: who finds a row that the other changed reads it again.
		ours, others := *c, *c
		ours.phones, others.phones = c.phones[:n/2], c.phones[n/2:]
		sides := []*crowd{&ours, &others}
		for _, callers := range []int{1, 16, 256, 1024} {
			b.Run(fmt.Sprintf("registrations=%d/callers=%d", n, callers), func(b *testing.B) {
				var ours, naive, ratio, cpuRatio, p50 series
				for i, way := range ways[:2] {
					sides[i].run(b, way, callers, time.Second, 1<<40) // warm
				}
				w.checkpoint()
				for range b.N {
					a := sides[0].run(b, ways[0], callers, round, 1<<40)
					z := sides[1].run(b, ways[1], callers, round, 1<<40)
					ours, naive = append(ours, a), append(naive, z)
					ratio = append(ratio, stats{value: a.rate() / z.rate()})
					cpuRatio = append(cpuRatio, stats{value: z.cpu() / a.cpu()})
					p50 = append(p50, stats{value: float64(a.p50) / float64(z.p50)})
				}
				b.ReportMetric(ours.median(stats.rate), "verdicts/s")
				b.ReportMetric(naive.median(stats.rate), "naive/s")
				b.ReportMetric(ratio.median(stats.plain), "x-naive")
				b.ReportMetric(cpuRatio.median(stats.plain), "x-naive-cpu")
				b.ReportMetric(ours.median(stats.cpu), "cpu-us/op")
				b.ReportMetric(ours.median(stats.server), "pg-cpu-us/op")
				b.ReportMetric(ours.median(func(s stats) float64 { return float64(s.p50.Microseconds()) }), "p50-us")
				b.ReportMetric(ours.median(func(s stats) float64 { return float64(s.p99.Microseconds()) }), "p99-us")
				b.ReportMetric(p50.median(stats.plain), "p50-of-naive")
				b.ReportMetric(ours.median(func(s stats) float64 { return s.wal / float64(s.n) }), "wal-B/op")
				b.ReportMetric(ours.median(func(s stats) float64 { return s.syncs / float64(s.n) }), "syncs/op")
				b.ReportMetric(ours.median(func(s stats) float64 { return s.flush }), "verdicts/flush")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

const round = 500 * time.Millisecond

// way is one way to verify.
type way struct {
	name   string
	verify func(context.Context, tenant.ID, registration.VerifyRequest) (registration.Verdict, error)
}

// ways are ours first, then the naive transaction, then what the reference does.
func (w *world) ways(c *crowd) []way {
	return []way{
		{"together", w.node.Verify},
		{"naive", (&naive{w: w, ready: c.keys}).verify},
		{"reference", (&naive{w: w, envelope: w.keyring(w.db)}).verify},
	}
}

// run has callers verify, each on registrations of its own in turn, for a time or
// until n verdicts.
func (c *crowd) run(b *testing.B, by way, callers int, limit time.Duration, n int64) stats {
	b.Helper()
	var left, bad, done atomic.Int64
	left.Store(n)
	var wg sync.WaitGroup
	took := make([][]time.Duration, callers)
	share := len(c.phones) / callers
	if share == 0 {
		b.Fatalf("%d registrations are not enough for %d callers", len(c.phones), callers)
	}
	s := stats{}
	before, flushes := c.w.readServer(), c.w.flushes()
	cpu, server := ownCPU(), serverCPU(b, c.w.postmaster)
	began := time.Now()
	for g := range callers {
		wg.Go(func() {
			// Not from the first each time: over the rounds all are met.
			for i := int(began.UnixNano()>>10) % share; time.Since(began) < limit && left.Add(-1) >= 0; i++ {
				req := c.sign(g*share + i%share)
				at := time.Now()
				v, err := by.verify(b.Context(), alpha, req)
				took[g] = append(took[g], time.Since(at))
				if err != nil || !v.Valid {
					bad.Add(1)
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	s.took = time.Since(began)
	s.own, s.pg = ownCPU()-cpu, serverCPU(b, c.w.postmaster)-server
	after := c.w.readServer()
	s.wal, s.syncs = after[0]-before[0], after[1]-before[1]
	if now := c.w.flushes(); now[1] > flushes[1] {
		s.flush = (now[0] - flushes[0]) / (now[1] - flushes[1])
	}
	s.n = done.Load()
	require.Zero(b, bad.Load(), by.name)
	all := slices.Concat(took...)
	slices.Sort(all)
	if len(all) > 0 {
		s.p50, s.p99 = all[len(all)/2], all[len(all)*99/100]
	}
	return s
}

// flushes is how many verdicts went through the group so far, and how many flushes.
func (w *world) flushes() (v [2]float64) {
	all, err := w.metrics.Gather()
	require.NoError(w.tb, err)
	for _, f := range all {
		if f.GetName() == "signet_group_size" {
			h := f.GetMetric()[0].GetHistogram()
			v = [2]float64{h.GetSampleSum(), float64(h.GetSampleCount())}
		}
	}
	return v
}

// readServer is the server's WAL bytes and syncs of it so far.
func (w *world) readServer() (v [2]float64) {
	err := w.db.QueryRow(w.tb.Context(), "select wal_bytes, wal_sync from pg_stat_wal").Scan(&v[0], &v[1])
	require.NoError(w.tb, err)
	return v
}

// checkpoint writes out what came before, which must not be done in our time.
func (w *world) checkpoint() {
	conn, err := pgx.Connect(w.tb.Context(), w.url) // the pool ends statements after ten seconds
	require.NoError(w.tb, err)
	defer func() { _ = conn.Close(w.tb.Context()) }()
	_, err = conn.Exec(w.tb.Context(), "checkpoint")
	require.NoError(w.tb, err)
}

// stats is one round.
type stats struct {
	n          int64
	took       time.Duration
	own, pg    time.Duration // CPU time
	p50, p99   time.Duration
	wal, syncs float64
	flush      float64 // verdicts that shared a commit, of ours
	value      float64
}

func (s stats) rate() float64   { return float64(s.n) / s.took.Seconds() }
func (s stats) cpu() float64    { return (s.own + s.pg).Seconds() * 1e6 / float64(s.n) }
func (s stats) server() float64 { return s.pg.Seconds() * 1e6 / float64(s.n) }
func (s stats) plain() float64  { return s.value }

type series []stats

func (s series) median(of func(stats) float64) float64 {
	v := make([]float64, len(s))
	for i := range s {
		v[i] = of(s[i])
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// newDurableWorld has a database on disk that syncs, with the memory that a
// server of this size would be given.
func newDurableWorld(tb testing.TB) *world {
	c, err := pgcluster.Start(tb.Context(), pgcluster.Config{Dir: tb.TempDir(), Durable: true, Settings: map[string]string{
		"shared_buffers": "6GB", "max_wal_size": "8GB", "checkpoint_timeout": "30min",
	}})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, c.Stop(context.WithoutCancel(tb.Context()))) })
	pool, err := pg.Open(tb.Context(), c.URL(), pg.Options{})
	require.NoError(tb, err)
	defer pool.Close()
	_, err = pg.Migrate(tb.Context(), pool)
	require.NoError(tb, err)
	for _, t := range []tenant.ID{alpha, beta} {
		require.NoError(tb, tenant.Ensure(tb.Context(), pool, t))
	}
	w := newWorldOn(tb, c.URL())
	w.postmaster = c.PID()
	return w
}

// naive verifies in a transaction of its own that locks the row. With ready keys
// it computes what we compute; without, it unseals the server key and agrees, as
// the reference server does.
type naive struct {
	w        *world
	ready    *signature.Keys
	envelope *envelope.Keyring
}

func (n *naive) verify(ctx context.Context, t tenant.ID, req registration.VerifyRequest) (v registration.Verdict, err error) {
	err = pgx.BeginFunc(ctx, n.w.db, func(tx pgx.Tx) error {
		var (
			sealed, device, ctr []byte
			counter             int64
			user                string
		)
		err := tx.QueryRow(ctx, `select server_private_sealed, device_public_key, ctr_data, counter, user_id
			from registration where tenant_id = $1 and id = $2 for update`, t.String(), req.Header.ActivationID).
			Scan(&sealed, &device, &ctr, &counter, &user)
		if err != nil {
			return err
		}
		keys := n.ready
		if keys == nil {
			if keys, err = n.agree(ctx, t, req.Header.ActivationID, sealed, device); err != nil {
				return err
			}
		}
		m, ok := keys.Verify(&req.Header, signature.Request{
			Method: req.Method, URIID: req.URIID, Body: req.Body, Secret: n.w.version[t].Secret.Reveal(),
		}, signature.Counter(ctr), signature.DefaultLookAhead)
		if !ok {
			return nil
		}
		v.Valid = true
		if _, err := tx.Exec(ctx, `update registration set ctr_data = $3, counter = $4, failed_attempts = 0, failed_possession = 0,
			version = $5, revision = revision + 1, last_used_at = now()
			where tenant_id = $1 and id = $2`, t.String(), req.Header.ActivationID, m.Next[:], counter+int64(m.Offset)+1,
			req.Header.Version.String()); err != nil {
			return err
		}
		return n.w.audit.RecordTx(ctx, tx, audit.Event{
			Tenant: t, Action: "registration.verify", Actor: req.Actor, Subject: req.Header.ActivationID, UserID: user, AppID: "APP",
			Outcome: "signature_ok", JSON: []byte(naiveDetail),
		})
	})
	return v, err
}

// naiveDetail is as long as ours.
const naiveDetail = `{"type":"POSSESSION_KNOWLEDGE","version":"3.1","method":"POST","uriId":"/login",
"dataHash":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","status":"ACTIVE","counter":17,"remainingAttempts":5,"skipped":0}`

func (n *naive) agree(ctx context.Context, t tenant.ID, id string, sealed, device []byte) (*signature.Keys, error) {
	scalar, err := n.envelope.Open(ctx, envelope.Field{
		Tenant: t, Table: "registration", Column: "server_private_sealed", Row: strings.ToLower(id),
	}, sealed)
	if err != nil {
		return nil, err
	}
	private, err := ecdh.P256().NewPrivateKey(scalar.Reveal())
	if err != nil {
		return nil, err
	}
	public, err := signature.ParsePublicKey(device)
	if err != nil {
		return nil, err
	}
	x, err := private.ECDH(public)
	if err != nil {
		return nil, err
	}
	return signature.DeriveKeys(signature.MasterSecret(x)), nil
}
