package push

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/registration"
)

// Consumer is what a Runner of internal/outbox is given: targets are registration
// ids, tried for an hour at most, since an old push helps nobody.
func (p *Pusher) Consumer() outbox.Consumer {
	return outbox.Consumer{
		Name: "push",
		Kinds: []outbox.Kind{
			outbox.OperationCreated, outbox.OperationFinished, outbox.RegistrationChanged, outbox.InboxMessage, outbox.MessageSend,
		},
		Targets: p.targets, Deliver: p.deliver, Dead: p.dead,
		Workers: p.c.Workers, Attempts: 8, MaxAge: time.Hour, Timeout: 2*p.c.Timeout + 5*time.Second, // a login and a push
		MinPause: time.Second, MaxPause: 2 * time.Minute,
	}
}

// targets names the registrations to tell. A change of a registration concerns
// it alone, whatever its state is now; everything else is personal and goes to
// ACTIVE ones only.
func (p *Pusher) targets(ctx context.Context, e outbox.Event) ([]string, error) {
	var ids []string
	if e.Kind == outbox.RegistrationChanged {
		ids = []string{e.Registration}
	} else {
		list, err := p.c.Registrations.Active(ctx, e.Tenant, registration.ActiveQuery{
			Apps: []string{e.App}, UserID: e.User, Flag: e.Text("flag"), ID: e.Registration,
		})
		if err != nil {
			return nil, err
		}
		for _, r := range list {
			ids = append(ids, r.ID)
		}
	}
	if p.c.Record != nil || len(ids) == 0 {
		return ids, nil
	}
	rows, _ := p.c.DB.Query(ctx, sqlDevices, e.Tenant.String(), ids)
	return collectIDs(rows)
}

func (p *Pusher) deliver(ctx context.Context, d outbox.Delivery) error {
	e := d.Event
	id, err := uuid.Parse(d.Target)
	if err != nil {
		return outbox.Permanent(errors.New("push: the target is no registration"))
	}
	n, err := noteOf(e, d.Target)
	if err != nil {
		return outbox.Permanent(err)
	}
	dev, err := p.device(ctx, e.Tenant, id)
	if err != nil {
		return err
	}
	if dev != nil {
		defer dev.token.Wipe()
	}
	switch {
	case p.c.Record != nil:
		err = p.record(e, d.Target, dev, n)
	case dev == nil: // removed meanwhile
		return nil
	default:
		if ok, err := p.still(ctx, e, d.Target); err != nil || !ok {
			return err
		}
		err = p.push(ctx, e, dev, n)
	}
	var dead deadError
	switch {
	case errors.As(err, &dead):
		if dead.since > 0 && time.UnixMilli(dead.since).Before(dev.changedAt) {
			return err // the provider means the token before this one: ask again
		}
		p.count(dev.at, "pruned")
		return p.prune(ctx, e.Tenant, id, dev, "dead_token")
	case err != nil:
		return err
	case dev != nil && e.Kind == outbox.RegistrationChanged && e.Text("status") == string(registration.StateRemoved):
		return p.prune(ctx, e.Tenant, id, dev, "removed") // that was the last push it gets
	}
	return nil
}

// fresh is how long the targets of an event are taken as they were found.
const fresh = time.Minute

// still asks again whether a registration is ACTIVE when a push was delayed: what
// is personal must not reach a device that was blocked meanwhile.
func (p *Pusher) still(ctx context.Context, e outbox.Event, id string) (bool, error) {
	if e.Kind == outbox.RegistrationChanged || p.c.Now().Sub(e.At) < fresh {
		return true, nil
	}
	list, err := p.c.Registrations.Active(ctx, e.Tenant, registration.ActiveQuery{Apps: []string{e.App}, UserID: e.User, ID: id})
	return len(list) > 0, err
}

// busy is how long a push waits for a provider that holds its share of workers.
const busy = time.Second

// push sends n to a device through its provider.
func (p *Pusher) push(ctx context.Context, e outbox.Event, dev *device, n Note) error {
	if !n.Expires.IsZero() && n.Expires.Before(p.c.Now()) {
		p.count(dev.at, "expired")
		return nil
	}
	s, err := p.sender(ctx, senderKey{e.Tenant, dev.app, dev.at})
	if err != nil {
		return err
	}
	if s == nil {
		p.count(dev.at, "no_credential")
		return nil
	}
	lane := p.lanes[dev.at]
	select {
	case lane <- struct{}{}:
		defer func() { <-lane }()
	default: // a provider that hangs leaves the other half to the others
		return outbox.Later(busy, errors.New("push: the provider is busy"))
	}
	if err := s.send(ctx, string(dev.token.Reveal()), n); err != nil {
		if !errors.Is(err, errDead) {
			p.count(dev.at, "failed")
		}
		return err
	}
	p.count(dev.at, "sent")
	return nil
}

func (p *Pusher) count(at Platform, result string) {
	p.metrics.sent.WithLabelValues(string(at), result).Inc()
}

// dead records a push that was given up.
func (p *Pusher) dead(ctx context.Context, d outbox.Delivery, cause error) error {
	err := p.c.Audit.RecordTx(ctx, p.c.DB, audit.Event{
		Tenant: d.Event.Tenant, Action: "push.dead", Actor: "system", Subject: d.Target,
		UserID: d.Event.User, AppID: d.Event.App, Outcome: "given_up",
		Detail: map[string]any{"event": d.Event.ID.String(), "kind": string(d.Event.Kind), "attempts": d.Attempt, "cause": cause.Error()},
	})
	if err != nil {
		return pg.Unavailable(fmt.Errorf("push: dead letter: %w", err))
	}
	return nil
}
