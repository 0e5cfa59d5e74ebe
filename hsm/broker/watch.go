package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/signet-hsm/signet/hsm"
)

// watchOver puts a worker under the eyes of the watch. Without a seat it is only
// watched for hanging.
func (b *Broker) watchOver(l *link, s *seat) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all[l] = s
}

// watch looks at all workers again and again until the broker has closed: does one
// hang, has one grown, is one well?
func (b *Broker) watch() {
	every := min(max(b.config.HSM.Hang/20, 5*time.Millisecond), 250*time.Millisecond)
	tick := time.NewTicker(every)
	defer tick.Stop()
	var sized time.Time
	for closing := b.ctx.Done(); ; {
		select {
		case <-tick.C:
		case <-closing:
			closing = nil // calls that hang must not keep Close
			tick.Reset(min(every, 5*time.Millisecond))
		}
		now := time.Now()
		size := now.Sub(sized) >= min(sizeEvery, 20*every)
		if size {
			sized = now
		}
		b.mu.Lock()
		seats := make(map[*link]*seat, len(b.all))
		for l, s := range b.all {
			seats[l] = s
		}
		b.mu.Unlock()
		if b.ctx.Err() != nil && len(seats) == 0 {
			return
		}
		for l, s := range seats {
			if op, late := l.overdue(now, b.config.limit); late {
				l.kill(fmt.Sprintf("%s takes longer than %s", op, b.config.limit(op)))
				continue
			}
			if s != nil {
				b.look(l, s, now, size)
			}
		}
	}
}

// look asks for a replacement when a worker needs one, and for a sign of life when
// it was quiet.
func (b *Broker) look(l *link, s *seat, now time.Time, size bool) {
	replace := func(why string) {
		select {
		case s.replace <- why:
		default: // it is under way
		}
	}
	if size {
		if n := l.resident(); n > b.config.MemoryLimit {
			replace(fmt.Sprintf("it has grown to %d MiB", n>>20))
		}
	}
	if since := l.sick.Load(); since != 0 && now.UnixNano()-since > sickFor.Nanoseconds() {
		l.sick.Store(now.UnixNano()) // not again at once
		replace(fmt.Sprintf("it has answered with outages for %s", sickFor))
	}
	quiet := quietFor
	if l.sick.Load() != 0 {
		quiet = quietFor / 5
	}
	if now.UnixNano()-l.heard.Load() > quiet.Nanoseconds() && l.load.Load() == 0 && l.probed.CompareAndSwap(false, true) {
		if !b.spawn(func() { b.probe(l) }) {
			l.probed.Store(false)
		}
	}
}

// probe makes one small call, which also keeps sessions from being closed for
// idleness.
func (b *Broker) probe(l *link) {
	defer l.probed.Store(false)
	ctx, cancel := context.WithTimeout(b.ctx, 2*b.config.HSM.Hang)
	defer cancel()
	c := newCall(hsm.OpCheck)
	c.request.Timeout = 2 * b.config.HSM.Hang
	c.encode()
	if !l.send(c) {
		c.free()
		return
	}
	if !l.wait(ctx, c) {
		return
	}
	if c.lost == nil {
		_ = b.judge(l, c)
	}
	c.free()
}
