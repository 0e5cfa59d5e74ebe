package sweep_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/sweep"
)

func TestRunFollowsWhatTheRoundsSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var at []time.Duration
		begin := time.Now()
		loop := sweep.Loop{Name: "test", Every: 10 * time.Second, Logger: slog.New(slog.DiscardHandler)}
		loop.Round = func(context.Context) (bool, error) {
			at = append(at, time.Since(begin))
			switch len(at) {
			case 1, 2:
				return true, nil // at once again
			case 3:
				return true, errors.New("database gone") // never at once
			case 5:
				cancel()
			}
			return false, nil
		}
		require.NoError(t, loop.Run(ctx))
		require.Len(t, at, 5)
		require.Zero(t, at[1])
		require.Zero(t, at[2])
		for _, i := range []int{3, 4} {
			pause := at[i] - at[i-1]
			require.GreaterOrEqual(t, pause, 5*time.Second)
			require.Less(t, pause, 15*time.Second)
		}
	})
}
