package rollback_test

import (
	"context"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/rollback"
	"github.com/signet-hsm/signet/tenant"
)

var (
	alpha = tenant.MustParse("alpha")
	beta  = tenant.MustParse("beta")
)

type world struct {
	url  string
	db   *pgxpool.Pool
	log  *audit.Log
	path string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{url: pgtest.URL(t), path: filepath.Join(t.TempDir(), "mark")}
	var err error
	w.db, err = pg.Open(t.Context(), w.url, pg.Options{MaxConns: 4})
	require.NoError(t, err)
	t.Cleanup(w.db.Close)
	for _, id := range []tenant.ID{alpha, beta} {
		require.NoError(t, tenant.Ensure(t.Context(), w.db, id))
	}
	w.log, err = audit.New(audit.Config{DB: w.db})
	require.NoError(t, err)
	return w
}

// node opens a guard and makes its first beat.
func (w *world) node(t *testing.T, path string) *rollback.Guard {
	t.Helper()
	g, err := rollback.Open(rollback.Config{Path: path})
	require.NoError(t, err)
	t.Cleanup(g.Close)
	require.NoError(t, g.Start(t.Context(), w.db, w.log))
	return g
}

func (w *world) beat(t *testing.T, g *rollback.Guard) {
	t.Helper()
	require.NoError(t, g.Start(t.Context(), w.db, w.log))
}

func (w *world) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	_, err := w.db.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

func (w *world) count(t *testing.T, sql string) (n int) {
	t.Helper()
	require.NoError(t, w.db.QueryRow(t.Context(), sql).Scan(&n))
	return n
}

// snapshot is what a backup has of the guard's tables, and restore brings it back.
func (w *world) snapshot(t *testing.T) {
	w.exec(t, `create table mark_backup as table rollback_mark; create table hold_backup as table rollback_hold`)
}

func (w *world) restore(t *testing.T) {
	w.exec(t, `delete from rollback_mark; insert into rollback_mark table mark_backup;
delete from rollback_hold; insert into rollback_hold table hold_backup`)
}

func requireHeld(t *testing.T, g *rollback.Guard) {
	t.Helper()
	for _, id := range []tenant.ID{alpha, beta} {
		err := g.Check(id)
		require.ErrorIs(t, err, rollback.ErrHeld)
		require.Equal(t, fault.Unavailable, fault.KindOf(err))
		require.ErrorIs(t, g.Fresh(id, time.Now().Add(24*time.Hour), time.Minute), rollback.ErrHeld)
	}
	require.ErrorIs(t, g.CheckAll(), rollback.ErrHeld)
}

func nothing(_ context.Context, _ pgx.Tx, _ tenant.ID, _ int, after uuid.UUID) (uuid.UUID, bool, error) {
	return after, false, nil
}

func (w *world) release(t *testing.T, id tenant.ID) {
	t.Helper()
	require.NoError(t, rollback.Release(t.Context(), w.db, w.log, id, 64, "operator", nothing))
}

func TestStepBackIsFoundAtTheStart(t *testing.T) {
	for name, back := range map[string]string{
		"behind": `update rollback_mark set seq = 1`,
		"gone":   `delete from rollback_mark`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			g := w.node(t, w.path)
			w.beat(t, g)
			w.beat(t, g)
			require.NoError(t, g.Check(alpha))
			g.Close()
			g = w.node(t, w.path) // restarted on the same database: nothing to find
			require.NoError(t, g.Check(alpha))
			g.Close()

			w.exec(t, back)
			g = w.node(t, w.path)
			requireHeld(t, g)
			require.Equal(t, 2, w.count(t, `select count(*) from audit_event where action = 'rollback.hold'`))
			g.Close()
			g = w.node(t, w.path) // it stays so, and is written once
			requireHeld(t, g)
			require.Equal(t, 2, w.count(t, `select count(*) from rollback_hold`))

			w.release(t, alpha)
			w.beat(t, g)
			require.NoError(t, g.Check(alpha))
			require.ErrorIs(t, g.Check(beta), rollback.ErrHeld)
			require.ErrorIs(t, g.CheckAll(), rollback.ErrHeld)
			require.ErrorIs(t, rollback.Release(t.Context(), w.db, w.log, alpha, 64, "operator", nothing), rollback.ErrNotHeld)
			w.release(t, beta)
			w.beat(t, g)
			require.NoError(t, g.CheckAll())
		})
	}
}

