package hsm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signet-hsm/signet/fault"
)

// maxInstances bounds how many copies of a module one engine loads.
const maxInstances = 8

// instance is one copy of the module in this process, with its login. The first
// is the module itself, shared with every other engine of the process; the others
// are private copies of its file (see privateCopy).
//
// It is up; or down: lanes that come by are parked, and its repair runs in the
// background; or gone: another took its place because a call in it never ended.
type instance struct {
	t     *local
	place int // of its handles in an entry
	mod   *module
	slot  *slot

	state  atomic.Uint32
	streak atomic.Int32 // operations that failed for the token's sake, one after the other
	misses atomic.Int32 // repairs since the last operation that went well

	mu     sync.Mutex
	parked []*lane
	lanes  int // that exist
}

const (
	instanceUp = iota
	instanceDown
	instanceGone
)

// patience is how many operations in a row may fail while the module still
// answers to small calls, before it is initialised anew.
const patience = 5

// openInstance opens place's instance: the module itself, or a copy.
func (t *local) openInstance(ctx context.Context, place int, private bool) (_ *instance, err error) {
	c := &t.config
	path := c.Module
	if private {
		copied, remove, err := privateCopy(c.Module)
		if err != nil {
			return nil, err
		}
		defer remove() // a loaded library needs its file no more
		path = copied
	}
	in := &instance{t: t, place: place}
	if in.mod, err = openModule(path, c.Module, c.Env, c.InitArgs); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = in.shut()
		}
	}()
	id, info, err := in.mod.findToken(c.TokenLabel, c.TokenSerial)
	if err != nil {
		return nil, err
	}
	if t.serial == "" {
		t.label, t.serial, t.maker = info.Label, info.SerialNumber, info.ManufacturerID
	} else if info.SerialNumber != t.serial {
		return nil, fmt.Errorf("hsm: %w: the token with label %q has serial %q, had %q", ErrTokenNotFound, info.Label, info.SerialNumber, t.serial)
	}
	in.slot = in.mod.slotOf(id, info.Label, info.SerialNumber)
	return in, nil
}

// fill gives the instance its lanes, each with an open session.
func (t *local) fill(in *instance, n int) error {
	for range n {
		l := t.newLane(in)
		in.lanes++
		t.lanes <- l
		if err := t.connect(l); err != nil {
			return wrap("open a session", err)
		}
	}
	return nil
}

func (in *instance) shut() error {
	if in.slot != nil {
		in.slot.release()
	}
	return in.mod.release()
}

func (in *instance) isUp() bool { return in.state.Load() == instanceUp }

// park keeps a lane of an instance that is down; false: use it.
func (in *instance) park(l *lane) bool {
	if in.isUp() {
		return false
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.isUp() {
		return false
	}
	in.parked = append(in.parked, l)
	return true
}

// leave takes a lane back that must not go to the channel. A lane that comes home
// to an instance that is gone ends, and the last one takes the module along.
func (in *instance) leave(l *lane) bool {
	if in.state.Load() != instanceGone {
		return in.park(l)
	}
	in.t.end(l)
	in.mu.Lock()
	in.lanes--
	last := in.lanes == 0
	in.mu.Unlock()
	if last {
		in.mod.leaked.Store(false)
		_ = in.shut()
	}
	return true
}

// well: an operation ended well.
func (in *instance) well() {
	if in.streak.Load() != 0 {
		in.streak.Store(0)
	}
	if in.misses.Load() != 0 {
		in.misses.Store(0)
	}
}

// failed judges an operation's last error. Only what speaks of the token counts,
// and only when the module does not answer to small calls either, or when nothing
// else has been heard for a while: a request that makes a module say DEVICE_ERROR
// must not take it from all others.
func (in *instance) failed(l *lane, err error) {
	switch classify(err) {
	case classToken, classSession, classLogin:
	default:
		return
	}
	if l.ask.op == OpUnseal && in.answers() == nil {
		return // a wrong tag, in SoftHSM's words
	}
	if in.streak.Add(1) < patience && in.answers() == nil {
		return
	}
	in.down(err)
}

// down takes the instance out of service and begins its repair.
func (in *instance) down(cause error) {
	t := in.t
	if !in.state.CompareAndSwap(instanceUp, instanceDown) {
		return
	}
	t.log.Error("hsm: module is out; repairing", slog.Int("instance", in.place), slog.Any("cause", cause))
	t.metrics.down.Inc()
	t.breaker.set(in.place, cause, false)
	for range len(t.lanes) { // its idle lanes go to rest now, not when they come by
		select {
		case l := <-t.lanes:
			if l.inst != in || !in.leave(l) {
				t.lanes <- l
			}
		default:
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.work.Go(func() { in.repair(cause) })
	}
}

// repair initialises the module anew until it answers, with pauses that grow. A
// refused PIN ends it for good: the next attempt could lock the token.
func (in *instance) repair(cause error) {
	t := in.t
	for {
		if !t.pause(backoff(int(in.misses.Add(1)) - 1)) {
			return
		}
		next, err := in.restart()
		t.metrics.repairs.WithLabelValues(outcome(err)).Inc()
		if err == nil {
			next.streak.Store(0)
			next.up()
			return
		}
		if errors.Is(err, ErrPIN) {
			t.log.Error("hsm: repair stopped: the PIN is refused", slog.Int("instance", in.place), slog.Any("cause", err))
			t.breaker.set(in.place, err, true)
			return
		}
		t.log.Warn("hsm: repair failed; trying again", slog.Int("instance", in.place), slog.Any("cause", err))
		t.breaker.set(in.place, fmt.Errorf("%w; first: %w", err, cause), true)
	}
}

// backoff is the pause before repair n: none, then 100 ms doubling to 30 s, each
// within half and one and a half of it, so that many nodes do not come at once.
func backoff(n int) time.Duration {
	if n == 0 {
		return 0
	}
	d := min(100*time.Millisecond<<min(n-1, 10), 30*time.Second)
	return d/2 + rand.N(d)
}

// pause waits; false when the engine closes.
func (t *local) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.closing:
		return false
	}
}

