package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Consumer is one way events leave. Name, Kinds, Targets and Deliver are
// required; the rest has defaults. Every node that runs a Runner must have the
// same consumers: an event is expanded once, by any of them.
type Consumer struct {
	Name  string // stable: it stands in stored deliveries and metrics
	Kinds []Kind
	// Targets names who is told of e: ids, no secrets; none is fine. It may be
	// called again for the same event.
	Targets func(ctx context.Context, e Event) ([]string, error)
	// Deliver tells one target. It is called again until it returns nil or what
	// Permanent made: the receiver may see a delivery twice, with the same
	// Event.ID. ctx ends after Timeout.
	Deliver func(ctx context.Context, d Delivery) error
	// Dead hears of a delivery that was given up; nil ignores it. When it fails
	// the delivery is not given up yet.
	Dead func(ctx context.Context, d Delivery, cause error) error

	Workers  int           // deliveries at a time in this process; 0: 8
	Attempts int           // 0: 10
	MaxAge   time.Duration // of the event, after which nothing is tried again; 0: 3 days
	Timeout  time.Duration // of one attempt; 0: 20 s
	MinPause time.Duration // after the first failure, then doubling; 0: 1 s
	MaxPause time.Duration // 0: 4 h
}

func (c *Consumer) defaults() error {
	if c.Name == "" || c.Name == eventQueue || len(c.Kinds) == 0 || c.Targets == nil || c.Deliver == nil {
		return errors.New("outbox: a consumer needs a name, kinds, Targets and Deliver")
	}
	if c.Workers < 0 || c.Attempts < 0 || c.Attempts > 1000 || min(c.MaxAge, c.Timeout, c.MinPause, c.MaxPause) < 0 {
		return fmt.Errorf("outbox: consumer %s: a bound is out of range", c.Name)
	}
	set(&c.Workers, 8)
	set(&c.Attempts, 10)
	set(&c.MaxAge, 72*time.Hour)
	set(&c.Timeout, 20*time.Second)
	set(&c.MinPause, time.Second)
	set(&c.MaxPause, 4*time.Hour)
	return nil
}

func set[T int | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

func (c *Consumer) takes(k Kind) bool { return slices.Contains(c.Kinds, k) }