func TestStepBackIsFoundByABeatAndByAConnection(t *testing.T) {
	w := newWorld(t)
	g := w.node(t, w.path)
	w.beat(t, g)
	w.snapshot(t)
	w.beat(t, g)

	var told atomic.Int32
	g.OnHold(func(id *tenant.ID) {
		if id == nil {
			told.Add(1)
		}
	})
	w.restore(t)
	pool, err := pg.Open(t.Context(), w.url, pg.Options{MaxConns: 1, Connected: g.Connected})
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "the connection that shows it is refused: %v", err)
	require.Nil(t, pool)
	requireHeld(t, g) // before anything is written
	require.Zero(t, w.count(t, `select count(*) from rollback_hold`))
	require.EqualValues(t, 1, told.Load())
	pool, err = pg.Open(t.Context(), w.url, pg.Options{MaxConns: 1, Connected: g.Connected})
	require.NoError(t, err, "the next ones serve the operator, and everybody is held")
	pool.Close()
	w.beat(t, g)
	require.Equal(t, 2, w.count(t, `select count(*) from rollback_hold`))
	requireHeld(t, g)

	// Set back once more, to before the hold: found once more.
	w.restore(t)
	w.beat(t, g)
	require.Equal(t, 2, w.count(t, `select count(*) from rollback_hold`))
	requireHeld(t, g)
	w.release(t, alpha)
	w.release(t, beta)
	w.beat(t, g)
	require.NoError(t, g.CheckAll())
	w.restore(t)
	w.beat(t, g)
	requireHeld(t, g)
}

// A restore goes table by table: who has no tenants yet will have some.
func TestHoldWaitsForTenants(t *testing.T) {
	w := newWorld(t)
	g := w.node(t, w.path)
	w.exec(t, `delete from rollback_mark; create table kept as select * from tenant where id in ('alpha', 'beta'); delete from tenant where id <> '_system'`)
	for range 2 {
		w.beat(t, g)
		requireHeld(t, g)
		require.Zero(t, w.count(t, `select count(*) from rollback_mark`))
	}
	w.exec(t, `insert into tenant table kept`)
	w.beat(t, g)
	requireHeld(t, g)
	require.Equal(t, 2, w.count(t, `select count(*) from rollback_hold`))
	w.release(t, alpha)
	w.beat(t, g)
	require.NoError(t, g.Check(alpha))
}

func TestRowThatWentBackHoldsEverybody(t *testing.T) {
	w := newWorld(t)
	g := w.node(t, w.path)
	g.WentBack("a registration", 9, 4)
	requireHeld(t, g)
	w.beat(t, g)
	requireHeld(t, g)
	require.Equal(t, 1, w.count(t, `select count(*) from rollback_hold where tenant_id = 'alpha' and expected = 9 and found = 4`))
}

// A node that was down meanwhile finds the step back that others have dealt with.
func TestLateNodeBelievesAHoldThatIsNewerThanItself(t *testing.T) {
	w := newWorld(t)
	late := w.node(t, w.path+".late")
	first := w.node(t, w.path)
	w.snapshot(t)
	w.beat(t, late)
	late.Close()
	w.beat(t, first)
	w.restore(t)
	w.beat(t, first)
	requireHeld(t, first)
	w.release(t, alpha)

	late = w.node(t, w.path+".late")
	require.NoError(t, late.Check(alpha))
	require.ErrorIs(t, late.Check(beta), rollback.ErrHeld)
	require.Equal(t, 2, w.count(t, `select count(*) from rollback_hold`))
	w.beat(t, late)
	late.Close()
	w.exec(t, `update rollback_mark set seq = 1`)
	late = w.node(t, w.path+".late") // but its own time it guards as ever
	requireHeld(t, late)
}

