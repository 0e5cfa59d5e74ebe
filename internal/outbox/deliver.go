package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/riverqueue/river"
)

// deliverer runs one attempt of one delivery.
type deliverer struct {
	river.WorkerDefaults[deliveryArgs]
	r *Runner
}

// Timeout implements river.Worker.
func (x *deliverer) Timeout(job *river.Job[deliveryArgs]) time.Duration {
	if c := x.r.consumers[job.Args.Consumer]; c != nil {
		return c.Timeout
	}
	return x.r.longest
}

// NextRetry implements river.Worker.
func (x *deliverer) NextRetry(job *river.Job[deliveryArgs]) time.Time {
	now := x.r.c.Now()
	if c := x.r.consumers[job.Args.Consumer]; c != nil {
		return now.Add(pause(job.Attempt, c.MinPause, c.MaxPause))
	}
	return now.Add(eventMaxPause)
}

// Work implements river.Worker.
func (x *deliverer) Work(ctx context.Context, job *river.Job[deliveryArgs]) error {
	d, err := job.Args.delivery(job.Attempt)
	if err != nil {
		return river.JobCancel(err)
	}
	c := x.r.consumers[job.Args.Consumer]
	if c == nil { // a redelivery from before a change of configuration
		return river.JobCancel(fmt.Errorf("outbox: no consumer %s", job.Args.Consumer))
	}
	start := x.r.c.Now()
	err = x.attempt(ctx, c, d)
	now := x.r.c.Now()
	x.r.metrics.seconds.WithLabelValues(c.Name).Observe(now.Sub(start).Seconds())
	if err == nil {
		x.r.metrics.deliveries.WithLabelValues(c.Name, "ok").Inc()
		x.r.metrics.age.WithLabelValues(c.Name).Observe(now.Sub(d.Event.At).Seconds())
		return nil
	}
	if x.r.stopping.Load() && ctx.Err() != nil {
		return river.JobSnooze(0) // our end, not the receiver's fault
	}
	after, postponed := After(err)
	next := now.Add(max(after, 0))
	switch {
	case IsPermanent(err):
	case next.Sub(d.Event.At) > c.MaxAge:
		err = fmt.Errorf("older than %s: %w", c.MaxAge, err)
	case postponed:
		x.r.metrics.deliveries.WithLabelValues(c.Name, "later").Inc()
		return river.JobSnooze(jitter(max(after, 0)))
	case job.Attempt < job.MaxAttempts:
		x.r.metrics.deliveries.WithLabelValues(c.Name, "retry").Inc()
		return err
	}
	if c.Dead != nil {
		// ctx may have ended with the attempt.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if dead := c.Dead(ctx, d, err); dead != nil {
			x.r.c.Logger.ErrorContext(ctx, "outbox: a dead letter could not be recorded", "consumer", c.Name, "event", d.Event.ID, "error", dead)
			return river.JobSnooze(eventMaxPause)
		}
	}
	x.r.metrics.deliveries.WithLabelValues(c.Name, "dead").Inc()
	x.r.c.Logger.WarnContext(ctx, "outbox: delivery given up", "consumer", c.Name, "event", d.Event.ID, "target", d.Target, "attempt", d.Attempt, "error", err)
	return river.JobCancel(err)
}

func (x *deliverer) attempt(ctx context.Context, c *Consumer, d Delivery) (err error) {
	defer x.r.recovered(c.Name, &err)
	return c.Deliver(ctx, d)
}

// recovered turns a panic into an error: a poison message ends as a dead letter
// and takes nobody with it.
func (r *Runner) recovered(who string, err *error) {
	if p := recover(); p != nil {
		r.c.Logger.Error("outbox: panic", "in", who, "panic", p, slog.String("stack", string(debug.Stack())))
		*err = errors.New("outbox: panic in " + who)
	}
}

// interrupted keeps a stop of the process from counting as an attempt.
func (r *Runner) interrupted(err error) error {
	if err != nil && r.stopping.Load() {
		return river.JobSnooze(0)
	}
	return err
}

// pause doubles from low with each attempt up to high, with jitter.
func pause(attempt int, low, high time.Duration) time.Duration {
	d := low
	for i := 1; i < attempt && d < high; i++ {
		d *= 2
	}
	return jitter(min(d, high))
}

// jitter adds up to a quarter: never less than what the receiver asked for, and
// not all at the same moment.
func jitter(d time.Duration) time.Duration { return d + rand.N(d/4+1) }