// restart initialises the module anew. A module that somebody is still inside of
// can not be: a private copy takes its place.
func (in *instance) restart() (*instance, error) {
	t := in.t
	ctx, cancel := context.WithTimeout(t.life, max(t.config.Hang, time.Second))
	defer cancel()
	patience := t.config.Hang
	if in.hung() {
		patience = 0
	}
	err := in.mod.again(patience)
	if errors.Is(err, errInside) {
		return in.replace(ctx)
	}
	if err != nil {
		return nil, err
	}
	return in, in.prepare(ctx)
}

// hung reports whether a call is in the instance for longer than it may.
func (in *instance) hung() bool {
	for _, l := range in.t.roster.all() {
		if since := l.since.Load(); l.inst == in && since != 0 && in.t.clock()-since > int64(in.t.config.Hang) {
			return true
		}
	}
	return false
}

// prepare logs in and makes sure of an answer.
func (in *instance) prepare(ctx context.Context) error {
	in.mod.gate.RLock()
	defer in.mod.gate.RUnlock()
	if err := in.t.login(ctx, in, 0); err != nil {
		return err
	}
	return wrap("repair", in.answers())
}

// replace opens a copy of the module in in's place, with as many lanes. The old
// ones end, those that are stuck when their calls do.
func (in *instance) replace(ctx context.Context) (*instance, error) {
	t := in.t
	next, err := t.openInstance(ctx, in.place, true)
	if err != nil {
		return nil, err
	}
	if err := next.prepare(ctx); err != nil {
		return nil, errors.Join(err, next.shut())
	}
	next.state.Store(instanceDown)
	next.misses.Store(in.misses.Load())
	in.mod.leaked.Store(true)
	in.mu.Lock()
	in.state.Store(instanceGone)
	old := in.parked
	in.parked, next.lanes = nil, in.lanes
	in.mu.Unlock()
	for range next.lanes {
		next.parked = append(next.parked, t.newLane(next))
	}
	for _, l := range old {
		in.leave(l)
	}
	t.mu.Lock()
	t.instances[in.place] = next
	t.mu.Unlock()
	t.metrics.replaced.Inc()
	t.log.Error("hsm: a call in the module never ended; a copy of the module took its place",
		slog.Int("instance", in.place), slog.Int("lanes", next.lanes-len(old)))
	return next, nil
}

// up puts the instance into service and its lanes back.
func (in *instance) up() {
	t := in.t
	in.mu.Lock()
	in.state.Store(instanceUp)
	parked := in.parked
	in.parked = nil
	in.mu.Unlock()
	t.breaker.clear(in.place)
	t.metrics.down.Dec()
	t.log.Warn("hsm: module is back", slog.Int("instance", in.place))
	for _, l := range parked {
		t.lanes <- l
	}
}

// breaker is open while no instance is up and the first repair of each failed:
// callers are answered at once instead of at their deadlines.
type breaker struct {
	mu     sync.Mutex
	causes []error // by place; nil = up
	failed []bool
	open   chan struct{} // closed while open
	is     bool
	gauge  interface{ Set(float64) }
}

func (b *breaker) init(places int, gauge interface{ Set(float64) }) {
	b.causes, b.failed, b.open, b.gauge = make([]error, places), make([]bool, places), make(chan struct{}), gauge
}

// set records that place is down, and whether its repair failed already.
func (b *breaker) set(place int, cause error, failed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.causes[place], b.failed[place] = cause, failed
	for _, f := range b.failed {
		if !f {
			return
		}
	}
	if !b.is {
		b.is = true
		b.gauge.Set(1)
		close(b.open)
	}
}

func (b *breaker) clear(place int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.causes[place], b.failed[place] = nil, false
	if b.is {
		b.is = false
		b.gauge.Set(0)
		b.open = make(chan struct{})
	}
}

func (b *breaker) isOpen() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open
}

func (b *breaker) err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.causes {
		if c != nil {
			return fmt.Errorf("hsm: %w: the module is out: %w", fault.ErrUnavailable, c)
		}
	}
	return fmt.Errorf("hsm: %w: the module was out", fault.ErrUnavailable)
}
