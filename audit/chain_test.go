package audit_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
	"github.com/signet-hsm/signet/tenant"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// yard is a database, a token with the audit key, and a clock.
type yard struct {
	db   *pgxpool.Pool
	hsm  *hsm.Token
	log  *audit.Log
	skew atomic.Int64
}

func newYard(tb testing.TB) *yard {
	tb.Helper()
	y := &yard{db: pgtest.New(tb), hsm: softhsmtest.New(tb)}
	_, err := y.hsm.Generate(tb.Context(), audit.KeyRef(), hsm.P256, [16]byte{})
	require.NoError(tb, err)
	y.log, err = audit.New(audit.Config{DB: y.db, Now: y.now})
	require.NoError(tb, err)
	return y
}

func (y *yard) now() time.Time { return t0.Add(time.Duration(y.skew.Load())) }

func (y *yard) later(d time.Duration) { y.skew.Add(int64(d)) }

// sealer signs at every pass with news unless c says otherwise.
func (y *yard) sealer(tb testing.TB, c audit.SealerConfig) *audit.Sealer {
	tb.Helper()
	c.DB, c.Now = y.db, y.now
	if c.Keys == nil {
		c.Keys = y.hsm
	}
	if c.SignRows == 0 {
		c.SignRows = 1
	}
	s, err := audit.NewSealer(c)
	require.NoError(tb, err)
	return s
}

func (y *yard) record(tb testing.TB, t tenant.ID, n int) {
	tb.Helper()
	for i := range n {
		require.NoError(tb, y.log.RecordTx(tb.Context(), y.db, audit.Event{
			Tenant: t, Action: "registration.verify", Actor: "app", Subject: fmt.Sprint("s", i), UserID: "u", AppID: "APP", Outcome: "ok",
			Detail: map[string]any{"n": i, "big": uint64(9007199254740993), "text": "ä\u2028<"},
		}))
		y.later(time.Second)
	}
}

func (y *yard) exec(tb testing.TB, sql string, args ...any) {
	tb.Helper()
	_, err := y.db.Exec(tb.Context(), sql, args...)
	require.NoError(tb, err)
}

func (y *yard) verify(tb testing.TB, t tenant.ID, known ...audit.Witness) audit.Report {
	tb.Helper()
	r, err := audit.Verifier{DB: y.db, Keys: y.hsm, Page: 3}.Verify(tb.Context(), t, known...)
	require.NoError(tb, err)
	return r
}

func seal(tb testing.TB, s *audit.Sealer, want int) {
	tb.Helper()
	n, err := s.Seal(tb.Context())
	require.NoError(tb, err)
	require.Equal(tb, want, n)
}

func TestSealedAndSigned(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	r := y.verify(t, alpha)
	require.True(t, r.OK())
	require.Zero(t, r.Seq)

	s := y.sealer(t, audit.SealerConfig{Batch: 4})
	y.record(t, alpha, 10)
	y.record(t, beta, 3)
	y.record(t, tenant.System, 1)
	require.EqualValues(t, 10, y.verify(t, alpha).Unsealed)
	seal(t, s, 14)
	seal(t, s, 0)
	y.record(t, alpha, 2)
	seal(t, s, 2)
	for id, want := range map[tenant.ID][2]int64{alpha: {12, 2}, beta: {3, 1}, tenant.System: {1, 1}} {
		r := y.verify(t, id)
		require.True(t, r.OK(), "%v", r.Findings)
		require.Equal(t, []int64{want[0], want[1], want[0], 0}, []int64{r.Seq, r.Checkpoints, r.Signed.Seq, r.Unsealed})
		require.Equal(t, r.Hash, r.Signed.Hash)
	}
	list, err := audit.Verifier{DB: y.db, Keys: y.hsm}.Tenants(t.Context())
	require.NoError(t, err)
	require.Equal(t, []tenant.ID{tenant.System, alpha, beta}, list)
}

