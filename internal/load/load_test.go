package load_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/signet-hsm/signet/internal/load"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// taking is a caller whose calls take a while each.
func taking(d time.Duration) load.Caller {
	return func(context.Context) (load.Call, error) {
		return load.Call{Kind: "a", Do: func(context.Context) error { time.Sleep(d); return nil }}, nil
	}
}

func TestClosedLoop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reports := 0
		s, err := load.Run(t.Context(), load.Plan{
			Callers: []load.Caller{taking(10 * time.Millisecond), taking(10 * time.Millisecond)}, Duration: time.Second, Timeout: time.Second,
			Every: 300 * time.Millisecond, Report: func(p load.Progress) {
				reports++
				require.InDelta(t, 200, p.Rate, 20)
				require.InDelta(t, 10, p.P50.Seconds()*1000, 0.1)
			},
		})
		require.NoError(t, err)
		require.Equal(t, 3, reports)
		require.InDelta(t, 200, s.OK, 2)
		require.InDelta(t, 10, s.Kinds["a"].Times.P999, 0.1)
	})
}

func TestCount(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{0, 10_000} {
		s, err := load.Run(t.Context(), load.Plan{Callers: []load.Caller{taking(0), taking(0), taking(0)}, Count: 100, Rate: rate, Timeout: time.Second})
		require.NoError(t, err)
		require.EqualValues(t, 100, s.OK)
	}
}

// A stall is charged to every call that was due in it, not to the one that met it.
func TestAtARateTimeCountsFromWhenACallWasDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		s, err := load.Run(t.Context(), load.Plan{
			Callers: []load.Caller{func(context.Context) (load.Call, error) {
				return load.Call{Kind: "a", Do: func(context.Context) error {
					if calls++; calls == 50 {
						time.Sleep(500 * time.Millisecond)
					}
					return nil
				}}, nil
			}},
			Count: 100, Rate: 100, Timeout: time.Second,
		})
		require.NoError(t, err)
		times := s.Kinds["a"].Times
		require.InDelta(t, 500, times.Max, 1)
		require.Greater(t, times.P90, 300.0, "half of the calls were due in the stall")
		require.Less(t, times.P50, 30.0)
	})
}

func TestErrorsAreToldApart(t *testing.T) {
	t.Parallel()
	i := 0
	s, err := load.Run(t.Context(), load.Plan{
		Callers: []load.Caller{func(context.Context) (load.Call, error) {
			i++
			n := i
			if n == 4 {
				return load.Call{}, errors.New("no code")
			}
			return load.Call{Kind: "a", Do: func(context.Context) error {
				return map[int]error{1: fmt.Errorf("%w: valid = false", load.ErrWrong), 2: fmt.Errorf("%w: busy", load.ErrRefused), 3: errors.New("reset")}[n]
			}}, nil
		}},
		Count: 5, Timeout: time.Second,
	})
	require.NoError(t, err)
	require.EqualValues(t, []int64{1, 1, 1, 2}, []int64{s.OK, s.Wrong, s.Refused, s.Failed})
	var out strings.Builder
	s.Write(&out)
	require.Contains(t, out.String(), "1 x a: wrong answer: valid = false")
	require.Contains(t, out.String(), "1 x prepare: no code")
}

// The end waits for what is at work.
func TestTheEndOfTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, rate := range []float64{0, 1000} {
			ctx, cancel := context.WithCancel(t.Context())
			var began, ended atomic.Int64
			caller := func(context.Context) (load.Call, error) {
				return load.Call{Kind: "a", Do: func(ctx context.Context) error {
					began.Add(1)
					cancel()
					time.Sleep(100 * time.Millisecond)
					ended.Add(1)
					return ctx.Err()
				}}, nil
			}
			s, err := load.Run(ctx, load.Plan{Callers: []load.Caller{caller, caller}, Duration: time.Hour, Rate: rate, Timeout: time.Second})
			require.NoError(t, err)
			require.Equal(t, began.Load(), ended.Load())
			require.Equal(t, ended.Load(), s.OK, "they were not cut off")
			require.NotZero(t, s.OK)
		}
	})
}

func TestAPlanIsChecked(t *testing.T) {
	t.Parallel()
	one := []load.Caller{taking(0)}
	for _, p := range []load.Plan{
		{}, {Callers: one}, {Callers: one, Count: 1}, {Callers: one, Count: 1, Timeout: 1, Rate: -1}, {Count: 1, Timeout: 1},
	} {
		_, err := load.Run(t.Context(), p)
		require.Error(t, err)
	}
}
