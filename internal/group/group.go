package group

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/fault"
)

// ErrBusy: more is asked for than the store can do in time.
var ErrBusy = fault.New(fault.Unavailable, "OVERLOADED", "too many requests at once, try again")

// errAnswers is a flush that broke its contract; nothing is known of the items.
var errAnswers = errors.New("group: a flush gave another number of answers than it had items")

// Config makes a Group. Name and Flush are required.
type Config[I, O any] struct {
	Name string // of the metrics' label

	// Flush stores items and answers each, in their order. It may be called from
	// several lanes at once. An error means that none was stored.
	Flush func(ctx context.Context, items []I) ([]O, error)
	// Alone reports whether a failed batch is to be flushed again item by item;
	// nil: never.
	Alone func(error) bool

	Lanes   int           // flushes at once; 0 = 2
	Batch   int           // items in a flush; 0 = 256
	Queue   int           // waiting calls in a lane; 0 = 4096
	Timeout time.Duration // of a flush; 0 = 10 s

	Metrics prometheus.Registerer // nil = not registered
}

// Group is the lanes of one store.
type Group[I, O any] struct {
	flush   func(ctx context.Context, items []I) ([]O, error)
	alone   func(error) bool
	batch   int
	queue   int
	timeout time.Duration
	metrics *metrics
	lanes   []lane[I, O]
}

// New makes an idle Group.
func New[I, O any](c Config[I, O]) (*Group[I, O], error) {
	switch {
	case c.Name == "" || c.Flush == nil:
		return nil, errors.New("group: Name and Flush are required")
	case c.Lanes < 0 || c.Batch < 0 || c.Queue < 0 || c.Timeout < 0:
		return nil, errors.New("group: Lanes, Batch, Queue and Timeout must not be negative")
	}
	m, err := newMetrics(c.Name, c.Metrics)
	if err != nil {
		return nil, err
	}
	g := &Group[I, O]{
		flush: c.Flush, alone: c.Alone, batch: cmp.Or(c.Batch, 256), queue: cmp.Or(c.Queue, 4096),
		timeout: cmp.Or(c.Timeout, 10*time.Second), metrics: m, lanes: make([]lane[I, O], cmp.Or(c.Lanes, 2)),
	}
	if g.alone == nil {
		g.alone = func(error) bool { return false }
	}
	return g, nil
}

// lane is one queue with at most one flush under way.
type lane[I, O any] struct {
	mu       sync.Mutex
	led      bool          // somebody gathers or flushes, or has been asked to
	flushing bool          // the batch is closed: who comes now goes into the next
	waiting  []*call[I, O] // oldest first
	took     time.Duration // of a flush, smoothed
}

// call is one Do on its way. Its fields but ctx and in are written by the leader
// before it sends on turn.
type call[I, O any] struct {
	ctx context.Context //nolint:containedctx // the leader must know who has left
	in  I
	out O
	err error

	flushed bool      // answered by the store, well or not
	turn    chan bool // true: lead; false: answered. Buffered, so that a sender never waits
}

// Do stores in together with what others ask for, and returns its answer. Items
// with one key are in order: they are neighbours in one lane.
func (g *Group[I, O]) Do(ctx context.Context, key uint64, in I) (out O, err error) {
	if ctx.Err() != nil {
		return out, ended(ctx)
	}
	l := &g.lanes[key%uint64(len(g.lanes))]
	c := &call[I, O]{ctx: ctx, in: in}
	l.mu.Lock()
	if l.led {
		if err := g.admit(ctx, l); err != nil {
			l.mu.Unlock()
			g.metrics.refused.Inc()
			return out, err
		}
		c.turn = make(chan bool, 1)
		l.waiting = append(l.waiting, c)
		l.mu.Unlock()
		select {
		case lead := <-c.turn:
			if !lead {
				return c.out, c.err
			}
			if ctx.Err() != nil { // both came at once
				g.pass(l)
				return out, ended(ctx)
			}
		case <-ctx.Done():
			return g.leave(l, c)
		}
	} else {
		l.led = true
		l.mu.Unlock()
	}
	g.lead(l, c)
	return c.out, c.err
}

// ended is the error of a call that has no time left: no answer was made, or none
// is known.
func ended(ctx context.Context) error {
	return fmt.Errorf("group: %w: %w", fault.ErrUnavailable, ctx.Err())
}

// admit refuses what can not be done in time. The lane is locked.
func (g *Group[I, O]) admit(ctx context.Context, l *lane[I, O]) error {
	if len(l.waiting) >= g.queue {
		return fmt.Errorf("group: %w: %d calls wait", ErrBusy, len(l.waiting))
	}
	// The flush under way, those of the queue, and its own.
	ahead := time.Duration(2+len(l.waiting)/g.batch) * l.took
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < ahead {
		return fmt.Errorf("group: %w: the deadline is nearer than %s", ErrBusy, ahead)
	}
	return nil
}

// leave takes out a call whose context has ended.
func (g *Group[I, O]) leave(l *lane[I, O], c *call[I, O]) (out O, err error) {
	l.mu.Lock()
	if i := slices.Index(l.waiting, c); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
		l.mu.Unlock()
		return out, ended(c.ctx)
	}
	l.mu.Unlock()
	// It was taken by a leader, or made one, before it could leave. A leader sends
	// only once, so what is in the channel, if anything, says which.
	select {
	case lead := <-c.turn:
		if !lead {
			return c.out, c.err // answered in the same moment
		}
		g.pass(l)
	default:
	}
	return out, ended(c.ctx)
}
