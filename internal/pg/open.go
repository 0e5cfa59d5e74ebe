package pg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Options tune a pool. The zero value is fit for production.
type Options struct {
	// MaxConns is the most connections at once; 0 means 4 per CPU, at least 8.
	MaxConns int
	// AppName shows in pg_stat_activity; "" means "signet".
	AppName string
	// StatementTimeout ends a statement on the server; 0 means 10 s, negative none.
	StatementTimeout time.Duration
	// IdleInTxTimeout ends a session that forgot its transaction; 0 means 10 s,
	// negative none.
	IdleInTxTimeout time.Duration
	// LockTimeout ends the wait for a row or table lock; 0 means 5 s, negative none.
	LockTimeout time.Duration
	// PgBouncer avoids server-side prepared statements by name, for a pooler in
	// transaction mode that can not track them (pgbouncer before 1.21).
	PgBouncer bool
	// Connected looks at each new connection before anybody uses it; its error
	// closes the connection.
	Connected func(ctx context.Context, conn *pgx.Conn) error
}

// Open makes a pool and proves that it reaches the database. The error is
// Unavailable when it does not.
func Open(ctx context.Context, url string, o Options) (*pgxpool.Pool, error) {
	cfg, err := poolConfig(url, o)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, Unavailable(fmt.Errorf("pg: open: %w", err))
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, Unavailable(fmt.Errorf("pg: open: %w", err))
	}
	return pool, nil
}

func poolConfig(url string, o Options) (*pgxpool.Config, error) {
	var cfg *pgxpool.Config
	err := withoutEnv(func() (err error) {
		cfg, err = pgxpool.ParseConfig(url)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("pg: database URL: %w", err)
	}
	switch {
	case o.MaxConns > 0:
		cfg.MaxConns = int32(o.MaxConns)
	case !strings.Contains(url, "pool_max_conns"):
		cfg.MaxConns = int32(max(8, 4*runtime.GOMAXPROCS(0)))
	}
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = 5 * time.Second
	}
	// Ten minutes apart, so that a fail-over or a re-balanced pooler is followed
	// without a herd of reconnects.
	cfg.MaxConnLifetime = time.Hour
	cfg.MaxConnLifetimeJitter = 10 * time.Minute
	cfg.MaxConnIdleTime = 5 * time.Minute
	cfg.AfterConnect = o.Connected
	if o.PgBouncer {
		cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	} else {
		cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	}
	p := cfg.ConnConfig.RuntimeParams
	set := func(name, value string) {
		if _, ok := p[name]; !ok { // what the URL says wins
			p[name] = value
		}
	}
	if o.AppName == "" {
		o.AppName = "signet"
	}
	set("application_name", o.AppName)
	// A verdict is answered after it is durable, whatever the server's default is.
	// A URL may ask for more (remote_apply), not for less.
	if p["synchronous_commit"] != "remote_apply" {
		p["synchronous_commit"] = "on"
	}
	set("timezone", "UTC")
	set("statement_timeout", millis(o.StatementTimeout, 10*time.Second))
	set("idle_in_transaction_session_timeout", millis(o.IdleInTxTimeout, 10*time.Second))
	set("lock_timeout", millis(o.LockTimeout, 5*time.Second))
	return cfg, nil
}

// millis is d, or def for 0, as PostgreSQL counts; negative is 0, "no limit".
func millis(d, def time.Duration) string {
	if d == 0 {
		d = def
	}
	return strconv.FormatInt(max(0, d.Milliseconds()), 10)
}

// ParseConfig reads a database URL for a single connection, as Open does.
func ParseConfig(url string) (*pgx.ConnConfig, error) {
	var cfg *pgx.ConnConfig
	err := withoutEnv(func() (err error) {
		cfg, err = pgx.ParseConfig(url)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("pg: database URL: %w", err)
	}
	return cfg, nil
}

var envMu sync.Mutex

// withoutEnv runs parse while no PG* variable is set. pgx fills every gap of a
// URL from them as libpq does, so a PGOPTIONS or PGSERVICE of a user's shell would
// change which database a security service talks to, and pgx has no switch for it.
func withoutEnv(parse func() error) error {
	envMu.Lock()
	defer envMu.Unlock()
	for _, kv := range os.Environ() {
		name, value, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "PG") {
			if err := os.Unsetenv(name); err != nil {
				return errors.New("pg: can not clear " + name)
			}
			defer func() { _ = os.Setenv(name, value) }()
		}
	}
	return parse()
}
