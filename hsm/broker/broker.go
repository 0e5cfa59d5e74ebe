package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/broker/wire"
)

const (
	// maxSendings of one request: one that ended so many workers may be the reason.
	maxSendings = 3
	// patience with workers that do not start, before callers are refused at once.
	patience = 2
)

// Broker is an hsm.Engine whose module runs in worker processes.
type Broker struct {
	config   Config
	log      *slog.Logger
	metrics  *metrics
	gate     *gate
	launcher *launcher

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	closed sync.Once

	starting chan struct{}           // holds one value while a worker starts
	links    atomic.Pointer[[]*link] // ready to take requests; replaced as a whole
	count    atomic.Int64            // of workers ever started

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when links or outage change
	outage  error         // why the last start failed
	failed  int           // starts that failed since the last good one
	all     map[*link]*seat

	manager manager
}

var _ hsm.Engine = (*Broker)(nil)

// Open starts the workers and returns when the first one serves. It is started
// alone, so that a wrong PIN is tried once; when it fails Open fails, with its
// error. The others come, and are tried again, in the background.
func Open(ctx context.Context, c Config) (_ *Broker, err error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	b := &Broker{config: c, log: c.HSM.Logger, gate: newGate(c.HSM.PIN), starting: make(chan struct{}, 1), changed: make(chan struct{}), all: map[*link]*seat{}}
	b.links.Store(&[]*link{})
	b.manager.turn = make(chan struct{}, 1)
	b.ctx, b.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			_ = b.Close()
		}
	}()
	if b.metrics, err = newMetrics(c.HSM.Metrics, b); err != nil {
		return nil, fmt.Errorf("hsm: %w: register metrics: %w", hsm.ErrConfig, err)
	}
	// A person at a terminal may take longer than a worker may take to start.
	pin, err := b.gate.pin(ctx)
	if err != nil {
		return nil, err
	}
	pin.Wipe()
	b.launcher = newLauncher(&b.config, b.log)
	b.wg.Go(b.watch)
	first := newSeat(0)
	l, err := b.start(ctx, first)
	if err != nil {
		return nil, err
	}
	b.enlist(l, first)
	b.wg.Go(func() { b.keep(first, l) })
	for i := 1; i < c.Workers; i++ {
		b.wg.Go(func() { b.keep(newSeat(i), nil) })
	}
	return b, nil
}

// Close implements hsm.Engine.
func (b *Broker) Close() error {
	b.closed.Do(func() {
		b.change(func() {
			b.cancel()
			b.links.Store(&[]*link{})
		})
		b.wg.Wait()
		if b.launcher != nil {
			b.launcher.close()
		}
		if b.metrics != nil {
			b.metrics.unregister()
		}
	})
	return nil
}

// change does something to the state that callers wait for, and wakes them.
func (b *Broker) change(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	close(b.changed)
	b.changed = make(chan struct{})
}

// add makes a ready worker one of those that are chosen from.
func (b *Broker) add(l *link) {
	b.change(func() {
		list := append([]*link{l}, *b.links.Load()...)
		b.links.Store(&list)
	})
}

// remove keeps new requests from a worker.
func (b *Broker) remove(l *link) {
	b.change(func() {
		list := slices.DeleteFunc(slices.Clone(*b.links.Load()), func(other *link) bool { return other == l })
		b.links.Store(&list)
	})
}

// best is the least loaded worker, a well one before a sick one; nil without any.
func (b *Broker) best(not *link) *link {
	var best *link
	for _, l := range *b.links.Load() {
		if l == not {
			continue
		}
		switch {
		case best == nil:
			best = l
		case (l.sick.Load() != 0) != (best.sick.Load() != 0):
			if best.sick.Load() != 0 {
				best = l
			}
		case l.load.Load() < best.load.Load():
			best = l
		}
	}
	return best
}

