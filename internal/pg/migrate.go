package pg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/schema"
)

// ErrSchemaNewer: the database was migrated by a newer signet. Running on would
// write rows the newer one does not expect.
var ErrSchemaNewer = fault.New(fault.Internal, "SCHEMA_NEWER", "the database schema is newer than this program")

// ErrSchemaOlder: migrations are pending.
var ErrSchemaOlder = fault.New(fault.Unavailable, "SCHEMA_OLDER", "the database schema is older than this program: run signet migrate")

// Migrate applies the pending steps and returns how many it applied. Nodes may
// call it at the same time: a lock row with a lease lets one work and the others
// wait, and a node that dies in between is waited for no longer than the lease.
func Migrate(ctx context.Context, pool *pgxpool.Pool) (applied int, err error) {
	return migrate(ctx, pool, schema.FS)
}

// Pending counts the steps that Migrate would apply. It changes nothing.
func Pending(ctx context.Context, pool *pgxpool.Pool) (int, error) {
	return pending(ctx, pool, schema.FS)
}

// Check refuses a database that is not exactly at the program's schema: for a
// node that serves and leaves migrating to an operator. Errors: ErrSchemaOlder,
// ErrSchemaNewer, fault.ErrUnavailable.
func Check(ctx context.Context, pool *pgxpool.Pool) error {
	n, err := Pending(ctx, pool)
	if err == nil && n > 0 {
		err = fmt.Errorf("pg: %w: %d steps", ErrSchemaOlder, n)
	}
	return err
}

func migrate(ctx context.Context, pool *pgxpool.Pool, steps fs.FS) (int, error) {
	// Also keeps the second start of a node to one read.
	if n, err := pending(ctx, pool, steps); err != nil || n == 0 {
		return 0, err
	}
	locker, err := lock.NewPostgresTableLocker(
		lock.WithTableLeaseDuration(10*time.Second),
		lock.WithTableHeartbeatInterval(2*time.Second),
		lock.WithTableLockTimeout(100*time.Millisecond, 3000),
		lock.WithTableUnlockTimeout(100*time.Millisecond, 100),
		lock.WithTableLogger(slog.New(slog.DiscardHandler)), // what matters comes back as an error
	)
	if err != nil {
		return 0, fmt.Errorf("pg: migrate: %w", err)
	}
	// Sessions of its own: a step may well take longer than a request's statement.
	cfg := pool.Config().ConnConfig
	cfg.RuntimeParams["statement_timeout"] = "0"
	cfg.RuntimeParams["lock_timeout"] = "10000" // rather fail than queue all readers behind us
	db := stdlib.OpenDB(*cfg)
	defer func() { _ = db.Close() }()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, steps,
		goose.WithLocker(locker), goose.WithDisableGlobalRegistry(true), goose.WithSlog(slog.New(slog.DiscardHandler)))
	if err != nil {
		return 0, fmt.Errorf("pg: migrate: %w", err)
	}
	done, err := provider.Up(ctx)
	if err != nil {
		var partial *goose.PartialError
		if errors.As(err, &partial) {
			return len(partial.Applied), fmt.Errorf("pg: migration %s: %w", partial.Failed.Source.Path, partial.Err)
		}
		return 0, Unavailable(fmt.Errorf("pg: migrate: %w", err))
	}
	return len(done), nil
}

// pending reads the version table itself: goose's own question creates it.
func pending(ctx context.Context, pool *pgxpool.Pool, steps fs.FS) (int, error) {
	known, err := versions(steps)
	if err != nil {
		return 0, err
	}
	var exists bool
	if err := pool.QueryRow(ctx, sqlVersionTableExists).Scan(&exists); err != nil {
		return 0, Unavailable(fmt.Errorf("pg: schema version: %w", err))
	}
	if !exists {
		return len(known), nil
	}
	rows, _ := pool.Query(ctx, sqlVersions)
	applied, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return 0, Unavailable(fmt.Errorf("pg: schema version: %w", err))
	}
	// By set, not by the highest number: a step that came to the program late would
	// be passed over without a word.
	for _, v := range applied {
		if !slices.Contains(known, v) {
			return 0, fmt.Errorf("pg: %w: it has step %d, the program knows up to %d", ErrSchemaNewer, v, known[len(known)-1])
		}
	}
	n := 0
	for _, v := range known {
		if !slices.Contains(applied, v) {
			n++
		}
	}
	return n, nil
}

const (
	sqlVersionTableExists = `select to_regclass('goose_db_version') is not null`
	// Version 0 is goose's own mark. Rows are only ever added by steps that go up.
	sqlVersions = `select version_id from goose_db_version where is_applied and version_id > 0 order by version_id`
)

// versions lists the steps' numbers in order.
func versions(steps fs.FS) ([]int64, error) {
	names, err := fs.Glob(steps, "*.sql") // sorted, and so are four-digit numbers
	if err != nil || len(names) == 0 {
		return nil, fmt.Errorf("pg: no migrations: %w", errors.Join(err, fs.ErrNotExist))
	}
	out := make([]int64, len(names))
	for i, name := range names {
		if out[i], err = goose.NumericComponent(name); err != nil {
			return nil, fmt.Errorf("pg: migration %s: %w", name, err)
		}
	}
	return out, nil
}
