package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/broker/wire"
	"github.com/signet-hsm/signet/hsm/broker/worker"
)

const (
	// startWithin bounds the start of a worker: load the module, log in, open lanes.
	startWithin = 45 * time.Second
	// drainWithin bounds the wait for the answers of a worker that is replaced.
	drainWithin = time.Minute
	// exitWithin bounds the end of a process that was asked to end.
	exitWithin = 10 * time.Second
	// A worker that ends sooner than this after its start counts as a failed start.
	shortLife = 250 * time.Millisecond
	// Pauses between starts that fail.
	firstPause, longestPause = 100 * time.Millisecond, 10 * time.Second
	// A worker that answers with outages for so long is replaced, if a new one starts.
	sickFor = 30 * time.Second
	// A worker from which nothing was heard for so long is asked whether it is well.
	quietFor = 5 * time.Second
	// How often sizes are looked at.
	sizeEvery = 5 * time.Second
)

// seat is the place of one worker, which one after the other takes.
type seat struct {
	role    worker.Role
	number  int         // a label of metrics
	replace chan string // why the present one shall be replaced while it serves
}

// newSeat returns the place of a worker that uses keys.
func newSeat(number int) *seat {
	return &seat{role: worker.RoleUse, number: number, replace: make(chan string, 1)}
}

// start launches a worker and waits until its token is open. Workers start one
// after the other: SoftHSM does not see a token that a login of another process is
// writing. For the same reason, as there are other processes than ours, a token
// that is not there is looked for once more.
func (b *Broker) start(ctx context.Context, s *seat) (*link, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(b.ctx, func() { cancel(hsm.ErrClosed) })()
	select {
	case b.starting <- struct{}{}:
		defer func() { <-b.starting }()
	case <-ctx.Done():
		return nil, fmt.Errorf("hsm: start a worker: %w: %w", fault.ErrUnavailable, context.Cause(ctx))
	}
	l, err := b.attempt(ctx, s)
	if errors.Is(err, hsm.ErrTokenNotFound) && ctx.Err() == nil {
		l, err = b.attempt(ctx, s)
	}
	return l, err
}

func (b *Broker) attempt(ctx context.Context, s *seat) (_ *link, err error) {
	if err := b.gate.refusal(); err != nil {
		return nil, err
	}
	h := &b.config.HSM
	hello, err := wire.AppendHello([]byte(wire.Preamble), wire.Hello{
		Module: h.Module, Env: h.Env, InitArgs: h.InitArgs, Accept: h.Accept, TokenLabel: h.TokenLabel, TokenSerial: h.TokenSerial,
		Lanes: b.config.lanes(), Instances: h.Instances, SessionCopies: h.SessionCopies, Hang: h.Hang, KeepAlive: h.KeepAlive,
		Network: b.config.Network, Debug: b.log.Enabled(ctx, slog.LevelDebug),
	})
	if err != nil {
		return nil, fmt.Errorf("hsm: %w: %w", hsm.ErrConfig, err)
	}
	l, err := b.launch(s)
	if err != nil {
		return nil, fmt.Errorf("hsm: start a worker: %w: %w", fault.ErrUnavailable, err)
	}
	_ = l.out.Send(hello) // whoever does not take it ends, and is seen below
	patience := time.NewTimer(startWithin)
	defer patience.Stop()
	select {
	case f := <-l.ready:
		err = b.greet(l, f)
	case <-l.gone:
		<-l.ended
		err = fmt.Errorf("hsm: start a worker: %w: it ended (%s) before its token was open", fault.ErrUnavailable, l.exit)
		select {
		case f := <-l.ready: // it told why before it ended
			err = cmp.Or(b.greet(l, f), err)
		default:
		}
	case <-patience.C:
		l.kill("it does not start")
		err = fmt.Errorf("hsm: start a worker: %w: its token was not open within %s", fault.ErrUnavailable, startWithin)
	case <-ctx.Done(): // whoever asked for it has left; it is ended in good order
		if !b.spawn(func() { b.drain(l) }) {
			b.drain(l)
		}
		return nil, fmt.Errorf("hsm: start a worker: %w: %w", fault.ErrUnavailable, context.Cause(ctx))
	}
	if err != nil {
		b.drain(l)
		return nil, err
	}
	return l, nil
}

// greet reads a worker's first answer.
func (b *Broker) greet(l *link, f wire.Frame) error {
	if f.Kind == wire.KindFailed {
		failure, err := wire.ParseFailure(f.Body)
		if err == nil {
			err = failure.Err()
		}
		if err == nil {
			err = wire.ErrProtocol
		}
		if !b.config.Network && fault.KindOf(err) == fault.Unavailable && !errors.Is(err, hsm.ErrPIN) {
			err = fmt.Errorf("%w (workers have no network: the module of an HSM on the network needs hsm.worker.network: true)", err)
		}
		return err
	}
	var ready wire.Ready
	if err := wire.ParseJSON(f.Body, &ready); err != nil {
		return fmt.Errorf("hsm: %w: %w", fault.ErrUnavailable, err)
	}
	now := time.Now()
	l.heard.Store(now.UnixNano())
	for _, m := range ready.Missing {
		b.launcher.warn(m)
	}
	b.metrics.starts.Inc()
	b.log.LogAttrs(b.ctx, slog.LevelInfo, "hsm: worker ready", slog.Int("worker", l.number),
		slog.Int("pid", l.cmd.Process.Pid), slog.Duration("after", now.Sub(l.born)))
	return nil
}