// Every way of changing what is stored, by SQL: each must be found, at its place.
func TestTampering(t *testing.T) {
	t.Parallel()
	event := func(seq int) string {
		return fmt.Sprintf(`(select event_id from audit_chain where tenant_id = 'alpha' and seq = %d)`, seq)
	}
	edit := func(set string) string {
		return `update audit_event set ` + set + ` where tenant_id = 'alpha' and id = ` + event(5)
	}
	for name, c := range map[string]struct {
		sql  string
		kind audit.Kind
		seq  int64
	}{
		"edit at":                {edit(`at = at + interval '1 microsecond'`), audit.Changed, 5},
		"edit at to infinity":    {edit(`at = 'infinity'`), audit.Changed, 5},
		"edit action":            {edit(`action = 'x'`), audit.Changed, 5},
		"edit actor":             {edit(`actor = ''`), audit.Changed, 5},
		"edit subject":           {edit(`subject = 's5'`), audit.Changed, 5},
		"edit user":              {edit(`user_id = 'v'`), audit.Changed, 5},
		"edit app":               {edit(`app_id = app_id || ' '`), audit.Changed, 5},
		"edit outcome":           {edit(`outcome = 'no'`), audit.Changed, 5},
		"shift between fields":   {edit(`user_id = 'uA', app_id = 'PP'`), audit.Changed, 5},
		"edit detail":            {edit(`detail = jsonb_set(detail, '{n}', '7')`), audit.Changed, 5},
		"edit a large number":    {edit(`detail = jsonb_set(detail, '{big}', '9007199254740992')`), audit.Changed, 5},
		"empty detail":           {edit(`detail = '{}'`), audit.Changed, 5},
		"no detail":              {edit(`detail = null`), audit.Changed, 5},
		"edit id":                {edit(`id = 'ffffffff-0000-7000-8000-000000000000'`), audit.Deleted, 5},
		"move to another tenant": {edit(`tenant_id = 'beta'`), audit.Deleted, 5},
		"delete":                 {`delete from audit_event where tenant_id = 'alpha' and id = ` + event(5), audit.Deleted, 5},
		"delete the first":       {`delete from audit_event where tenant_id = 'alpha' and id = ` + event(1), audit.Deleted, 1},
		"delete the last":        {`delete from audit_event where tenant_id = 'alpha' and id = ` + event(9), audit.Deleted, 9},
		"delete with link": {`with e as (delete from audit_chain where tenant_id = 'alpha' and seq = 5 returning event_id)
			delete from audit_event where tenant_id = 'alpha' and id in (select event_id from e)`, audit.Cut, 5},
		"delete links 1 to 3": {`delete from audit_chain where tenant_id = 'alpha' and seq < 4`, audit.Cut, 1},
		"delete and close up": {`delete from audit_chain where tenant_id = 'alpha' and seq = 5;
			update audit_chain set seq = -seq where false;
			alter table audit_chain drop constraint audit_chain_pkey;
			update audit_chain set seq = seq - 1 where tenant_id = 'alpha' and seq > 5;
			update audit_head set seq = 8 where tenant_id = 'alpha'`, audit.Changed, 5},
		"reorder": {`update audit_chain set seq = 100 where tenant_id = 'alpha' and seq = 5;
			update audit_chain set seq = 5 where tenant_id = 'alpha' and seq = 6;
			update audit_chain set seq = 6 where tenant_id = 'alpha' and seq = 100`, audit.Changed, 5},
		"swap two events": {`alter table audit_chain drop constraint audit_chain_event;
			update audit_chain c set event_id = (select event_id from audit_chain d where d.tenant_id = 'alpha' and d.seq = 11 - c.seq)
			where tenant_id = 'alpha' and seq in (5, 6)`, audit.Changed, 5},
		"edit a link": {`update audit_chain set hash = sha256('x') where tenant_id = 'alpha' and seq = 5`, audit.Changed, 5},
		"insert into the sealed range": {`insert into audit_event select tenant_id, '01000000-0000-7000-8000-000000000001', at, action, actor, subject,
			user_id, app_id, outcome, detail from audit_event where tenant_id = 'alpha' limit 1`, audit.Inserted, 0},
		"cut the tail, keep the head": {`delete from audit_chain where tenant_id = 'alpha' and seq > 7`, audit.Cut, 8},
		"cut the tail and the head": {`delete from audit_event where tenant_id = 'alpha' and id in (select event_id from audit_chain where tenant_id = 'alpha' and seq > 7);
			delete from audit_chain where tenant_id = 'alpha' and seq > 7;
			update audit_head set seq = 7, hash = (select hash from audit_chain where tenant_id = 'alpha' and seq = 7) where tenant_id = 'alpha'`, audit.Cut, 8},
		"all links": {`delete from audit_chain where tenant_id = 'alpha'`, audit.Cut, 1},
		"all but checkpoints": {`delete from audit_chain where tenant_id = 'alpha'; delete from audit_event where tenant_id = 'alpha';
			delete from audit_head where tenant_id = 'alpha'`, audit.Cut, 9},
		"the head":             {`delete from audit_head where tenant_id = 'alpha'`, audit.Cut, 9},
		"edit the head":        {`update audit_head set hash = sha256('x') where tenant_id = 'alpha'`, audit.Changed, 9},
		"head too short":       {`update audit_head set seq = 8, hash = (select hash from audit_chain where tenant_id = 'alpha' and seq = 8) where tenant_id = 'alpha'`, audit.Changed, 9},
		"foreign link":         {`insert into audit_chain values ('alpha', 10, '01000000-0000-7000-8000-000000000001', sha256('x'))`, audit.Changed, 10},
		"edit a checkpoint":    {`update audit_checkpoint set at = at + interval '1 second' where tenant_id = 'alpha' and number = 2`, audit.Forged, 6},
		"edit its mark":        {`update audit_checkpoint set mark = '00000000-0000-0000-0000-000000000000' where tenant_id = 'alpha' and number = 2`, audit.Forged, 6},
		"another key":          {`update audit_checkpoint set key_label = 'signet/1/_system/audit/mine/0' where tenant_id = 'alpha' and number = 2`, audit.Forged, 6},
		"another role":         {`update audit_checkpoint set key_label = 'signet/1/_system/signer/audit/0' where tenant_id = 'alpha' and number = 2`, audit.Forged, 6},
		"delete a checkpoint":  {`delete from audit_checkpoint where tenant_id = 'alpha' and number = 2`, audit.Forged, 9},
		"the first checkpoint": {`delete from audit_checkpoint where tenant_id = 'alpha' and number = 1`, audit.Forged, 6},
		"the twin's checkpoint": {`update audit_checkpoint a set signature = b.signature from audit_checkpoint b
			where a.tenant_id = 'alpha' and b.tenant_id = 'beta' and a.number = 2 and b.number = 2`, audit.Forged, 6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			y := newYard(t)
			s := y.sealer(t, audit.SealerConfig{})
			for range 3 { // three checkpoints, at 3, 6 and 9
				y.record(t, alpha, 3)
				y.record(t, beta, 3)
				seal(t, s, 6)
			}
			y.later(time.Hour)
			for range 10 { // the mark follows
				seal(t, s, 0)
			}
			before := y.verify(t, alpha)
			require.True(t, before.OK(), "%v", before.Findings)

			for _, one := range strings.Split(c.sql, ";") {
				y.exec(t, one)
			}
			r := y.verify(t, alpha)
			require.False(t, r.OK())
			require.Equal(t, c.kind, r.Findings[0].Kind, "%v", r.Findings)
			require.Equal(t, c.seq, r.Findings[0].Seq, "%v", r.Findings)
			require.Contains(t, r.Findings[0].String(), string(c.kind))
			b := y.verify(t, beta)
			require.True(t, b.OK() || name == "move to another tenant", "%v", b.Findings)
		})
	}
}

