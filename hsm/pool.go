package hsm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/signet-hsm/signet/fault"
)

// lane is the right to be in the module, with a session when one is open. Lanes
// live in one buffered channel: Go serves its receivers first come, first served,
// and the caller's own goroutine makes the C call. Stacks, free slots and worker
// threads were all measured slower, unfair or both.
type lane struct {
	session p11.SessionHandle
	open    bool
	wave    uint64 // the slot's wave when the session was opened
}

// acquire takes a lane; the wait ends with ctx or Close.
func (t *local) acquire(ctx context.Context) (*lane, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("hsm: %w: %w", fault.ErrUnavailable, err)
	}
	select {
	case <-t.closing:
		return nil, fmt.Errorf("hsm: %w", ErrClosed)
	default:
	}
	select {
	case l := <-t.lanes:
		t.metrics.inUse.Inc()
		return l, nil
	default:
	}
	t.metrics.waiting.Inc()
	defer t.metrics.waiting.Dec()
	start := time.Now()
	select {
	case l := <-t.lanes:
		t.metrics.wait.Observe(time.Since(start).Seconds())
		t.metrics.inUse.Inc()
		return l, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("hsm: waiting for a session: %w: %w", fault.ErrUnavailable, ctx.Err())
	case <-t.closing:
		return nil, fmt.Errorf("hsm: %w", ErrClosed)
	}
}

func (t *local) release(l *lane) {
	t.metrics.inUse.Dec()
	t.lanes <- l // never blocks: the channel holds all lanes
}

// connect opens the lane's session when it has none. Lanes are read-only: only
// the creation of keys writes, and that opens a session of its own.
func (t *local) connect(l *lane) error {
	wave := t.slot.wave.Load()
	if l.open && l.wave == wave {
		return nil
	}
	t.forget(l)
	s, err := t.mod.ctx.OpenSession(t.slot.id, p11.CKF_SERIAL_SESSION)
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
	if l.open && l.wave == t.slot.wave.Load() {
		_ = t.mod.ctx.CloseSession(l.session)
	}
	t.forget(l)
}

func (t *local) forget(l *lane) {
	if l.open {
		l.open = false
		t.metrics.sessions.Dec()
	}
}

// call is one stateless use of the module: doing it twice does no harm.
type call struct {
	op  Op
	key *entry // nil when no key is used
	// run gets a session and, when key is set, its handles.
	run func(s p11.SessionHandle, at located) error
}

// do runs c on a lane. An error of a class that heals costs the session, one heal
// and one retry; any other return value costs the session only.
func (t *local) do(ctx context.Context, c call) error {
	l, err := t.acquire(ctx)
	if err != nil {
		return err
	}
	defer t.release(l)
	epoch, err := t.attempt(l, c)
	if err != nil && ctx.Err() == nil && t.heal(ctx, c, epoch, &err) {
		_, err = t.attempt(l, c)
	}
	if err != nil {
		if c.key != nil && errors.Is(err, ErrKeyNotFound) {
			t.index.forget(c.key)
		}
		return wrap(c.op.String(), err)
	}
	return nil
}

// attempt runs c once. On an error from the module the session is gone
// afterwards and the key's handles are looked up anew next time.
func (t *local) attempt(l *lane, c call) (epoch uint64, err error) {
	defer func() {
		if isReturnValue(err) {
			t.drop(l)
			if c.key != nil && classify(err) == classLogin {
				c.key.at.Store(nil)
			}
		}
	}()
	epoch = t.slot.epoch.Load()
	if err := t.connect(l); err != nil {
		return epoch, err
	}
	var at located
	if c.key != nil {
		at, err = t.locate(l.session, c.key, epoch)
	}
	if err == nil {
		err = c.run(l.session, at)
	}
	if !isReturnValue(err) && (t.slot.epoch.Load() != epoch || epoch%2 != 0) {
		err = errEpoch // whatever was concluded, it was with handles of another login
	}
	return epoch, err
}

// heal looks after an attempt in the given epoch that ended with *err, and
// reports whether another attempt makes sense. When the login can not be had
// again, that is the error to tell.
func (t *local) heal(ctx context.Context, c call, epoch uint64, err *error) bool {
	cl := classify(*err)
	if !cl.heals() && cl != classToken {
		return false
	}
	herr := t.login(ctx, t.slot.epoch.Load())
	if cl == classToken && (herr != nil || t.slot.epoch.Load() == epoch) {
		return false // it is what it says: the token, not the login
	}
	t.metrics.heals.WithLabelValues(cl.String()).Inc()
	t.log.LogAttrs(ctx, slog.LevelDebug, "hsm: heal and retry",
		slog.String("operation", c.op.String()), slog.String("class", cl.String()), slog.Any("cause", *err))
	if herr != nil {
		*err = herr
		return false
	}
	return true
}

// login calls slot.ensure and tells the world what came of it.
func (t *local) login(ctx context.Context, seen uint64) error {
	did, err := t.slot.ensure(ctx, seen, &t.config)
	if did.loggedIn {
		t.metrics.logins.WithLabelValues(outcome(err)).Inc()
	}
	switch {
	case err != nil:
		t.log.LogAttrs(ctx, slog.LevelError, "hsm: login failed", slog.Bool("sessions_lost", did.reopened), slog.Any("cause", err))
	case did.loggedIn && seen != 0, did.reopened:
		t.log.LogAttrs(ctx, slog.LevelWarn, "hsm: login healed", slog.Bool("sessions_lost", did.reopened), slog.Bool("logged_in", did.loggedIn))
	}
	return err
}
