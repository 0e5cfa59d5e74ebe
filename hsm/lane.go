package hsm

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm/internal/cryptoki"
)

// lane is the right to be in the module, with a session when one is open, and the
// memory of one call. Lanes live in one buffered channel: Go serves its receivers
// first come, first served. Stacks, free slots and worker threads were all
// measured slower, unfair or both.
//
// A call whose context can end is made by the lane's own goroutine, so that the
// caller leaves at its deadline whatever the module does; any other, and every one
// of an unguarded engine, by the caller's. The goroutine is not tied to a thread: a
// hand-over is a switch within the scheduler, though not a free one.
type lane struct {
	inst    *instance
	session p11.SessionHandle
	open    bool
	wave    uint64 // the slot's wave when the session was opened

	copies map[*entry]sessionCopy // see copyOf
	copied uint64                 // the epoch they live in

	job  *cryptoki.Job
	ctx  context.Context
	ask  call
	got  result
	wake chan struct{} // to the lane's goroutine; closed when the lane ends
	done chan struct{} // from it

	state atomic.Uint32
	since atomic.Int64 // when the call began, on the engine's clock; 0 = none
	used  int64        // when the last one ended
}

// States of a lane. A caller that leaves and a call that ends meet in one
// compare-and-swap: the loser follows the winner.
const (
	laneIdle  = iota
	laneBusy  // somebody waits for the call
	laneAlone // the caller left; the goroutine brings the lane back
)

// result is what came of a call. nonce and out are the job's memory.
type result struct {
	nonce, out []byte
	value      any
	err        error
	down       bool // the instance was out when the call had failed
}

// call is one use of the module. Those of the hot path are told by op and data
// and allocate nothing; the others by run.
type call struct {
	op         Op
	what       string // for errors, when it is not op
	key        *entry // nil when no key is used
	mechanism  rawMechanism
	prefix, in []byte
	nonce, aad []byte
	// run gets a session. It returns its result, because it may end long after
	// its caller left; after is called when it has.
	run   func(l *lane) (any, error)
	after func()
	left  bool // the caller left before the end
}

func (c *call) title() string {
	if c.what != "" {
		return c.what
	}
	return c.op.String()
}

func (t *local) newLane(in *instance) *lane {
	l := &lane{inst: in, job: cryptoki.NewJob()}
	if !t.config.Unguarded {
		l.wake, l.done = make(chan struct{}, 1), make(chan struct{}, 1)
		go t.attend(l)
	}
	t.roster.add(l)
	return l
}

// attend is the lane's goroutine.
func (t *local) attend(l *lane) {
	for range l.wake {
		t.serve(l)
		if l.state.CompareAndSwap(laneBusy, laneIdle) {
			l.done <- struct{}{}
			continue
		}
		// Nobody waits. What the call left in the session is not worth a guess.
		t.metrics.abandoned.Dec()
		t.drop(l)
		l.state.Store(laneIdle)
		t.release(l)
	}
}

// end gives the lane's memory back. Nobody is in it.
func (t *local) end(l *lane) {
	t.drop(l)
	t.roster.remove(l)
	if l.wake != nil {
		close(l.wake)
	}
	l.job.Free()
}

// run makes the call on the lane and reports whether the lane is still the
// caller's: it is not when the context ended first.
func (t *local) run(ctx context.Context, l *lane, c *call) (mine bool, err error) {
	l.ctx, l.ask = ctx, *c
	switch c.op {
	case OpSign, OpMAC, OpSeal, OpUnseal:
		l.job.Put(c.prefix, c.in)
		l.job.PutAAD(c.aad)
		l.ask.prefix, l.ask.in, l.ask.aad = nil, nil, nil // the caller's
		if c.nonce != nil {
			l.ask.nonce = append(l.got.nonce[:0:0], c.nonce...)
		}
	}
	l.since.Store(t.clock())
	if l.wake == nil || ctx.Done() == nil {
		// Nobody will leave, so nobody has to be left behind.
		t.serve(l)
		return true, l.got.err
	}
	l.state.Store(laneBusy)
	l.wake <- struct{}{}
	select {
	case <-l.done:
		return true, l.got.err
	case <-ctx.Done():
	}
	if !l.state.CompareAndSwap(laneBusy, laneAlone) {
		<-l.done
		return true, l.got.err
	}
	t.metrics.abandoned.Inc()
	t.metrics.left.Inc()
	c.left = true
	return false, fmt.Errorf("hsm: %s: %w: the module did not answer in time: %w", c.title(), fault.ErrUnavailable, context.Cause(ctx))
}

