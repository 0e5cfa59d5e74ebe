package operation

import (
	"context"
	"fmt"
	"slices"

	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/tenant"
)

// maxAbandon bounds one Abandon; a user with more open operations than that has
// the rest expire.
const maxAbandon = 1000

// Abandon cancels the PENDING operations of a user that no device can decide any
// more (PUSHX-07): the registrations that could were removed since. A blocked
// one may come back and counts. It is for who learns of a removal, and may be
// repeated. It returns how many it canceled.
func (l *Ledger) Abandon(ctx context.Context, t tenant.ID, user string) (canceled int, err error) {
	canceled, err = l.abandon(ctx, t, user)
	if err != nil {
		err = fmt.Errorf("operation: abandon: %w", err)
	}
	return canceled, err
}

func (l *Ledger) abandon(ctx context.Context, t tenant.ID, user string) (canceled int, err error) {
	open, err := l.many(ctx, t, sqlPendingOfUser, user, maxAbandon)
	if err != nil || len(open) == 0 {
		return 0, err
	}
	var apps []string
	for _, row := range open {
		apps = append(apps, row.apps...)
	}
	slices.Sort(apps)
	left, err := l.devices.List(ctx, t, slices.Compact(apps), user)
	if err != nil {
		return 0, err
	}
	for _, row := range open {
		if slices.ContainsFunc(left, row.decidable) {
			continue
		}
		n := row.in(StateCanceled)
		n.reason = ReasonMethodGone
		// Losing the race means that somebody decided: good.
		won, err := l.move(ctx, row, n, act{action: "cancel", actor: "system", outcome: "method_gone"})
		if err != nil {
			return canceled, err
		}
		if won {
			canceled++
		}
	}
	return canceled, nil
}

// decidable reports whether the registration could decide the operation, now or
// when it is unblocked.
func (row *record) decidable(r registration.Registration) bool {
	return slices.Contains(row.apps, r.App) && (row.flag == "" || slices.Contains(r.Flags, row.flag))
}

// Consumer calls Abandon for every registration that is removed: a node that
// delivers the outbox adds it to its consumers.
func (l *Ledger) Consumer() outbox.Consumer {
	return outbox.Consumer{
		Name:  "operation-abandon",
		Kinds: []outbox.Kind{outbox.RegistrationChanged},
		Targets: func(_ context.Context, e outbox.Event) ([]string, error) {
			if e.Text("status") != string(registration.StateRemoved) || e.User == "" {
				return nil, nil
			}
			return []string{e.User}, nil
		},
		Deliver: func(ctx context.Context, d outbox.Delivery) error {
			_, err := l.Abandon(ctx, d.Event.Tenant, d.Target)
			return err
		},
	}
}
