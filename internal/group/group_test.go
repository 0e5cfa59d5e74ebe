package group_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/group"
)

// store answers each item with its double, and can be held.
type store struct {
	mu      sync.Mutex
	batches [][]int
	hold    chan struct{} // nil: does not wait
	fail    func(items []int) error
}

func (s *store) flush(ctx context.Context, items []int) ([]int, error) {
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if s.fail != nil {
		if err := s.fail(items); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	s.batches = append(s.batches, append([]int(nil), items...))
	s.mu.Unlock()
	out := make([]int, len(items))
	for i, n := range items {
		out[i] = 2 * n
	}
	return out, nil
}

func newGroup(t *testing.T, c group.Config[int, int]) *group.Group[int, int] {
	c.Name = "test"
	g, err := group.New(c)
	require.NoError(t, err)
	return g
}

type answer struct {
	n   int
	err error
}

// do calls Do for each item, one after the other, and waits until each is in
// the queue behind a flush, so that their order is known.
func do(t *testing.T, ctx context.Context, g *group.Group[int, int], items ...int) chan answer {
	t.Helper()
	out := make(chan answer, len(items))
	for _, n := range items {
		before := group.Waiting(g)
		go func() {
			v, err := g.Do(ctx, 0, n)
			out <- answer{v, err}
		}()
		require.Eventually(t, func() bool { return group.Waiting(g) > before && group.Flushing(g) }, 5*time.Second, 50*time.Microsecond)
	}
	return out
}

func TestOneCallWaitsForNobody(t *testing.T) {
	t.Parallel()
	s := &store{}
	g := newGroup(t, group.Config[int, int]{Flush: s.flush})
	v, err := g.Do(t.Context(), 7, 21)
	require.NoError(t, err)
	require.Equal(t, 42, v)
	require.Equal(t, [][]int{{21}}, s.batches)
	require.Zero(t, group.Waiting(g))
}

func TestCallsDuringAFlushShareTheNext(t *testing.T) {
	t.Parallel()
	s := &store{hold: make(chan struct{})}
	g := newGroup(t, group.Config[int, int]{Flush: s.flush, Lanes: 1, Batch: 3})
	out := do(t, t.Context(), g, 1, 2, 3, 4, 5)
	close(s.hold)
	sum := 0
	for range 5 {
		a := <-out
		require.NoError(t, a.err)
		sum += a.n
	}
	require.Equal(t, 30, sum)
	require.Equal(t, [][]int{{1}, {2, 3, 4}, {5}}, s.batches, "in order of arrival, no batch above the bound")
}

// Callers that are ready to run but have not come to the queue yet are in the
// flush all the same: with one core this is all of them.
func TestALeaderLetsOthersComeFirst(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // so it is not parallel
	s := &store{}
	g := newGroup(t, group.Config[int, int]{Flush: s.flush, Lanes: 1})
	var wg sync.WaitGroup
	for n := range 64 {
		wg.Go(func() {
			_, err := g.Do(t.Context(), 0, n)
			require.NoError(t, err)
		})
	}
	wg.Wait()
	require.LessOrEqual(t, len(s.batches), 4, "64 callers, 64 flushes without it")
}

func TestLanesFlushSideBySide(t *testing.T) {
	t.Parallel()
	both := make(chan struct{}, 2)
	g := newGroup(t, group.Config[int, int]{Lanes: 2, Flush: func(ctx context.Context, items []int) ([]int, error) {
		both <- struct{}{}
		for len(both) < 2 { // the other lane must come while this one is in its flush
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			time.Sleep(100 * time.Microsecond)
		}
		return items, nil
	}})
	var wg sync.WaitGroup
	for key := range uint64(2) {
		wg.Go(func() {
			_, err := g.Do(t.Context(), key, 1)
			require.NoError(t, err)
		})
	}
	wg.Wait()
}

func TestAWaitingCallMayLeave(t *testing.T) {
	t.Parallel()
	s := &store{hold: make(chan struct{})}
	g := newGroup(t, group.Config[int, int]{Flush: s.flush, Lanes: 1})
	first := do(t, t.Context(), g, 1)
	ctx, cancel := context.WithCancel(t.Context())
	second := do(t, ctx, g, 2)
	third := do(t, t.Context(), g, 3)
	cancel()
	require.ErrorIs(t, (<-second).err, context.Canceled)
	close(s.hold)
	require.NoError(t, (<-first).err)
	require.NoError(t, (<-third).err)
	require.Equal(t, [][]int{{1}, {3}}, s.batches, "the one that left was never flushed")
}

func TestTheLeadersEndIsNotTheOthers(t *testing.T) {
	t.Parallel()
	s := &store{hold: make(chan struct{})}
	g := newGroup(t, group.Config[int, int]{Flush: s.flush, Lanes: 1})
	first := do(t, t.Context(), g, 1)
	ctx, cancel := context.WithCancel(t.Context())
	leader := do(t, ctx, g, 2)
	follower := do(t, t.Context(), g, 3)
	s.hold <- struct{}{} // of the first; then 2 leads a flush with 3 in it
	require.NoError(t, (<-first).err)
	require.Eventually(t, func() bool { return group.Waiting(g) == 1 }, 5*time.Second, 50*time.Microsecond)
	cancel()
	s.hold <- struct{}{}
	require.Equal(t, answer{6, nil}, <-follower)
	require.Equal(t, answer{4, nil}, <-leader, "the flush was under way and good")
}

func TestAFullQueueRefuses(t *testing.T) {
	t.Parallel()
	s := &store{hold: make(chan struct{})}
	g := newGroup(t, group.Config[int, int]{Flush: s.flush, Lanes: 1, Queue: 2})
	out := do(t, t.Context(), g, 1, 2, 3)
	_, err := g.Do(t.Context(), 0, 4)
	require.ErrorIs(t, err, group.ErrBusy)
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	close(s.hold)
	for range 3 {
		require.NoError(t, (<-out).err)
	}
}

func TestADeadlineThatCanNotBeMetIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	slow := 40 * time.Millisecond
	g := newGroup(t, group.Config[int, int]{Lanes: 1, Flush: func(_ context.Context, items []int) ([]int, error) {
		time.Sleep(slow)
		return items, nil
	}})
	for range 8 { // it has to learn how long a flush takes
		_, err := g.Do(t.Context(), 0, 1)
		require.NoError(t, err)
	}
	out := do(t, t.Context(), g, 1)
	ctx, cancel := context.WithTimeout(t.Context(), slow/8)
	defer cancel()
	_, err := g.Do(ctx, 0, 2)
	require.ErrorIs(t, err, group.ErrBusy, "refused, not waited for")
	require.NoError(t, (<-out).err)
	// Idle again, the lane takes the same deadline: it can not be locked out by
	// what it remembers.
	_, err = g.Do(ctx, 0, 3)
	require.NotErrorIs(t, err, group.ErrBusy)
}

