package hsm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	p11 "github.com/miekg/pkcs11"
)

// ladder is what one call does about its own errors: a new session, a new login
// with the handles found again, and one more attempt. What is left is for the
// instance (see instance.failed): C_Finalize and C_Initialize, then the breaker.
func (t *local) ladder(l *lane) error {
	epoch, err := t.attempt(l)
	if err == nil {
		l.inst.well()
		return nil
	}
	if !l.ask.op.Repeatable() {
		return err
	}
	if l.ctx.Err() == nil && t.heal(l, epoch, &err) {
		if _, err = t.attempt(l); err == nil {
			l.inst.well()
			return nil
		}
	}
	l.inst.failed(l, err)
	return err
}

// attempt makes the call once. On an error from the module the session is gone
// afterwards and the key's handles are looked up anew next time.
func (t *local) attempt(l *lane) (epoch uint64, err error) {
	slot := l.inst.slot
	epoch = slot.epoch.Load()
	if err = t.connect(l); err == nil {
		err = t.invoke(l, epoch)
	}
	switch {
	case isReturnValue(err):
		t.drop(l)
		if k := l.ask.key; k != nil && classify(err) == classLogin {
			k.at[l.inst.place].Store(nil)
		}
	case l.ask.op.Repeatable() && (slot.epoch.Load() != epoch || epoch%2 != 0):
		err = errEpoch // whatever was concluded, it was with handles of another login
	}
	return epoch, err
}

// invoke is the call itself.
func (t *local) invoke(l *lane, epoch uint64) (err error) {
	c, api := &l.ask, l.inst.mod.ctx
	if c.run != nil {
		l.got.value, err = c.run(l)
		return err
	}
	at, err := t.locate(l, c.key, epoch)
	if err != nil {
		return err
	}
	key := at.private
	if c.key.copyable.Load() && t.config.SessionCopies {
		if key, err = t.copyOf(l, c.key, at); err != nil {
			return err
		}
	}
	switch c.op {
	case OpSign, OpMAC:
		l.got.out, err = api.SignOnce(l.job, l.session, key, c.mechanism)
		if err == nil && c.op == OpMAC && len(l.got.out) != macLen {
			return fmt.Errorf("%w: HMAC of %d bytes", ErrRefused, len(l.got.out))
		}
	case OpSeal:
		l.got.nonce, l.got.out, err = api.SealOnce(l.job, l.session, key)
		if err == nil && len(l.got.out) != len(l.job.Input())+tagLen {
			return fmt.Errorf("%w: sealed value of %d bytes", ErrRefused, len(l.got.out))
		}
	case OpUnseal:
		l.got.out, err = api.OpenOnce(l.job, l.session, key, c.nonce)
	}
	return err
}

// heal looks after an attempt in the given epoch that ended with *err, and
// reports whether another attempt makes sense. When the login can not be had
// again, that is the error to tell.
func (t *local) heal(l *lane, epoch uint64, err *error) bool {
	cl := classify(*err)
	if !cl.heals() && cl != classToken {
		return false
	}
	in := l.inst
	herr := t.login(l.ctx, in, in.slot.epoch.Load())
	if cl == classToken {
		// It is what it says, the token, or the login was lost in mid-call. SoftHSM
		// answers a damaged sealed value like this, too: no second look at those.
		if herr != nil || l.ask.op == OpUnseal && in.slot.epoch.Load() == epoch {
			return false
		}
	}
	t.metrics.heals.WithLabelValues(cl.String()).Inc()
	t.log.LogAttrs(l.ctx, slog.LevelDebug, "hsm: heal and retry",
		slog.String("operation", l.ask.op.String()), slog.String("class", cl.String()), slog.Any("cause", *err))
	if herr != nil {
		*err = herr
		return false
	}
	return true
}

// login calls slot.ensure and tells the world what came of it.
func (t *local) login(ctx context.Context, in *instance, seen uint64) error {
	// Instances log in to one token: what one of them was refused, none may try.
	if err := take(ctx, t.loggingIn); err != nil {
		return err
	}
	defer func() { <-t.loggingIn }()
	if refused := t.refused.Load(); refused != nil {
		return *refused
	}
	did, err := in.slot.ensure(ctx, seen, &t.config)
	if errors.Is(err, ErrPIN) {
		t.refused.Store(&err)
	}
	if did.loggedIn {
		t.metrics.logins.WithLabelValues(outcome(err)).Inc()
	}
	switch {
	case errors.Is(err, ErrPIN):
		t.log.LogAttrs(ctx, slog.LevelError, "hsm: THE PIN IS REFUSED; it was tried once and will not be tried again: "+
			"put the PIN or the token right, then restart", slog.String("token", t.label), slog.Any("cause", err))
	case err != nil:
		t.log.LogAttrs(ctx, slog.LevelError, "hsm: login failed", slog.Bool("sessions_lost", did.reopened), slog.Any("cause", err))
	case did.loggedIn && seen != 0, did.reopened:
		t.log.LogAttrs(ctx, slog.LevelWarn, "hsm: login healed", slog.Bool("sessions_lost", did.reopened), slog.Bool("logged_in", did.loggedIn))
	}
	return err
}

// answers makes the smallest real calls in a session of its own.
func (in *instance) answers() error {
	api := in.mod.ctx
	s, err := api.OpenSession(in.slot.id, p11.CKF_SERIAL_SESSION)
	if err != nil {
		return err
	}
	if _, err = api.GetSessionInfo(s); err == nil {
		_, err = api.GenerateRandom(s, 8)
	}
	_ = api.CloseSession(s)
	return err
}
