package apitest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/internal/pgcluster"
	"github.com/signet-hsm/signet/tenant"
)

// NewDurable makes an Installation whose database syncs each commit to disk and has
// as many connections as a node that serves has by default: for benchmarks.
func NewDurable(tb testing.TB) *Installation {
	tb.Helper()
	c, err := pgcluster.Start(tb.Context(), pgcluster.Config{Dir: tb.TempDir(), Durable: true})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, c.Stop(context.WithoutCancel(tb.Context()))) })
	pool, err := pg.Open(tb.Context(), c.URL(), pg.Options{})
	require.NoError(tb, err)
	tb.Cleanup(pool.Close)
	_, err = pg.Migrate(tb.Context(), pool)
	require.NoError(tb, err)
	for _, t := range []tenant.ID{pgtest.Alpha, pgtest.Beta} {
		require.NoError(tb, tenant.Ensure(tb.Context(), pool, t))
	}
	return newInstallation(tb, pool)
}

// NewInstallation makes one on a database that does not sync.
func NewInstallation(tb testing.TB) *Installation {
	tb.Helper()
	return newInstallation(tb, pgtest.New(tb))
}
