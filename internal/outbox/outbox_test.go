package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const soon = 15 * time.Second

// sink is a consumer that keeps what it is told.
type sink struct {
	mu   sync.Mutex
	got  []outbox.Delivery
	dead []error
	// fail decides about an attempt; nil takes all.
	fail func(ctx context.Context, d outbox.Delivery) error
}

func (s *sink) consumer(name string) outbox.Consumer {
	return outbox.Consumer{
		Name: name, Kinds: []outbox.Kind{outbox.OperationCreated}, MinPause: 10 * time.Millisecond,
		Targets: func(_ context.Context, e outbox.Event) ([]string, error) {
			if e.Text("targets") == "" {
				return nil, nil
			}
			return strings.Split(e.Text("targets"), ","), nil
		},
		Deliver: func(ctx context.Context, d outbox.Delivery) error {
			if s.fail != nil {
				if err := s.fail(ctx, d); err != nil {
					return err
				}
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.got = append(s.got, d)
			return nil
		},
		Dead: func(_ context.Context, _ outbox.Delivery, cause error) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.dead = append(s.dead, cause)
			return nil
		},
	}
}

func (s *sink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

func (s *sink) deaths() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.dead)
}

func event(targets string) outbox.Event {
	return outbox.Event{
		Tenant: pgtest.Alpha, Kind: outbox.OperationCreated, App: "APP", User: "u", Registration: "r", Operation: "o",
		Data: map[string]any{"targets": targets},
	}
}

func newOutbox(tb testing.TB, db *pgxpool.Pool) *outbox.Outbox {
	tb.Helper()
	o, err := outbox.New(outbox.Config{DB: db})
	require.NoError(tb, err)
	return o
}

func add(tb testing.TB, db *pgxpool.Pool, o outbox.Queue, events ...outbox.Event) {
	tb.Helper()
	require.NoError(tb, pg.InTx(tb.Context(), db, func(tx pgx.Tx) error { return o.AddTx(tb.Context(), tx, events...) }))
}

// start runs a Runner until the test ends or stop is called.
func start(tb testing.TB, db *pgxpool.Pool, change func(*outbox.RunnerConfig), consumers ...outbox.Consumer) (stop func()) {
	tb.Helper()
	c := outbox.RunnerConfig{DB: db, Consumers: consumers, Poll: 20 * time.Millisecond}
	if change != nil {
		change(&c)
	}
	r, err := outbox.NewRunner(c)
	require.NoError(tb, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(tb, <-done)
	})
	tb.Cleanup(stop)
	return stop
}

func TestPUSHX13_DeliversWhatWasCommittedAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, listen := range []bool{false, true} {
		t.Run(fmt.Sprint("listen=", listen), func(t *testing.T) {
			t.Parallel()
			ctx, db := t.Context(), pgtest.New(t)
			o := newOutbox(t, db)
			roll := errors.New("roll back")
			require.ErrorIs(t, pg.InTx(ctx, db, func(tx pgx.Tx) error {
				require.NoError(t, o.AddTx(ctx, tx, event("never")))
				return roll
			}), roll)
			want := event("a,b")
			add(t, db, o, want, event(""), outbox.Event{Tenant: pgtest.Beta, Kind: outbox.MessageSend})
			add(t, db, o)

			var one, two sink
			start(t, db, func(c *outbox.RunnerConfig) { c.Listen, c.Metrics = listen, prometheus.NewRegistry() },
				one.consumer("one"), two.consumer("two"))
			require.Eventually(t, func() bool { return one.count() == 2 && two.count() == 2 }, soon, 5*time.Millisecond)
			e := one.got[0].Event
			require.Equal(t, uuid.Version(7), e.ID.Version())
			require.WithinDuration(t, time.Now(), e.At, soon)
			want.ID, want.At = e.ID, e.At
			targets := map[string]int{}
			for _, d := range append(one.got, two.got...) {
				require.Equal(t, want, d.Event)
				require.Equal(t, 1, d.Attempt)
				targets[d.Target]++
			}
			require.Equal(t, map[string]int{"a": 2, "b": 2}, targets)
		})
	}
}

