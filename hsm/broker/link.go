package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/broker/wire"
)

// errLost: the worker ended, for whatever reason, before it answered.
var errLost = errors.New("the worker ended before it answered")

// link is one worker process and the conversation with it.
type link struct {
	number int // counts all workers of the broker
	seat   int // a label of metrics
	cmd    *exec.Cmd
	conn   *net.UnixConn
	out    *wire.Writer
	born   time.Time

	load   atomic.Int32 // requests that wait for an answer
	sick   atomic.Int64 // Unix nanoseconds since when it answers with outages, 0 = well
	heard  atomic.Int64 // Unix nanoseconds of the last answer
	probed atomic.Bool  // a check is under way

	mu     sync.Mutex
	calls  map[uint64]*call
	oldest *call // they are in the order of sending, which a worker works in
	newest *call
	first  time.Time // since when oldest is the oldest
	next   uint64
	cause  string // why it was ended, when we did it
	dead   bool   // takes no more calls

	ready  chan wire.Frame // KindReady or KindFailed 0, once
	logins chan hsm.Failure
	gone   chan struct{} // closed when the process is
	ended  chan struct{} // closed when nothing of the worker is left
	exit   string        // how the process ended; after gone
}

// send numbers the call and writes it. False: the link takes no more calls, and
// nothing was sent.
func (l *link) send(c *call) bool {
	l.mu.Lock()
	if l.dead || len(l.calls) >= wire.MaxInFlight {
		l.mu.Unlock()
		return false
	}
	l.next++
	c.number(l.next)
	l.calls[c.id] = c
	c.older, c.newer = l.newest, nil
	if l.newest == nil {
		l.oldest, l.first = c, time.Now()
	} else {
		l.newest.newer = c
	}
	l.newest = c
	l.mu.Unlock()
	l.load.Add(1)
	// The frame must not be written after the call was given back, which only an
	// answer or the link's end allows: Send has copied it by then.
	if err := l.out.Send(c.frame); err != nil {
		l.kill("write: " + err.Error())
	}
	return true
}

// take removes a call; mu is held.
func (l *link) take(id uint64) *call {
	c := l.calls[id]
	if c == nil {
		return nil
	}
	delete(l.calls, id)
	l.load.Add(-1)
	if c.older != nil {
		c.older.newer = c.newer
	} else {
		l.oldest, l.first = c.newer, time.Now()
	}
	if c.newer != nil {
		c.newer.older = c.older
	} else {
		l.newest = c.older
	}
	c.older, c.newer = nil, nil
	return c
}

// wait returns when the call is answered or lost, or ctx ends. Only in the first
// case is the call still the caller's.
func (l *link) wait(ctx context.Context, c *call) bool {
	select {
	case <-c.done:
		return true
	case <-ctx.Done():
	}
	l.mu.Lock()
	waits := l.calls[c.id] == c
	if waits {
		c.abandoned = true // it stays in the order: a call that hangs still tells
	}
	l.mu.Unlock()
	if waits {
		return false
	}
	<-c.done
	return true
}

// overdue says which operation has been the oldest one for longer than its limit.
// A worker works in the order of sending, so the oldest is not waiting for others.
func (l *link) overdue(now time.Time, limit func(hsm.Op) time.Duration) (hsm.Op, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.oldest == nil {
		return 0, false
	}
	op := l.oldest.request.Op
	return op, now.Sub(l.first) > limit(op)
}

// read hands out answers until the worker ends or breaks a rule.
func (l *link) read(b *Broker) error {
	in := wire.NewReader(l.conn)
	if err := in.Preamble(); err != nil {
		return err
	}
	for {
		f, err := in.Next()
		if err != nil {
			return err
		}
		switch {
		case (f.Kind == wire.KindOK || f.Kind == wire.KindFailed) && f.ID != 0:
			l.heard.Store(time.Now().UnixNano())
			if err := l.answered(f); err != nil {
				return err
			}
		case f.Kind == wire.KindReady || f.Kind == wire.KindFailed:
			select {
			case l.ready <- wire.Frame{Kind: f.Kind, Body: append([]byte(nil), f.Body...)}:
			default:
				return fmt.Errorf("%w: ready twice", wire.ErrProtocol)
			}
		case f.Kind == wire.KindAskPIN:
			id := f.ID
			b.wg.Go(func() { b.gate.serve(b, l, id) })
		case f.Kind == wire.KindLogin:
			failure, err := wire.ParseFailure(f.Body)
			if err != nil {
				return err
			}
			select {
			case l.logins <- failure:
			default: // nobody gave a PIN
			}
		default:
			return fmt.Errorf("%w: kind 0x%02x", wire.ErrProtocol, uint8(f.Kind))
		}
	}
}

func (l *link) answered(f wire.Frame) error {
	l.mu.Lock()
	c := l.take(f.ID)
	if c == nil {
		l.mu.Unlock()
		return fmt.Errorf("%w: an answer to a request that was not made", wire.ErrProtocol)
	}
	abandoned := c.abandoned
	l.mu.Unlock()
	if abandoned {
		c.free()
		return nil
	}
	c.kind, c.answer = f.Kind, append(c.answer[:0], f.Body...)
	c.done <- struct{}{}
	return nil
}

// close takes no more calls and gives those that wait back as lost.
func (l *link) close() {
	l.mu.Lock()
	l.dead = true
	var lost []*call
	for l.oldest != nil {
		lost = append(lost, l.take(l.oldest.id))
	}
	l.mu.Unlock()
	for _, c := range lost {
		if c.abandoned {
			c.free()
			continue
		}
		c.lost = errLost
		c.done <- struct{}{}
	}
}

// kill ends the process; the cause of the first one counts.
func (l *link) kill(cause string) {
	l.mu.Lock()
	if l.cause == "" {
		l.cause = cause
	}
	l.dead = true
	l.mu.Unlock()
	_ = l.cmd.Process.Kill()
}

// resident is the size of the process in bytes, 0 when it can not be read.
func (l *link) resident() int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", l.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	var total, resident int64
	if _, err := fmt.Sscan(string(b), &total, &resident); err != nil {
		return 0
	}
	return resident * int64(os.Getpagesize())
}
