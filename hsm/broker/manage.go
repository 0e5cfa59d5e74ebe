package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/broker/worker"
)

// idle is how long the worker that makes keys stays without work.
const idle = time.Minute

// manager has the one worker that may make and destroy keys, while there is one.
type manager struct {
	turn chan struct{} // holds one value while a key is made: one at a time
	link *link         // of the one who has the turn
	used time.Time
}

// manage runs a call that changes the token, once, on a worker that may. It is
// started for the first such call and stays for a while.
func (b *Broker) manage(ctx context.Context, c *call) error {
	op := c.request.Op
	if b.config.Role == worker.RoleUse {
		c.free()
		return fmt.Errorf("hsm: %w: this process may not %s keys", hsm.ErrRefused, op)
	}
	if err := ctx.Err(); err != nil {
		c.free()
		return fmt.Errorf("hsm: %w: %w", fault.ErrUnavailable, context.Cause(ctx))
	}
	m := &b.manager
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		c.free()
		return fmt.Errorf("hsm: waiting for the worker that makes keys: %w: %w", fault.ErrUnavailable, context.Cause(ctx))
	case <-b.ctx.Done():
		c.free()
		return fmt.Errorf("hsm: %w", hsm.ErrClosed)
	}
	for sent := 0; ; sent++ {
		if err := b.raise(ctx); err != nil {
			c.free()
			return err
		}
		m.used = time.Now()
		if deadline, has := ctx.Deadline(); has {
			c.request.Timeout = max(time.Until(deadline), time.Microsecond)
		}
		if !c.request.Fits() {
			c.free()
			return fmt.Errorf("hsm: %w: the request is longer than a worker takes", hsm.ErrUnsupported)
		}
		c.encode()
		if m.link.send(c) {
			break
		}
		m.link = nil // it died while it was idle: nothing was sent
		if sent == maxSendings {
			c.free()
			return fmt.Errorf("hsm: %s: %w: %w", op, fault.ErrUnavailable, errLost)
		}
	}
	if !m.link.wait(ctx, c) {
		return fmt.Errorf("hsm: %s: %w: %w", op, fault.ErrUnavailable, context.Cause(ctx))
	}
	if c.lost != nil {
		c.free()
		return fmt.Errorf("hsm: %s: its outcome is not known: %w: %w", op, fault.ErrUnavailable, errLost)
	}
	err := b.judge(m.link, c)
	if err != nil {
		c.free()
	}
	return err
}

// raise makes sure of the worker; the turn is held.
func (b *Broker) raise(ctx context.Context) error {
	m := &b.manager
	if b.ctx.Err() != nil {
		return fmt.Errorf("hsm: %w", hsm.ErrClosed)
	}
	if m.link != nil {
		select {
		case <-m.link.gone:
		default:
			return nil
		}
	}
	l, err := b.start(ctx, &seat{role: b.config.Role})
	if err != nil {
		return err
	}
	if !b.spawn(func() { b.rest(l) }) {
		b.drain(l)
		return fmt.Errorf("hsm: %w", hsm.ErrClosed)
	}
	m.link = l
	return nil
}

// rest ends the worker when it has had no work for a while, or with the broker.
func (b *Broker) rest(l *link) {
	tick := time.NewTicker(idle / 4)
	defer tick.Stop()
	for {
		select {
		case <-l.gone:
			b.reap(l, false)
			return
		case <-b.ctx.Done():
			b.drain(l)
			return
		case <-tick.C:
		}
		select {
		case b.manager.turn <- struct{}{}:
			over := b.manager.link != l || time.Since(b.manager.used) > idle && l.load.Load() == 0
			if over && b.manager.link == l {
				b.manager.link = nil
			}
			<-b.manager.turn
			if over {
				b.drain(l)
				return
			}
		default: // it works
		}
	}
}
