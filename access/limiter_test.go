package access_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/access"
)

func TestLimiterBoundsEachCredential(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	l, err := access.NewLimiter(access.LimiterConfig{PerCredential: 2, Total: 100, Metrics: reg})
	require.NoError(t, err)
	shop, twin := access.Principal{Tenant: alpha, Name: "shop"}, access.Principal{Tenant: beta, Name: "shop"}
	first, err := l.Enter(&shop, 1)
	require.NoError(t, err)
	_, err = l.Enter(&shop, 1)
	require.NoError(t, err)
	_, err = l.Enter(&shop, 1)
	require.ErrorIs(t, err, access.ErrBusy)
	_, err = l.Enter(&twin, 1)
	require.NoError(t, err, "another tenant's of the same name is another one")
	first.Leave()
	_, err = l.Enter(&shop, 1)
	require.NoError(t, err)
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP signet_access_at_work Calls at work that have credentials; a batch counts for the checks it has at work.
# TYPE signet_access_at_work gauge
signet_access_at_work 3
# HELP signet_access_busy_total Calls refused because too many were at work, of their credential or of all.
# TYPE signet_access_busy_total counter
signet_access_busy_total{bound="credential"} 1
signet_access_busy_total{bound="total"} 0
`), "signet_access_at_work", "signet_access_busy_total"))

	big, err := access.NewLimiter(access.LimiterConfig{PerCredential: 2})
	require.NoError(t, err)
	batch, err := big.Enter(&shop, 64)
	require.NoError(t, err, "a batch above the bound is served when it is alone")
	_, err = big.Enter(&shop, 1)
	require.ErrorIs(t, err, access.ErrBusy)
	batch.Leave()
	_, err = big.Enter(&shop, 1)
	require.NoError(t, err)
}

// Who floods keeps nobody out who has less than a fair share.
func TestLimiterIsFair(t *testing.T) {
	t.Parallel()
	l, err := access.NewLimiter(access.LimiterConfig{PerCredential: 100, Total: 10})
	require.NoError(t, err)
	flood, quiet := access.Principal{Tenant: alpha, Name: "flood"}, access.Principal{Tenant: alpha, Name: "quiet"}
	for range 10 {
		_, err := l.Enter(&flood, 1)
		require.NoError(t, err)
	}
	_, err = l.Enter(&flood, 1)
	require.ErrorIs(t, err, access.ErrBusy)
	for range 5 {
		_, err = l.Enter(&quiet, 1)
		require.NoError(t, err, "its share of ten is five")
	}
	_, err = l.Enter(&quiet, 1)
	require.ErrorIs(t, err, access.ErrBusy)
}

func TestLimiterCountsRight(t *testing.T) {
	t.Parallel()
	l, err := access.NewLimiter(access.LimiterConfig{PerCredential: 3, Total: 5})
	require.NoError(t, err)
	var wg sync.WaitGroup
	for i := range 8 {
		p := access.Principal{Tenant: alpha, Name: string(rune('a' + i%3))}
		wg.Go(func() {
			for range 1000 {
				if pass, err := l.Enter(&p, 1); err == nil {
					pass.Leave()
				}
			}
		})
	}
	wg.Wait()
	for range 3 { // nothing was left behind: all of the bound is there
		_, err := l.Enter(&access.Principal{Tenant: alpha, Name: "a"}, 1)
		require.NoError(t, err)
	}
	var none *access.Limiter
	pass, err := none.Enter(&access.Principal{}, 1)
	require.NoError(t, err)
	pass.Leave()
	_, err = access.NewLimiter(access.LimiterConfig{Total: -1})
	require.ErrorIs(t, err, access.ErrConfig)
}

func TestLimiterAllocatesNothing(t *testing.T) {
	l, err := access.NewLimiter(access.LimiterConfig{})
	require.NoError(t, err)
	p := access.Principal{Tenant: beta, Name: "b"}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		pass, _ := l.Enter(&p, 1)
		pass.Leave()
	}))
}