// post sends the call to the best worker, waiting for one if there is none.
func (b *Broker) post(ctx context.Context, c *call, not *link) (*link, error) {
	for {
		b.mu.Lock()
		changed, outage, failed := b.changed, b.outage, b.failed
		b.mu.Unlock()
		if b.ctx.Err() != nil {
			return nil, fmt.Errorf("hsm: %w", hsm.ErrClosed)
		}
		if err := b.gate.refusal(); err != nil && len(*b.links.Load()) == 0 {
			return nil, err
		}
		l := b.best(not)
		if l == nil && not != nil {
			l = b.best(nil)
		}
		if l != nil && l.send(c) {
			return l, nil
		}
		if l == nil && failed >= patience {
			return nil, fmt.Errorf("hsm: no worker: %w: %w", fault.ErrUnavailable, outage)
		}
		// A link that refuses is full, or just died and is about to be removed.
		var again <-chan time.Time
		if l != nil {
			again = time.After(5 * time.Millisecond)
		}
		b.metrics.waiting.Inc()
		var err error
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			err = fmt.Errorf("hsm: waiting for a worker: %w: %w", fault.ErrUnavailable, context.Cause(ctx))
		}
		b.metrics.waiting.Dec()
		if err != nil {
			return nil, err
		}
	}
}

// do runs a call to its end. After an error the call is no longer the caller's.
func (b *Broker) do(ctx context.Context, c *call) error {
	if err := ctx.Err(); err != nil {
		c.free()
		return fmt.Errorf("hsm: %w: %w", fault.ErrUnavailable, context.Cause(ctx))
	}
	if deadline, has := ctx.Deadline(); has {
		c.request.Timeout = max(time.Until(deadline), time.Microsecond)
	}
	if !c.request.Fits() {
		c.free()
		return fmt.Errorf("hsm: %w: the request is longer than a worker takes", hsm.ErrUnsupported)
	}
	op := c.request.Op
	c.encode()
	var last *link
	var doubt error // an outage that one worker answered, and another may not
	for sent := 1; ; sent++ {
		l, err := b.post(ctx, c, last)
		if err != nil {
			c.free()
			if doubt != nil {
				return doubt
			}
			return err
		}
		last = l
		if !l.wait(ctx, c) {
			return fmt.Errorf("hsm: %s: %w: %w", op, fault.ErrUnavailable, context.Cause(ctx))
		}
		if c.lost != nil {
			c.lost = nil
			if !op.Repeatable() || sent == maxSendings {
				c.free()
				return fmt.Errorf("hsm: %s: %w: %w", op, fault.ErrUnavailable, errLost)
			}
			b.metrics.repeats.WithLabelValues(op.String(), "lost").Inc()
			continue
		}
		err = b.judge(l, c)
		if err == nil {
			return nil
		}
		if doubt == nil && op.Repeatable() && outage(err) && ctx.Err() == nil && b.best(l) != nil {
			b.metrics.repeats.WithLabelValues(op.String(), "outage").Inc()
			doubt = err
			continue
		}
		c.free()
		return err
	}
}

// outage reports whether an error tells that the worker's module or login is out,
// so that another worker may do better.
func outage(err error) bool {
	return fault.KindOf(err) == fault.Unavailable && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// judge reads the answer of a worker and remembers how it does.
func (b *Broker) judge(l *link, c *call) error {
	if c.kind == wire.KindOK {
		if l.sick.Load() != 0 {
			l.sick.Store(0)
		}
		return nil
	}
	failure, err := wire.ParseFailure(c.answer)
	if err == nil {
		if err = failure.Err(); err == nil {
			err = wire.ErrProtocol
		}
	}
	if errors.Is(err, wire.ErrProtocol) {
		l.kill(err.Error())
		return fmt.Errorf("hsm: %w: %w", fault.ErrUnavailable, err)
	}
	if outage(err) {
		l.sick.CompareAndSwap(0, time.Now().UnixNano())
	}
	return err
}

// Workers returns the process ids of the workers that take requests.
func (b *Broker) Workers() []int {
	var pids []int
	for _, l := range *b.links.Load() {
		pids = append(pids, l.cmd.Process.Pid)
	}
	return pids
}
