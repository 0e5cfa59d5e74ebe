package pg_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/schema"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func open(t *testing.T, url string, o pg.Options) *pgxpool.Pool {
	t.Helper()
	pool, err := pg.Open(t.Context(), url, o)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func show(t *testing.T, db *pgxpool.Pool, name string) (v string) {
	t.Helper()
	require.NoError(t, db.QueryRow(t.Context(), "show "+name).Scan(&v))
	return v
}

func TestOpenSetsLimits(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := open(t, url, pg.Options{})
	for name, want := range map[string]string{
		"application_name": "signet", "statement_timeout": "10s", "idle_in_transaction_session_timeout": "10s",
		"lock_timeout": "5s", "timezone": "UTC",
	} {
		require.Equal(t, want, show(t, pool, name), name)
	}
	require.GreaterOrEqual(t, pool.Config().MaxConns, int32(8))

	own := open(t, url, pg.Options{MaxConns: 3, AppName: "node-1", StatementTimeout: -1, LockTimeout: time.Second, PgBouncer: true})
	require.Equal(t, "0", show(t, own, "statement_timeout"))
	require.Equal(t, "1s", show(t, own, "lock_timeout"))
	require.Equal(t, "node-1", show(t, own, "application_name"))
	require.EqualValues(t, 3, own.Config().MaxConns)

	// What the operator wrote into the URL wins.
	sep := "?"
	if strings.Contains(url, "?") {
		sep = "&"
	}
	byURL := open(t, url+sep+"pool_max_conns=2&statement_timeout=7000", pg.Options{})
	require.Equal(t, "7s", show(t, byURL, "statement_timeout"))
	require.EqualValues(t, 2, byURL.Config().MaxConns)
}

func TestOpenOfAnAbsentServerIsUnavailable(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())
	_, err = pg.Open(t.Context(), fmt.Sprintf("postgres://u:hunter2@127.0.0.1:%d/d?sslmode=disable", port), pg.Options{})
	require.ErrorIs(t, err, fault.ErrUnavailable)
	require.NotContains(t, err.Error(), "hunter2")
	_, err = pg.Open(t.Context(), "postgres://u:hunter2@h:no/d", pg.Options{})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")
}

// Not parallel: it sets the process's environment.
func TestEnvironmentIsIgnored(t *testing.T) {
	url := pgtest.URL(t)
	for k, v := range map[string]string{
		"PGHOST": "/nonexistent", "PGPORT": "1", "PGUSER": "nobody", "PGPASSWORD": "wrong", "PGDATABASE": "none",
		"PGSERVICE": "none", "PGSERVICEFILE": "/nonexistent", "PGOPTIONS": "-c search_path=evil", "PGTZ": "Asia/Tokyo",
		"PGAPPNAME": "evil", "PGTARGETSESSIONATTRS": "standby", "PGCONNECT_TIMEOUT": "nonsense",
	} {
		t.Setenv(k, v)
	}
	pool := open(t, url, pg.Options{})
	require.Equal(t, "signet", show(t, pool, "application_name"))
	require.Equal(t, "UTC", show(t, pool, "timezone"))
	require.NotEqual(t, "evil", show(t, pool, "search_path"))
	cfg, err := pg.ParseConfig(url)
	require.NoError(t, err)
	require.NotEqual(t, "nobody", cfg.User)
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	pool := open(t, pgtest.EmptyURL(t), pg.Options{})
	files, err := schema.FS.ReadDir(".")
	require.NoError(t, err)
	n, err := pg.Pending(t.Context(), pool)
	require.NoError(t, err)
	require.Equal(t, len(files), n)
	require.ErrorIs(t, pg.Check(t.Context(), pool), pg.ErrSchemaOlder)
	var tables int
	require.NoError(t, pool.QueryRow(t.Context(), `select count(*) from pg_tables where schemaname = 'public'`).Scan(&tables))
	require.Zero(t, tables, "asking has written")

	n, err = pg.Migrate(t.Context(), pool)
	require.NoError(t, err)
	require.Equal(t, len(files), n)
	n, err = pg.Migrate(t.Context(), pool)
	require.NoError(t, err)
	require.Zero(t, n)
	require.NoError(t, pg.Check(t.Context(), pool))
}

// Several nodes start on an empty database at once.
func TestMigrateAtTheSameTime(t *testing.T) {
	t.Parallel()
	url := pgtest.EmptyURL(t)
	steps := fstest.MapFS{}
	for i := range 5 {
		steps[fmt.Sprintf("%04d_x.sql", i+1)] = &fstest.MapFile{Data: []byte(fmt.Sprintf(
			"-- +goose Up\ncreate table x%d (n int primary key);\nselect pg_sleep(0.05);\ninsert into x%d values (1);\n", i, i))}
	}
	const nodes = 4
	applied := make([]int, nodes)
	errs := make([]error, nodes)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range nodes {
		pool := open(t, url, pg.Options{MaxConns: 2})
		wg.Go(func() {
			<-start
			applied[i], errs[i] = pg.MigrateFrom(t.Context(), pool, steps)
		})
	}
	close(start)
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	sum := 0
	for _, n := range applied {
		sum += n
	}
	require.Equal(t, len(steps), sum)
}

