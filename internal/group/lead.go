package group

import (
	"context"
	"runtime"
	"slices"
	"time"
)

// lead flushes one batch that begins with c, answers it, and hands the lane on.
func (g *Group[I, O]) lead(l *lane[I, O], c *call[I, O]) {
	g.gather(l)
	calls := g.take(l, c)
	began := time.Now()
	done := false
	defer func() {
		if !done { // a panic: nobody may wait for ever; it goes on after this
			for _, c := range calls {
				c.err = errAnswers
			}
		}
		g.answer(calls, c)
		g.settle(l, time.Since(began))
		g.pass(l)
	}()
	g.run(calls)
	done = true
}

// gather lets those run who are ready to: with many callers on few cores most of
// them are, at this moment, neither in the queue nor waiting for anything but a
// core, and a flush without them would only be followed by another one as small.
// It ends when nobody came, so a lone call loses some hundred nanoseconds.
func (g *Group[I, O]) gather(l *lane[I, O]) {
	for idle, last := 0, -1; idle < quiet; {
		l.mu.Lock()
		n := len(l.waiting)
		l.mu.Unlock()
		if n+1 >= g.batch {
			return
		}
		if n == last {
			idle++
		} else {
			idle = 0
		}
		last = n
		runtime.Gosched()
	}
}

// quiet is how often in a row nobody may come before a leader goes.
const quiet = 2

// take makes the batch: c and the oldest that wait, without those who left.
func (g *Group[I, O]) take(l *lane[I, O], c *call[I, O]) []*call[I, O] {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushing = true
	n := min(len(l.waiting), g.batch-1)
	calls := make([]*call[I, O], 0, n+1)
	calls = append(calls, c)
	for _, w := range l.waiting[:n] {
		if w.ctx.Err() != nil {
			w.err = ended(w.ctx)
			w.turn <- false
			continue
		}
		calls = append(calls, w)
	}
	l.waiting = slices.Delete(l.waiting, 0, n)
	return calls
}

// run flushes the batch and fills the answers. The flush must not end because
// the caller that leads it goes away: others stand in it too.
func (g *Group[I, O]) run(calls []*call[I, O]) {
	g.metrics.size.Observe(float64(len(calls)))
	err := g.flushAll(calls)
	if err == nil {
		return
	}
	if len(calls) > 1 && g.alone(err) {
		err = g.runAlone(calls)
	}
	for _, c := range calls {
		if !c.flushed {
			c.err = err
		}
	}
}

// runAlone flushes one item at a time, to the first error that is not an item's
// own: the rest would fail likewise, each after its own time.
func (g *Group[I, O]) runAlone(calls []*call[I, O]) error {
	for i, c := range calls {
		err := g.flushAll(calls[i : i+1])
		if err != nil && !g.alone(err) {
			return err
		}
		c.err, c.flushed = err, true
	}
	return nil
}

func (g *Group[I, O]) flushAll(calls []*call[I, O]) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(calls[0].ctx), g.timeout)
	defer cancel()
	items := make([]I, len(calls))
	for i, c := range calls {
		items[i] = c.in
	}
	outs, err := g.flush(ctx, items)
	if err != nil {
		return err
	}
	if len(outs) != len(calls) {
		return errAnswers
	}
	for i, c := range calls {
		c.out, c.flushed = outs[i], true
	}
	return nil
}

// answer wakes all but the leader, who knows.
func (g *Group[I, O]) answer(calls []*call[I, O], leader *call[I, O]) {
	for _, c := range calls {
		if c != leader {
			c.turn <- false
		}
	}
}

// settle remembers how long a flush takes: a mean in which the last one weighs a
// quarter, so that one slow sync neither is forgotten nor rules for long.
func (g *Group[I, O]) settle(l *lane[I, O], took time.Duration) {
	l.mu.Lock()
	l.took += (took - l.took) / 4
	l.mu.Unlock()
}

// pass gives the lead to the oldest that waits, or leaves the lane idle.
func (g *Group[I, O]) pass(l *lane[I, O]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushing = false
	if len(l.waiting) == 0 {
		l.led = false
		return
	}
	next := l.waiting[0]
	l.waiting = slices.Delete(l.waiting, 0, 1)
	next.turn <- true
}