func TestFreshRefusesWhatMayBeFromBefore(t *testing.T) {
	w := newWorld(t)
	g := w.node(t, w.path)
	w.beat(t, g)
	require.NoError(t, g.Fresh(alpha, time.Unix(0, 0), time.Minute), "nothing ever happened")
	w.exec(t, `update rollback_mark set seq = 1`)
	w.beat(t, g)
	var at time.Time
	require.NoError(t, w.db.QueryRow(t.Context(), `select max(detected_at) from rollback_hold`).Scan(&at))
	w.release(t, alpha)
	w.beat(t, g)
	// A phone that is fast by the whole window may have made it just before.
	require.ErrorIs(t, g.Fresh(alpha, at.Add(5*time.Minute), 5*time.Minute), rollback.ErrHeld)
	require.NoError(t, g.Fresh(alpha, at.Add(5*time.Minute+time.Millisecond), 5*time.Minute))
}

func TestReleaseGoesOnWhereItWasCutOff(t *testing.T) {
	w := newWorld(t)
	g := w.node(t, w.path)
	w.beat(t, g)
	w.exec(t, `update rollback_mark set seq = 1`)
	w.beat(t, g)

	ids := []uuid.UUID{uuid.Nil, {15: 1}, {15: 2}, {15: 3}}
	var seen []uuid.UUID
	step := func(ctx context.Context, tx pgx.Tx, id tenant.ID, n int, after uuid.UUID) (uuid.UUID, bool, error) {
		require.Equal(t, alpha, id)
		require.Equal(t, 100, n)
		i := int(after[15])
		if len(seen) == 2 {
			seen = append(seen, uuid.Max)
			return after, false, fault.ErrUnavailable
		}
		seen = append(seen, after)
		return ids[min(i+1, 3)], i+1 < 3, nil
	}
	err := rollback.Release(t.Context(), w.db, w.log, alpha, 100, "operator", step)
	require.ErrorIs(t, err, fault.ErrUnavailable)
	w.beat(t, g)
	requireHeld(t, g)
	require.ErrorIs(t, rollback.Release(t.Context(), w.db, w.log, alpha, 64, "operator", step), rollback.ErrBegun)
	require.NoError(t, rollback.Release(t.Context(), w.db, w.log, alpha, 100, "operator", step))
	require.Equal(t, []uuid.UUID{ids[0], ids[1], uuid.Max, ids[2]}, seen)
	for _, n := range []int{0, -1, rollback.MaxAdvance + 1} {
		require.ErrorIs(t, rollback.Release(t.Context(), w.db, w.log, beta, n, "operator", step), rollback.ErrAdvance)
	}
	held, marks, err := rollback.Status(t.Context(), w.db)
	require.NoError(t, err)
	require.Len(t, held, 2)
	require.Equal(t, alpha, held[0].Tenant)
	require.Equal(t, 100, held[0].Advance)
	require.False(t, held[0].ReleasedAt.IsZero())
	require.True(t, held[1].ReleasedAt.IsZero())
	require.Len(t, marks, 1)
}

func TestOutageIsNoStepBack(t *testing.T) {
	w := newWorld(t)
	g := w.node(t, w.path)
	w.db.Close()
	require.ErrorIs(t, g.Start(t.Context(), w.db, w.log), fault.ErrUnavailable)
	require.NoError(t, g.CheckAll())
}

func TestNilGuardsNothing(t *testing.T) {
	var g *rollback.Guard
	require.NoError(t, g.Check(alpha))
	require.NoError(t, g.CheckAll())
	require.NoError(t, g.Fresh(alpha, time.Time{}, 0))
	g.WentBack("", 2, 1)
	g.OnHold(nil)
	g.Close()
}