func TestMigrateRefusesANewerDatabase(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	_, err := pool.Exec(t.Context(), `insert into goose_db_version (version_id, is_applied) values (9999, true)`)
	require.NoError(t, err)
	_, err = pg.Migrate(t.Context(), pool)
	require.ErrorIs(t, err, pg.ErrSchemaNewer)
	_, err = pg.Pending(t.Context(), pool)
	require.ErrorIs(t, err, pg.ErrSchemaNewer)
	require.ErrorIs(t, pg.Check(t.Context(), pool), pg.ErrSchemaNewer)
}

// A step that fails is undone as a whole, named, and can be run again.
func TestMigrateFailure(t *testing.T) {
	t.Parallel()
	pool := open(t, pgtest.EmptyURL(t), pg.Options{})
	steps := fstest.MapFS{
		"0001_a.sql": {Data: []byte("-- +goose Up\ncreate table a ();\n")},
		"0002_b.sql": {Data: []byte("-- +goose Up\ncreate table b ();\nselect 1/0;\n")},
	}
	n, err := pg.MigrateFrom(t.Context(), pool, steps)
	require.ErrorContains(t, err, "0002_b.sql")
	require.Equal(t, 1, n)
	var exists bool
	require.NoError(t, pool.QueryRow(t.Context(), `select to_regclass('b') is not null`).Scan(&exists))
	require.False(t, exists)
	steps["0002_b.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\ncreate table b ();\n")}
	n, err = pg.MigrateFrom(t.Context(), pool, steps)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	steps["0009_z.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\ncreate table z ();\n")}
	n, err = pg.MigrateFrom(t.Context(), pool, steps)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	// One that comes late, below what is applied: refused, not forgotten.
	steps["0005_late.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\ncreate table c ();\n")}
	_, err = pg.MigrateFrom(t.Context(), pool, steps)
	require.Error(t, err)
}

func TestInTxCommitsAndRollsBack(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	boom := fault.New(fault.Conflict, "BOOM", "boom")
	insert := func(id string, answer error) error {
		return pg.InTx(t.Context(), pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), `insert into tenant (id) values ($1)`, id)
			return errors.Join(err, answer)
		})
	}
	require.NoError(t, insert("kept", nil))
	require.ErrorIs(t, insert("undone", boom), boom)
	require.Panics(t, func() {
		_ = pg.InTx(t.Context(), pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), `insert into tenant (id) values ('panicked')`)
			require.NoError(t, err)
			panic("x")
		})
	})
	var n int
	require.NoError(t, pool.QueryRow(t.Context(), `select count(*) from tenant where id in ('kept', 'undone', 'panicked')`).Scan(&n))
	require.Equal(t, 1, n)
	require.Zero(t, pool.Stat().AcquiredConns())
}

// A caller that gives up must not leave a transaction open or a connection taken.
func TestInTxRollsBackWhenTheCallerIsGone(t *testing.T) {
	t.Parallel()
	pool := open(t, pgtest.URL(t), pg.Options{MaxConns: 1})
	ctx, cancel := context.WithCancel(t.Context())
	err := pg.InTx(ctx, pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `insert into tenant (id) values ('undone')`)
		cancel()
		return err
	})
	require.ErrorIs(t, err, fault.ErrUnavailable)
	var n int
	require.NoError(t, pool.QueryRow(t.Context(), `select count(*) from tenant where id = 'undone'`).Scan(&n))
	require.Zero(t, n)

	// One that ends before commit costs no connection: it is rolled back in order.
	const pid = `select pg_backend_pid()`
	var before, after int
	require.NoError(t, pool.QueryRow(t.Context(), pid).Scan(&before))
	ctx, cancel = context.WithCancel(t.Context())
	gone := errors.New("gone")
	require.ErrorIs(t, pg.InTx(ctx, pool, func(pgx.Tx) error { cancel(); return gone }), gone)
	require.NoError(t, pool.QueryRow(t.Context(), pid).Scan(&after))
	require.Equal(t, before, after)
}

