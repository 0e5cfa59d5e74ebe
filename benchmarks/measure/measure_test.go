package measure

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRunCounts(t *testing.T) {
	t.Parallel()
	s, err := Run(Load{Name: "x/callers=4", Callers: 4, For: 20 * time.Millisecond, Op: func(int) error {
		time.Sleep(time.Millisecond)
		return nil
	}})
	require.NoError(t, err)
	require.Positive(t, s.Ops)
	require.GreaterOrEqual(t, s.P50, time.Millisecond*98/100)
	require.GreaterOrEqual(t, s.P99, s.P50)
	var out bytes.Buffer
	require.NoError(t, s.Write(&out))
	require.Regexp(t, `^Benchmarkx/callers=4-\d+\t\d+\t[\d.e+]+ ns/op\t.* cpu-ns/op\t.* allocs/op\t.* p50-ns\t.* p99-ns\n$`, out.String())
}

func TestRunEndsWithTheFirstError(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	_, err := Run(Load{Name: "x", Callers: 8, For: time.Hour, Op: func(c int) error {
		if c == 3 {
			return down
		}
		return nil
	}})
	require.ErrorIs(t, err, down)
}

func TestHistogramErrsByLessThanOnePart(t *testing.T) {
	t.Parallel()
	for range 10_000 {
		ns := rand.Int64N(1<<rand.IntN(41) + 1)
		ns = max(ns, 1)
		e := edge(bucket(uint64(ns)))
		require.LessOrEqual(t, int64(e), ns)
		require.Less(t, float64(ns-int64(e)), float64(ns)/perOctave+1)
	}
	var h, g histogram
	for i := range 100 {
		h.add(time.Duration(i+1) * time.Microsecond)
		g.add(time.Hour)
	}
	require.InEpsilon(t, 50*time.Microsecond, h.quantile(0.5), 0.03)
	h.merge(&g)
	require.EqualValues(t, 200, h.n)
	require.Greater(t, h.quantile(0.99), 15*time.Minute)
}