func TestABadItemFailsAlone(t *testing.T) {
	t.Parallel()
	bad := errors.New("bad item")
	s := &store{hold: make(chan struct{}), fail: func(items []int) error {
		for _, n := range items {
			if n == 3 {
				return bad
			}
		}
		return nil
	}}
	g := newGroup(t, group.Config[int, int]{Flush: s.flush, Lanes: 1, Alone: func(err error) bool { return errors.Is(err, bad) }})
	out := do(t, t.Context(), g, 1, 2, 3, 4)
	close(s.hold)
	var good, failed int
	for range 4 {
		if a := <-out; a.err != nil {
			require.ErrorIs(t, a.err, bad)
			failed++
		} else {
			good++
		}
	}
	require.Equal(t, []int{3, 1}, []int{good, failed})
}

func TestAnOutageFailsAllAndIsNotRepeated(t *testing.T) {
	t.Parallel()
	var flushes atomic.Int64
	hold := make(chan struct{})
	g := newGroup(t, group.Config[int, int]{
		Lanes: 1, Alone: func(error) bool { return false },
		Flush: func(context.Context, []int) ([]int, error) {
			<-hold
			flushes.Add(1)
			return nil, fault.ErrUnavailable
		},
	})
	out := do(t, t.Context(), g, 1, 2, 3)
	close(hold)
	for range 3 {
		require.ErrorIs(t, (<-out).err, fault.ErrUnavailable)
	}
	require.EqualValues(t, 2, flushes.Load())
}

func TestAWrongNumberOfAnswersIsNoAnswer(t *testing.T) {
	t.Parallel()
	g := newGroup(t, group.Config[int, int]{Flush: func(context.Context, []int) ([]int, error) { return nil, nil }})
	_, err := g.Do(t.Context(), 0, 1)
	require.Error(t, err)
}