// All transactions read before one writes: serializable lets the first commit
// and fails the others with 40001. InTx runs them again, and the sum is right.
// Each round has a winner, so nobody runs out of attempts.
func TestInTxRepeatsSerializationFailures(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	_, err := pool.Exec(t.Context(), `create table counter (n int); insert into counter values (0)`)
	require.NoError(t, err)
	const workers = 4
	var read, wg sync.WaitGroup
	read.Add(workers)
	var attempts [workers]int
	var errs [workers]error
	for i := range workers {
		wg.Go(func() {
			errs[i] = pg.InTx(t.Context(), serializable{pool}, func(tx pgx.Tx) error {
				attempts[i]++
				var n int
				if err := tx.QueryRow(t.Context(), `select n from counter`).Scan(&n); err != nil {
					return err
				}
				if attempts[i] == 1 {
					read.Done()
					read.Wait()
				}
				_, err := tx.Exec(t.Context(), `update counter set n = $1`, n+1)
				return err
			})
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs[:]...))
	var n int
	require.NoError(t, pool.QueryRow(t.Context(), `select n from counter`).Scan(&n))
	require.Equal(t, workers, n)
	sum := 0
	for _, a := range attempts {
		sum += a
	}
	require.GreaterOrEqual(t, sum, 2*workers-1)
}

type serializable struct{ pool *pgxpool.Pool }

func (s serializable) Begin(ctx context.Context) (pgx.Tx, error) {
	return s.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable})
}

func TestInTxRepeatsDeadlocks(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	var both sync.WaitGroup
	both.Add(2)
	var first [2]sync.Once
	errs := make([]error, 2)
	var wg sync.WaitGroup
	for i, order := range [][]string{{"alpha", "beta"}, {"beta", "alpha"}} {
		wg.Go(func() {
			errs[i] = pg.InTx(t.Context(), pool, func(tx pgx.Tx) error {
				for step, id := range order {
					if _, err := tx.Exec(t.Context(), `select 1 from tenant where id = $1 for update`, id); err != nil {
						return err
					}
					if step == 0 {
						first[i].Do(func() { both.Done(); both.Wait() })
					}
				}
				return nil
			})
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
}

func TestInTxGivesUp(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	n := 0
	err := pg.InTx(t.Context(), pool, func(pgx.Tx) error {
		n++
		return &pgconn.PgError{Code: "40001"}
	})
	require.ErrorIs(t, err, fault.ErrUnavailable)
	require.Equal(t, pg.MaxAttempts, n)

	ctx, cancel := context.WithCancel(t.Context())
	n = 0
	err = pg.InTx(ctx, pool, func(pgx.Tx) error {
		n++
		cancel()
		return &pgconn.PgError{Code: "40P01"}
	})
	require.ErrorIs(t, err, fault.ErrUnavailable)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 1, n)
}

func TestErrors(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	_, err := pool.Exec(t.Context(), `insert into tenant (id) values ('alpha')`)
	err = fmt.Errorf("wrapped: %w", err)
	require.True(t, pg.IsUnique(err, "tenant_pkey"))
	require.True(t, pg.IsUnique(err, ""))
	require.False(t, pg.IsUnique(err, "other"))
	_, err = pool.Exec(t.Context(), `insert into tenant (id) values ('x')`) // too short: a check
	require.Error(t, err)
	require.False(t, pg.IsUnique(err, ""))
	require.False(t, pg.IsUnique(nil, ""))

	require.NoError(t, pg.Unavailable(nil))
	require.ErrorIs(t, pg.Unavailable(context.DeadlineExceeded), fault.ErrUnavailable)
	require.ErrorIs(t, pg.Unavailable(context.DeadlineExceeded), context.DeadlineExceeded)
	sentinel := fault.New(fault.NotFound, "NONE", "none")
	require.Equal(t, error(sentinel), pg.Unavailable(sentinel))

	pool.Close()
	require.ErrorIs(t, pg.InTx(t.Context(), pool, func(pgx.Tx) error { return nil }), fault.ErrUnavailable)
}

// A session killed by an operator, or by a fast shutdown, is an outage, and the
// pool serves the next caller.
func TestTerminatedSession(t *testing.T) {
	t.Parallel()
	pool := open(t, pgtest.URL(t), pg.Options{MaxConns: 2})
	err := pg.InTx(t.Context(), pool, func(tx pgx.Tx) error {
		var pid int
		if err := tx.QueryRow(t.Context(), `select pg_backend_pid()`).Scan(&pid); err != nil {
			return err
		}
		if _, err := pool.Exec(t.Context(), `select pg_terminate_backend($1)`, pid); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), `select 1`)
		require.Error(t, err)
		return pg.Unavailable(err)
	})
	require.ErrorIs(t, err, fault.ErrUnavailable)
	require.NoError(t, pool.Ping(t.Context()))
}

func TestCollector(t *testing.T) {
	t.Parallel()
	pool := open(t, pgtest.URL(t), pg.Options{MaxConns: 1})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(pg.Collector(pool))
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = pool.Acquire(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP signet_pg_connections_acquired Connections in use.
# TYPE signet_pg_connections_acquired gauge
signet_pg_connections_acquired 1
# HELP signet_pg_connections_max Most connections the pool may open.
# TYPE signet_pg_connections_max gauge
signet_pg_connections_max 1
# HELP signet_pg_acquires_canceled_total Callers that gave up waiting.
# TYPE signet_pg_acquires_canceled_total counter
signet_pg_acquires_canceled_total 1
`), "signet_pg_connections_acquired", "signet_pg_connections_max", "signet_pg_acquires_canceled_total"))
	conn.Release()
}