// Somebody who can compute hashes makes the chain anew from the edited event on:
// only the HSM's signature tells.
func TestARewrittenChainContradictsItsCheckpoint(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	s := y.sealer(t, audit.SealerConfig{})
	y.record(t, alpha, 3)
	seal(t, s, 3)
	y.record(t, alpha, 3)
	seal(t, s, 3)
	good := y.verify(t, alpha)
	require.EqualValues(t, 2, good.Checkpoints)

	// Our own sealer is the forger: it seals the edited events with no key.
	y.exec(t, `update audit_event set outcome = 'forged' where id = (select event_id from audit_chain where seq = 5)`)
	y.exec(t, `delete from audit_chain`)
	y.exec(t, `update audit_head set seq = 0, hash = $1, mark = '00000000-0000-0000-0000-000000000000', held_until = now()`, make([]byte, 32))
	n, _ := y.sealer(t, audit.SealerConfig{Keys: noKeys{}}).Seal(t.Context())
	require.Equal(t, 6, n)
	r := y.verify(t, alpha)
	require.Len(t, r.Findings, 1)
	require.Equal(t, []any{audit.Changed, int64(6)}, []any{r.Findings[0].Kind, r.Findings[0].Seq})
	require.EqualValues(t, 3, r.Signed.Seq)

	// With the newer checkpoint removed too, only somebody who remembers can tell.
	y.exec(t, `delete from audit_checkpoint where number = 2`)
	require.True(t, y.verify(t, alpha).OK())
	r = y.verify(t, alpha, audit.Witness{Number: 2, Seq: good.Signed.Seq, Hash: good.Signed.Hash})
	require.Len(t, r.Findings, 2)
	require.Equal(t, audit.Forged, r.Findings[0].Kind)
	require.Equal(t, audit.Changed, r.Findings[1].Kind)
}