func TestAPanicLeavesTheLaneInOrder(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	g := newGroup(t, group.Config[int, int]{Lanes: 1, Flush: func(_ context.Context, items []int) ([]int, error) {
		<-hold
		if items[0] == 1 {
			panic("a bug")
		}
		return items, nil
	}})
	panicked := make(chan any, 1)
	go func() {
		defer func() { panicked <- recover() }()
		_, _ = g.Do(t.Context(), 0, 1)
	}()
	require.Eventually(t, func() bool { return group.Flushing(g) }, 5*time.Second, 50*time.Microsecond)
	out := do(t, t.Context(), g, 2)
	close(hold)
	require.Equal(t, "a bug", <-panicked)
	require.Equal(t, answer{2, nil}, <-out)
}

// Many callers, some of whom go away: each gets its own answer or its own error,
// and nothing is flushed twice.
func TestEachItemIsFlushedAtMostOnce(t *testing.T) {
	t.Parallel()
	s := &store{}
	reg := prometheus.NewRegistry()
	g := newGroup(t, group.Config[int, int]{Flush: func(ctx context.Context, items []int) ([]int, error) {
		time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
		return s.flush(ctx, items)
	}, Batch: 8, Metrics: reg})
	const callers, each = 64, 50
	var wg sync.WaitGroup
	var good atomic.Int64
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if i%5 == 0 {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(rand.IntN(1000))*time.Microsecond)
				}
				n := c*each + i
				v, err := g.Do(ctx, uint64(c), n)
				cancel()
				if err == nil {
					good.Add(1)
					if v != 2*n {
						t.Errorf("item %d got %d", n, v)
					}
				} else if i%5 != 0 {
					t.Errorf("item %d: %v", n, err)
				}
			}
		})
	}
	wg.Wait()
	require.Zero(t, group.Waiting(g))
	seen := map[int]int{}
	for _, b := range s.batches {
		require.LessOrEqual(t, len(b), 8)
		for _, n := range b {
			seen[n]++
			require.Equal(t, 1, seen[n], "item %d was flushed twice", n)
		}
	}
	require.GreaterOrEqual(t, int64(len(seen)), good.Load())
	require.Less(t, len(s.batches), len(seen), "nothing was shared")
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	flush := func(_ context.Context, items []int) ([]int, error) { return items, nil }
	for name, c := range map[string]group.Config[int, int]{
		"no name":        {Flush: flush},
		"no flush":       {Name: "x"},
		"negative batch": {Name: "x", Flush: flush, Batch: -1},
	} {
		_, err := group.New(c)
		require.Error(t, err, name)
	}
}

// BenchmarkDo is the cost of the group itself: a store that answers at once.
func BenchmarkDo(b *testing.B) {
	g, err := group.New(group.Config[int, int]{Name: "bench", Flush: func(_ context.Context, items []int) ([]int, error) { return items, nil }})
	require.NoError(b, err)
	var key atomic.Uint64
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		k := key.Add(1)
		for pb.Next() {
			if _, err := g.Do(b.Context(), k, 1); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Items that are tried alone end with the first error that is not their own: an
// outage must not be waited for once for each of them.
func TestAnOutageEndsTheItemByItemPass(t *testing.T) {
	t.Parallel()
	bad := errors.New("bad item")
	hold := make(chan struct{})
	var flushes atomic.Int64
	g := newGroup(t, group.Config[int, int]{
		Lanes: 1, Alone: func(err error) bool { return errors.Is(err, bad) },
		Flush: func(_ context.Context, items []int) ([]int, error) {
			<-hold
			flushes.Add(1)
			switch {
			case len(items) > 1:
				return nil, bad
			case items[0] == 3:
				return nil, fault.ErrUnavailable
			}
			return items, nil
		},
	})
	out := do(t, t.Context(), g, 1, 2, 3, 4, 5)
	close(hold)
	var good int
	for range 5 {
		if a := <-out; a.err == nil {
			good++
		} else {
			require.ErrorIs(t, a.err, fault.ErrUnavailable)
		}
	}
	require.Equal(t, 2, good, "1 and 2")
	require.EqualValues(t, 4, flushes.Load(), "1; the four; 2; 3")
}
