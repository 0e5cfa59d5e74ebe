package callback

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBreakerOpensHalfOpensAndCloses(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	b := newBreakers(Breaker{Failures: 2, Open: time.Second, MaxOpen: 3 * time.Second}, 2, func() time.Time { return now })
	try := func(well bool) {
		t.Helper()
		_, ok := b.enter("e")
		require.True(t, ok)
		b.leave("e", well)
	}
	refused := func(want time.Duration) {
		t.Helper()
		wait, ok := b.enter("e")
		require.False(t, ok)
		require.Equal(t, want, wait)
	}
	try(false)
	try(true)
	require.Empty(t, b.at, "one that is well takes no memory")
	try(false)
	try(false)
	for _, open := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second} {
		refused(open)
		now = now.Add(open)
		_, ok := b.enter("e")
		require.True(t, ok)
		refused(busy) // one probe at a time
		b.leave("e", false)
	}
	now = now.Add(3 * time.Second)
	try(true)
	require.Empty(t, b.at)

	// A straggler from before it opened does not open it for longer.
	for range 2 {
		_, ok := b.enter("e")
		require.True(t, ok)
	}
	refused(busy) // not more than half of the workers
	b.leave("e", false)
	b.leave("e", false)
	refused(time.Second)
	_, ok := b.enter("another")
	require.True(t, ok)
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"": 0, "5": 5 * time.Second, " 5 ": 5 * time.Second, "-5": 0, "x": 0, "99999999": maxRetryAfter, "99999999999999999999": 0,
		"Sun, 01 Mar 2026 12:00:30 GMT": 30 * time.Second, "Sun, 01 Mar 2026 11:00:00 GMT": 0, "Sun, 01 Mar 2027 12:00:00 GMT": maxRetryAfter,
	} {
		require.Equal(t, want, retryAfter(s, now), s)
	}
}