// serve makes the call with all the healing that one call may ask for.
func (t *local) serve(l *lane) {
	l.got = result{}
	gate := &l.inst.mod.gate
	gate.RLock()
	l.got.err = t.ladder(l)
	// Here, where no repair can be done with yet: a moment later it may be up again,
	// and the call would not know that it has to be made once more.
	l.got.down = l.got.err != nil && !l.inst.isUp()
	gate.RUnlock()
	if l.ask.after != nil {
		l.ask.after()
	}
	l.used = t.clock()
	l.since.Store(0)
}

// clock is the engine's monotonic time in nanoseconds, never 0.
func (t *local) clock() int64 { return int64(time.Since(t.started)) + 1 }

// acquire takes a lane of an instance that is up; the wait ends with ctx, with
// Close, or when no instance is left.
func (t *local) acquire(ctx context.Context) (*lane, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("hsm: %w: %w", fault.ErrUnavailable, err)
	}
	select {
	case <-t.closing:
		return nil, fmt.Errorf("hsm: %w", ErrClosed)
	default:
	}
	for {
		select {
		case l := <-t.lanes:
			if l.inst.leave(l) {
				continue
			}
			t.metrics.inUse.Inc()
			return l, nil
		default:
		}
		if l, err := t.wait(ctx); l != nil || err != nil {
			return l, err
		}
	}
}

// wait is the slow half of acquire. Neither a lane nor an error means: again.
func (t *local) wait(ctx context.Context) (*lane, error) {
	t.metrics.waiting.Inc()
	defer t.metrics.waiting.Dec()
	start := time.Now()
	select {
	case l := <-t.lanes:
		t.metrics.wait.Observe(time.Since(start).Seconds())
		if l.inst.leave(l) {
			return nil, nil
		}
		t.metrics.inUse.Inc()
		return l, nil
	case <-t.breaker.isOpen():
		return nil, t.breaker.err()
	case <-ctx.Done():
		return nil, fmt.Errorf("hsm: waiting for a session: %w: %w", fault.ErrUnavailable, context.Cause(ctx))
	case <-t.closing:
		return nil, fmt.Errorf("hsm: %w", ErrClosed)
	}
}

func (t *local) release(l *lane) {
	l.ctx, l.ask = nil, call{}
	t.metrics.inUse.Dec()
	if l.inst.leave(l) {
		return
	}
	t.lanes <- l // never blocks: the channel holds all lanes
}

// connect opens the lane's session when it has none. Lanes are read-only: only
// the creation of keys writes, and that opens a session of its own.
func (t *local) connect(l *lane) error {
	slot := l.inst.slot
	wave := slot.wave.Load()
	if l.open && l.wave == wave {
		return nil
	}
	t.forget(l)
	s, err := l.inst.mod.ctx.OpenSession(slot.id, p11.CKF_SERIAL_SESSION)
	if err != nil {
		return err
	}
	l.session, l.open, l.wave = s, true, wave
	t.metrics.sessions.Inc()
	return nil
}

// drop closes a session that returned an error. It is never used again: an
// operation may still be active in it.
func (t *local) drop(l *lane) {
	if l.open && l.wave == l.inst.slot.wave.Load() && !l.inst.mod.leaked.Load() {
		_ = l.inst.mod.ctx.CloseSession(l.session)
	}
	t.forget(l)
}

func (t *local) forget(l *lane) {
	clear(l.copies)
	if l.open {
		l.open = false
		t.metrics.sessions.Dec()
	}
}

// do runs c on a lane and appends what it gives to dst. An instance that turned
// out to be down while it had the call leaves it to another, or to itself after
// its repair: once, and only what may be repeated.
func (t *local) do(ctx context.Context, c *call, dst []byte) (out []byte, value any, err error) {
	for again := false; ; again = true {
		l, aerr := t.acquire(ctx)
		if aerr != nil {
			if again && errors.Is(aerr, fault.ErrUnavailable) {
				return nil, nil, errors.Join(err, aerr)
			}
			return nil, nil, aerr
		}
		mine, rerr := t.run(ctx, l, c)
		if !mine {
			return nil, nil, rerr
		}
		if rerr == nil {
			out, value = append(append(dst, l.got.nonce...), l.got.out...), l.got.value
			if c.op == OpSeal || c.op == OpUnseal {
				l.job.Wipe()
			}
			t.release(l)
			return out, value, nil
		}
		down := l.got.down || !l.inst.isUp()
		t.release(l)
		err = wrap(c.title(), rerr)
		if c.key != nil && errors.Is(err, ErrKeyNotFound) {
			t.index.forget(c.key)
		}
		if again || !down || !c.op.Repeatable() || ctx.Err() != nil {
			return nil, nil, err
		}
	}
}
