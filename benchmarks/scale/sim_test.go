package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The model meets the rates that were measured on the machine whose costs it has
// (docs/scaling.md): 256 and 64 callers in a closed loop, two cores.
func TestModelMeetsMeasuredRates(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		callers  int
		measured float64
	}{{256, 32_317}, {64, 21_531}} {
		m := measured()
		m.callers, m.requests = c.callers, 50_000
		require.InEpsilon(t, c.measured, m.run().rate, 0.25, "%d callers", c.callers)
	}
}

// What no queueing theory may contradict: a server that is alone and idle takes the
// sum of its parts, and nothing answers more than its dearest part allows.
func TestModelBounds(t *testing.T) {
	t.Parallel()
	m := measured()
	m.callers, m.requests = 1, 1000
	o := m.run()
	require.InDelta(t, m.node+m.batch+m.item+m.sync+m.trip, o.p50, 2)
	require.InDelta(t, 1, o.batch, 0.001)

	m = measured()
	m.rate, m.requests = 200_000, 50_000
	o = m.run()
	require.True(t, o.backlogged)
	require.Less(t, o.rate, float64(time.Second)/float64(m.item))
	require.Greater(t, o.dbBusy, 0.9)

	m.nodes, m.rate, m.requests = 4, 1000, 5000
	require.False(t, m.run().backlogged)
	require.Equal(t, m.run(), m.run(), "the same seed")
}