func TestEventsThatCanNotBeEncoded(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), pgtest.New(t)
	o := newOutbox(t, db)
	for name, e := range map[string]outbox.Event{
		"no tenant": {Kind: outbox.MessageSend},
		"no kind":   {Tenant: pgtest.Alpha},
		"no JSON":   {Tenant: pgtest.Alpha, Kind: outbox.MessageSend, Data: map[string]any{"f": func() {}}},
		"too big":   {Tenant: pgtest.Alpha, Kind: outbox.MessageSend, Data: map[string]any{"s": strings.Repeat("x", outbox.MaxEvent)}},
	} {
		require.ErrorIs(t, pg.InTx(ctx, db, func(tx pgx.Tx) error { return o.AddTx(ctx, tx, e) }), outbox.ErrInvalid, name)
	}
	over, cancel := context.WithCancel(ctx)
	tx, err := db.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	cancel()
	require.ErrorIs(t, o.AddTx(over, tx, event("a")), fault.ErrUnavailable)
}

func TestFailuresAreRetriedAndEndAsDeadLetters(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), pgtest.New(t)
	o := newOutbox(t, db)
	var later atomic.Int32
	s := sink{fail: func(_ context.Context, d outbox.Delivery) error {
		switch {
		case d.Target == "twice" && d.Attempt < 3, d.Target == "always":
			return errors.New("503")
		case d.Target == "gone":
			return outbox.Permanent(errors.New("410"))
		case d.Target == "poison":
			panic("poison")
		case d.Target == "later" && later.Add(1) < 4:
			return outbox.Later(5*time.Millisecond, errors.New("429"))
		case d.Target == "much later":
			return outbox.Later(100*time.Hour, errors.New("429"))
		}
		return nil
	}}
	c := s.consumer("one")
	c.Attempts = 3
	add(t, db, o, event("twice,always,gone,poison,later,much later,fine"))
	start(t, db, nil, c)
	require.Eventually(t, func() bool { return s.count() == 3 && s.deaths() == 4 }, soon, 5*time.Millisecond)
	attempts := map[string]int{}
	for _, d := range s.got {
		attempts[d.Target] = d.Attempt
	}
	require.Equal(t, map[string]int{"twice": 3, "later": 1, "fine": 1}, attempts)

	var dead []outbox.DeadLetter
	require.Eventually(t, func() bool {
		var err error
		dead, err = o.Dead(ctx, pgtest.Alpha, 0, 0)
		require.NoError(t, err)
		return len(dead) == 4
	}, soon, 5*time.Millisecond)
	causes := map[string]string{}
	for _, l := range dead {
		require.Equal(t, "one", l.Consumer)
		causes[l.Delivery.Target] = l.Cause
	}
	require.Contains(t, causes["always"], "503")
	require.Contains(t, causes["gone"], "410")
	require.Contains(t, causes["poison"], "panic")
	require.Contains(t, causes["much later"], "older than")

	// Pages, twins, and a way back.
	page, err := o.Dead(ctx, pgtest.Alpha, 1, dead[0].ID)
	require.NoError(t, err)
	require.Equal(t, dead[1:2], page)
	other, err := o.Dead(ctx, pgtest.Beta, 0, 0)
	require.NoError(t, err)
	require.Empty(t, other)
	require.ErrorIs(t, o.Redeliver(ctx, pgtest.Beta, dead[0].ID), outbox.ErrNotFound)
	require.ErrorIs(t, o.Redeliver(ctx, pgtest.Alpha, 1<<40), outbox.ErrNotFound)
	require.NoError(t, o.Redeliver(ctx, pgtest.Alpha, dead[0].ID))
	require.Eventually(t, func() bool { return s.deaths() == 5 }, soon, 5*time.Millisecond)
}

func TestADeadLetterThatIsNotRecordedIsNotGivenUp(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), pgtest.New(t)
	o := newOutbox(t, db)
	s := sink{fail: func(context.Context, outbox.Delivery) error { return outbox.Permanent(errors.New("no")) }}
	c := s.consumer("one")
	var asked atomic.Int32
	c.Dead = func(context.Context, outbox.Delivery, error) error {
		asked.Add(1)
		return errors.New("the audit log is away")
	}
	add(t, db, o, event("a"))
	stop := start(t, db, nil, c)
	require.Eventually(t, func() bool { return asked.Load() == 1 }, soon, 5*time.Millisecond)
	stop()
	dead, err := o.Dead(ctx, pgtest.Alpha, 0, 0)
	require.NoError(t, err)
	require.Empty(t, dead)
	var state string
	require.NoError(t, db.QueryRow(ctx, `select state::text from river_job where kind = 'signet.delivery'`).Scan(&state))
	require.Equal(t, "scheduled", state)
}