// keep keeps the seat taken until the broker closes, at first by l if there is one.
func (b *Broker) keep(s *seat, l *link) {
	pause, lost := time.Duration(0), time.Now()
	for b.ctx.Err() == nil {
		if l == nil {
			var err error
			if l, err = b.start(b.ctx, s); err != nil {
				b.startFailed(err)
				pause = min(max(2*pause, firstPause), longestPause)
				b.sleep(pause)
				continue
			}
			b.metrics.recovery.Observe(time.Since(lost).Seconds())
			b.enlist(l, s)
		}
		since := time.Now()
		l = b.serve(s, l)
		lost = time.Now()
		switch {
		case l != nil: // replaced while it served
			pause = 0
		case time.Since(since) < shortLife:
			pause = min(max(2*pause, firstPause), longestPause)
			b.sleep(pause)
		default:
			pause = 0
		}
	}
	if l != nil {
		b.remove(l)
		b.drain(l)
	}
}

// enlist makes a worker known, to callers and to the watch.
func (b *Broker) enlist(l *link, s *seat) {
	b.mu.Lock()
	b.outage, b.failed = nil, 0
	b.mu.Unlock()
	b.add(l)
	b.watchOver(l, s)
}

func (b *Broker) startFailed(err error) {
	if b.ctx.Err() != nil {
		return
	}
	b.metrics.failedStarts.Inc()
	b.log.LogAttrs(b.ctx, slog.LevelError, "hsm: a worker does not start", slog.Any("cause", err))
	b.change(func() { b.outage, b.failed = err, b.failed+1 })
}

func (b *Broker) sleep(d time.Duration) {
	d += rand.N(d/4 + 1)
	select {
	case <-time.After(d):
	case <-b.ctx.Done():
	}
}

// serve returns when the worker has ended (nil), was replaced (its successor), or
// the broker closes (the worker itself).
func (b *Broker) serve(s *seat, l *link) *link {
	for {
		select {
		case <-l.gone:
			b.remove(l)
			b.reap(l, true)
			return nil
		case <-b.ctx.Done():
			return l
		case why := <-s.replace:
			b.log.LogAttrs(b.ctx, slog.LevelWarn, "hsm: worker is being replaced", slog.Int("worker", l.number), slog.String("cause", why))
			next, err := b.start(b.ctx, s)
			if err != nil {
				b.log.LogAttrs(b.ctx, slog.LevelError, "hsm: no worker to take its place", slog.Int("worker", l.number), slog.Any("cause", err))
				continue
			}
			b.metrics.ends.WithLabelValues("replaced").Inc()
			b.enlist(next, s)
			b.remove(l)
			b.watchOver(l, nil)
			select {
			case <-s.replace: // said of the old one twice
			default:
			}
			if !b.spawn(func() { b.drain(l) }) {
				b.drain(l)
			}
			return next
		}
	}
}

// drain waits for the answers that are due, then for the process to end. The
// worker must be out of the list already.
func (b *Broker) drain(l *link) {
	b.watchOver(l, nil)
	over := time.After(drainWithin)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for wait := true; wait && l.load.Load() > 0; {
		select {
		case <-tick.C:
		case <-l.gone:
			wait = false
		case <-over:
			wait = false
		}
	}
	l.mu.Lock()
	l.dead = true
	l.mu.Unlock()
	_ = l.conn.CloseWrite() // the worker closes its module and ends
	select {
	case <-l.gone:
	case <-time.After(exitWithin):
		l.kill("it does not end")
	}
	b.reap(l, false)
}

// reap waits for the last of a worker and says how it ended.
func (b *Broker) reap(l *link, unexpected bool) {
	<-l.ended
	b.mu.Lock()
	delete(b.all, l)
	b.mu.Unlock()
	l.mu.Lock()
	cause := l.cause
	l.mu.Unlock()
	if !unexpected {
		return
	}
	label := "died"
	if cause != "" {
		label = "killed"
	} else {
		cause = l.exit
	}
	b.metrics.ends.WithLabelValues(label).Inc()
	b.log.LogAttrs(b.ctx, slog.LevelError, "hsm: worker ended", slog.Int("worker", l.number), slog.Int("pid", l.cmd.Process.Pid),
		slog.String("cause", cause), slog.String("exit", l.exit), slog.Duration("age", time.Since(l.born)))
}

// spawn starts a goroutine of the broker's; after Close it does nothing.
func (b *Broker) spawn(f func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ctx.Err() != nil {
		return false
	}
	b.wg.Go(f)
	return true
}
