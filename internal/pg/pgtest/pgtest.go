package pgtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// Alpha and Beta are the twin tenants of every test database.
var (
	Alpha = tenant.MustParse("alpha")
	Beta  = tenant.MustParse("beta")
)

// maxConns is what one test's pool may take: enough to race, little enough that
// many parallel tests fit under the server's max_connections.
const maxConns = 10

// New returns a pool on a migrated database of the test's own, closed and
// dropped at its end.
func New(tb testing.TB) *pgxpool.Pool {
	tb.Helper()
	pool, err := pg.Open(tb.Context(), URL(tb), pg.Options{MaxConns: maxConns, AppName: "pgtest"})
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	tb.Cleanup(pool.Close)
	return pool
}

// URL makes a migrated database for the test and returns its URL.
func URL(tb testing.TB) string {
	tb.Helper()
	return create(tb, (*server).template)
}

// EmptyURL is URL for a database without any table: for tests of migrating.
func EmptyURL(tb testing.TB) string {
	tb.Helper()
	return create(tb, func(*server, context.Context) (string, error) { return "template0", nil })
}

var databases atomic.Int64

func create(tb testing.TB, from func(*server, context.Context) (string, error)) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	s, err := shared()
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	template, err := from(s, ctx)
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	name := fmt.Sprintf("signet_%d_%s_%d", os.Getpid(), s.nonce, databases.Add(1))
	if _, err := s.admin.Exec(ctx, "create database "+name+" template "+template+s.strategy); err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	tb.Cleanup(func() { s.drop(tb, name) })
	return withDatabase(s.url, name)
}

// withDatabase is rawURL with another database.
func withDatabase(rawURL, name string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		panic("pgtest: " + strings.ReplaceAll(err.Error(), rawURL, "URL")) // shared has parsed it before
	}
	u.Path = "/" + name
	return u.String()
}

var (
	sharedMu sync.Mutex
	theOne   *server
	theErr   error
)

// shared starts the binary's server once; a failure is final, for each further
// test would only wait for the same.
func shared() (*server, error) {
	sharedMu.Lock()
	defer sharedMu.Unlock()
	if theOne == nil && theErr == nil {
		theOne, theErr = startServer()
	}
	return theOne, theErr
}

// Stop ends the binary's cluster; the next New starts another. Main calls it.
func Stop() {
	sharedMu.Lock()
	defer sharedMu.Unlock()
	if theOne != nil {
		theOne.stop()
	}
	theOne, theErr = nil, nil
}