type noKeys struct{}

func (noKeys) Signer(context.Context, hsm.Ref) (*hsm.Signer, error) { return nil, fault.ErrUnavailable }

// An event with an old id is sealed when somebody lowers the mark of the head,
// but the signed mark gives it away; one in time is simply sealed later.
func TestLateAndBackdated(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	s := y.sealer(t, audit.SealerConfig{Grace: time.Minute})
	at := func(d time.Duration) {
		require.NoError(t, y.log.RecordTx(t.Context(), y.db, audit.Event{Tenant: alpha, At: t0.Add(d), Action: "a", Outcome: "ok"}))
	}
	y.later(10 * time.Minute)
	at(9 * time.Minute)
	at(10 * time.Minute)
	seal(t, s, 2)
	at(9*time.Minute + 30*time.Second) // committed late, with an id between the two
	for range 10 {
		_, err := s.Seal(t.Context())
		require.NoError(t, err)
	}
	r := y.verify(t, alpha)
	require.True(t, r.OK(), "%v", r.Findings)
	require.EqualValues(t, []int64{3, 0}, []int64{r.Seq, r.Unsealed})

	at(time.Minute) // backdated
	for range 10 {
		seal(t, s, 0)
	}
	r = y.verify(t, alpha)
	require.Equal(t, audit.Inserted, r.Findings[0].Kind)
	y.exec(t, `update audit_head set mark = '00000000-0000-0000-0000-000000000000'`)
	n := 0
	for range 10 {
		k, err := s.Seal(t.Context())
		require.NoError(t, err)
		n += k
	}
	require.Equal(t, 1, n)
	r = y.verify(t, alpha)
	require.Equal(t, []any{audit.Inserted, int64(4)}, []any{r.Findings[0].Kind, r.Findings[0].Seq})
}

