package registration

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
)

func TestGateLetsInSoManyAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := make(gate, 2)
		require.NoError(t, g.enter(t.Context()))
		require.NoError(t, g.enter(t.Context()))
		at := time.Now()
		require.ErrorIs(t, g.enter(t.Context()), fault.ErrUnavailable)
		require.Equal(t, gateWait, time.Since(at))

		go func() { time.Sleep(gateWait / 2); g.leave() }()
		require.NoError(t, g.enter(t.Context()), "a place became free in time")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, g.enter(ctx), context.Canceled)
	})
}