// A consumer that hangs holds its own workers only.
func TestASlowConsumerStopsNobodyElse(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	o := newOutbox(t, db)
	hang := sink{fail: func(ctx context.Context, _ outbox.Delivery) error {
		<-ctx.Done()
		return ctx.Err()
	}}
	var fine sink
	slow := hang.consumer("slow")
	slow.Workers, slow.Timeout = 1, 30*time.Second
	stop := start(t, db, func(c *outbox.RunnerConfig) { c.Grace = 50 * time.Millisecond }, slow, fine.consumer("fine"))
	for range 20 {
		begun := time.Now()
		add(t, db, o, event("a"))
		require.Less(t, time.Since(begun), 2*time.Second, "adding waits for nobody")
	}
	require.Eventually(t, func() bool { return fine.count() == 20 }, soon, 5*time.Millisecond)

	// What a stop interrupts is not held against the receiver.
	stop()
	var attempts, running int
	require.NoError(t, db.QueryRow(t.Context(), `select coalesce(max(attempt), 0), count(*) filter (where state = 'running')
from river_job where queue = 'slow'`).Scan(&attempts, &running))
	require.Zero(t, attempts)
	require.Zero(t, running)
}

func TestStopWaitsForDeliveriesUnderWay(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	o := newOutbox(t, db)
	begun, end := make(chan struct{}), make(chan struct{})
	s := sink{fail: func(context.Context, outbox.Delivery) error {
		close(begun)
		<-end
		return nil
	}}
	add(t, db, o, event("a"))
	stop := start(t, db, nil, s.consumer("one"))
	<-begun
	go func() {
		time.Sleep(50 * time.Millisecond)
		close(end)
	}()
	stop()
	require.Equal(t, 1, s.count())
	var state string
	require.NoError(t, db.QueryRow(t.Context(), `select state::text from river_job where kind = 'signet.delivery'`).Scan(&state))
	require.Equal(t, "completed", state)
}

// Every connection is cut; the runner finds its way back.
func TestRunnerSurvivesLostConnections(t *testing.T) {
	t.Parallel()
	for _, listen := range []bool{false, true} {
		t.Run(fmt.Sprint("listen=", listen), func(t *testing.T) {
			t.Parallel()
			url := pgtest.URL(t)
			open := func() *pgxpool.Pool {
				db, err := pg.Open(t.Context(), url, pg.Options{MaxConns: 10})
				require.NoError(t, err)
				t.Cleanup(db.Close)
				return db
			}
			killer, db := open(), open()
			o := newOutbox(t, killer)
			var s sink
			start(t, db, func(c *outbox.RunnerConfig) { c.Listen = listen }, s.consumer("one"))
			for i := range 3 {
				add(t, killer, o, event("a"))
				require.Eventually(t, func() bool { return s.count() > i }, 2*soon, 5*time.Millisecond)
				_, err := killer.Exec(t.Context(), `select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid()`)
				require.NoError(t, err)
			}
		})
	}
}

func TestRunnerRefusals(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	var s sink
	good := s.consumer("one")
	for name, c := range map[string]outbox.RunnerConfig{
		"no database":   {Consumers: []outbox.Consumer{good}},
		"no consumer":   {DB: db},
		"twins":         {DB: db, Consumers: []outbox.Consumer{good, good}},
		"reserved name": {DB: db, Consumers: []outbox.Consumer{s.consumer("event")}},
		"empty":         {DB: db, Consumers: []outbox.Consumer{{Name: "x"}}},
		"poll":          {DB: db, Consumers: []outbox.Consumer{good}, Poll: 1},
	} {
		_, err := outbox.NewRunner(c)
		require.Error(t, err, name)
	}
	_, err := outbox.New(outbox.Config{})
	require.Error(t, err)
	db.Close()
	r, err := outbox.NewRunner(outbox.RunnerConfig{DB: db, Consumers: []outbox.Consumer{good}})
	require.NoError(t, err)
	require.ErrorIs(t, r.Run(t.Context()), fault.ErrUnavailable)
}