// Writers commit in any order while two nodes seal: every event has one place.
func TestTwoSealersUnderLoad(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	const writers, each = 8, 60
	var wg, sealers sync.WaitGroup
	done := make(chan struct{})
	for i := range 2 {
		s, err := audit.NewSealer(audit.SealerConfig{DB: y.db, Keys: y.hsm, Batch: 7, SignRows: 50, Lease: time.Duration(i+1) * time.Millisecond})
		require.NoError(t, err)
		sealers.Go(func() {
			for last := false; !last; {
				select {
				case <-done:
					last = true
				default:
				}
				if _, err := s.Seal(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for w := range writers {
		wg.Go(func() {
			for range each {
				err := pgx.BeginFunc(t.Context(), y.db, func(tx pgx.Tx) error {
					err := y.log.RecordTx(t.Context(), tx, audit.Event{Tenant: alpha, At: time.Now(), Action: "a", Outcome: "ok"})
					time.Sleep(time.Duration(w) * time.Millisecond)
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	close(done)
	sealers.Wait()
	s, err := audit.NewSealer(audit.SealerConfig{DB: y.db, Keys: y.hsm, SignRows: 1})
	require.NoError(t, err)
	time.Sleep(5 * time.Millisecond) // the leases
	_, err = s.Seal(t.Context())
	require.NoError(t, err)
	r := y.verify(t, alpha)
	require.True(t, r.OK(), "%v", r.Findings)
	require.EqualValues(t, []int64{writers * each, 0}, []int64{r.Seq, r.Unsealed})
}

// A sealer whose statements stop working after any number of them leaves a whole
// chain, and the next one goes on.
func TestStoppedBetweenAnyTwoSteps(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	total := 0
	died := 0
	for steps := range 16 {
		y.record(t, alpha, 5)
		total += 5
		s := y.sealer(t, audit.SealerConfig{Batch: 2, Lease: time.Millisecond})
		dying := &mortal{ChainDB: y.db}
		dying.left.Store(int64(steps))
		s.DB = dying
		if _, err := s.Seal(t.Context()); err != nil {
			require.ErrorIs(t, err, fault.ErrUnavailable)
			died++
		}
		r := y.verify(t, alpha)
		require.True(t, r.OK(), "after %d steps: %v", steps, r.Findings)
		require.EqualValues(t, total, r.Seq+r.Unsealed)
		time.Sleep(2 * time.Millisecond) // the lease of the dead
		if steps%3 == 2 {
			_, err := y.sealer(t, audit.SealerConfig{}).Seal(t.Context())
			require.NoError(t, err)
			require.Zero(t, y.verify(t, alpha).Unsealed)
			y.exec(t, `update audit_head set held_until = now()`)
		}
	}
	require.Greater(t, died, 10)
}

// mortal serves a number of statements and then none.
type mortal struct {
	audit.ChainDB
	left atomic.Int64
}

func (m *mortal) gone(ctx context.Context) context.Context {
	if m.left.Add(-1) < 0 {
		dead, cancel := context.WithCancel(ctx)
		cancel()
		return dead
	}
	return ctx
}

func (m *mortal) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return m.ChainDB.Query(m.gone(ctx), sql, args...)
}

func (m *mortal) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return m.ChainDB.Exec(m.gone(ctx), sql, args...)
}

func (m *mortal) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return m.ChainDB.QueryRow(m.gone(ctx), sql, args...)
}

// The HSM is out: events are sealed all the same, and signed when it is back.
func TestSealingNeedsNoHSM(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	s := y.sealer(t, audit.SealerConfig{Keys: noKeys{}})
	y.record(t, alpha, 3)
	n, err := s.Seal(t.Context())
	require.ErrorIs(t, err, fault.ErrUnavailable)
	require.Equal(t, 3, n)
	r := y.verify(t, alpha)
	require.True(t, r.OK())
	require.Zero(t, r.Signed.Number)
	s.Keys = y.hsm
	seal(t, s, 0)
	require.EqualValues(t, 3, y.verify(t, alpha).Signed.Seq)
}

// What a sealer remembers shows a database that went back in time.
func TestAlarm(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	reg := prometheus.NewRegistry()
	s := y.sealer(t, audit.SealerConfig{Metrics: reg})
	alarms := func() float64 {
		all, err := reg.Gather()
		require.NoError(t, err)
		for _, m := range all {
			if m.GetName() == "signet_audit_alarms_total" {
				return m.Metric[0].Counter.GetValue()
			}
		}
		t.Fatal("no such metric")
		return 0
	}
	y.record(t, alpha, 5)
	seal(t, s, 5)
	require.Zero(t, alarms())
	y.exec(t, `delete from audit_chain where seq > 2`)
	y.exec(t, `update audit_head set seq = 2, hash = (select hash from audit_chain where seq = 2)`)
	_, err := s.Seal(t.Context())
	require.NoError(t, err)
	require.Positive(t, alarms())
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	s := y.sealer(t, audit.SealerConfig{Interval: time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	y.record(t, alpha, 3)
	require.Eventually(t, func() bool { return y.verify(t, alpha).Seq == 3 }, 10*time.Second, 5*time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
}

// A sealer that was stopped leaves its tenants to the next one at once.
func TestRunGivesItsLeasesBack(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	y.record(t, alpha, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, y.sealer(t, audit.SealerConfig{Lease: time.Hour}).Run(ctx))
	y.record(t, alpha, 1)
	n, err := y.sealer(t, audit.SealerConfig{}).Seal(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

func TestSealerConfig(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	for _, c := range []audit.SealerConfig{
		{},
		{DB: y.db},
		{DB: y.db, Keys: y.hsm, Grace: -1},
		{DB: y.db, Keys: y.hsm, Key: hsm.Ref{Tenant: "_system", Role: hsm.RoleSigner, Name: "audit"}},
		{DB: y.db, Keys: y.hsm, Key: hsm.Ref{Tenant: "alpha", Role: hsm.RoleAudit, Name: "audit"}},
	} {
		_, err := audit.NewSealer(c)
		require.ErrorIs(t, err, audit.ErrInvalid)
	}
	_, err := audit.Verifier{DB: y.db, Keys: noKeys{}}.Verify(t.Context(), alpha)
	require.NoError(t, err)
	y.record(t, alpha, 1)
	seal(t, y.sealer(t, audit.SealerConfig{}), 1)
	_, err = audit.Verifier{DB: y.db, Keys: noKeys{}}.Verify(t.Context(), alpha)
	require.ErrorIs(t, err, fault.ErrUnavailable, "without the HSM there is no verdict")
}

func fill(b *testing.B, y *yard, n int) {
	b.Helper()
	rows := make([][]any, 0, n)
	for i := range n {
		args, err := y.log.Args(audit.Event{
			Tenant: alpha, At: t0.Add(time.Duration(i) * time.Millisecond), Action: "registration.verify", Actor: "integration",
			Subject: uuid.NewString(), UserID: "user", AppID: "APP", Outcome: "signature_ok",
			JSON: []byte(`{"version":"3.3","type":"POSSESSION_KNOWLEDGE","method":"POST","uriId":"/operation/authorize","dataHash":"` + strings.Repeat("ab", 32) + `","status":"ACTIVE","counter":12,"remainingAttempts":5,"skipped":0}`),
		})
		require.NoError(b, err)
		rows = append(rows, args)
	}
	_, err := y.db.CopyFrom(b.Context(), pgx.Identifier{"audit_event"},
		[]string{"tenant_id", "id", "at", "action", "actor", "subject", "user_id", "app_id", "outcome", "detail"}, pgx.CopyFromRows(rows))
	require.NoError(b, err)
	y.exec(b, `analyze audit_event`)
}

func BenchmarkSeal(b *testing.B) {
	y := newYard(b)
	const n = 20_000
	fill(b, y, n)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		y.exec(b, `truncate audit_chain, audit_head, audit_checkpoint`)
		b.StartTimer()
		seal(b, y.sealer(b, audit.SealerConfig{}), n)
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkVerify(b *testing.B) {
	y := newYard(b)
	const n = 20_000
	fill(b, y, n)
	seal(b, y.sealer(b, audit.SealerConfig{}), n)
	y.exec(b, `analyze audit_chain`)
	b.ReportAllocs()
	for b.Loop() {
		r, err := audit.Verifier{DB: y.db, Keys: y.hsm}.Verify(b.Context(), alpha)
		require.NoError(b, err)
		require.True(b, r.OK())
		require.EqualValues(b, n, r.Seq)
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
