package operation

import (
	"context"
	"fmt"
	"slices"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/tenant"

	"github.com/jackc/pgx/v5"
)

// CancelParams names the operation to cancel.
type CancelParams struct {
	Apps   []string // the applications that the caller may use; empty means none
	ID     string
	Reason string // at most 32 characters; may be empty
	Actor  string // for the audit log
}

// Cancel ends a PENDING operation (PA-OP-03). Errors: ErrNotFound, ErrState in
// any other state (also a second time), ErrInvalid.
func (l *Ledger) Cancel(ctx context.Context, t tenant.ID, p CancelParams) error {
	if err := l.cancel(ctx, t, p); err != nil {
		return fmt.Errorf("operation: cancel: %w", err)
	}
	return nil
}

func (l *Ledger) cancel(ctx context.Context, t tenant.ID, p CancelParams) error {
	if err := checkReason(p.Reason); err != nil {
		return err
	}
	for {
		row, err := l.find(ctx, t, p.Apps, p.ID)
		if err != nil {
			return err
		}
		if row.state != StatePending {
			return ErrState
		}
		n := row.in(StateCanceled)
		n.reason = p.Reason
		won, err := l.move(ctx, row, n, act{action: "cancel", actor: p.Actor, outcome: "ok"})
		if won || err != nil {
			return err
		}
	}
}

func checkReason(s string) error {
	if optionalText(s, MaxReason) && printable(s) {
		return nil
	}
	return ErrInvalid.With(fault.Violation{Field: "reason", Hint: fmt.Sprintf("must be at most %d characters", MaxReason)})
}

// Abandon cancels the PENDING operations of a user that no device can decide any
// more (PUSHX-07): the registrations that could were removed since. A blocked
// one may come back and counts. It is for who learns of a removal, and may be
// repeated. It returns how many it canceled.
func (l *Ledger) Abandon(ctx context.Context, t tenant.ID, user string) (canceled int, err error) {
	open, err := l.many(ctx, t, sqlPendingOfUser, user, l.batch)
	if err != nil {
		return 0, fmt.Errorf("operation: abandon: %w", err)
	}
	for _, row := range open {
		done, err := l.abandon(ctx, row)
		if err != nil {
			return canceled, fmt.Errorf("operation: abandon: %w", err)
		}
		if done {
			canceled++
		}
	}
	return canceled, nil
}

func (l *Ledger) abandon(ctx context.Context, row *record) (bool, error) {
	left, err := l.devices.List(ctx, row.tenant, row.apps, row.user)
	if err != nil {
		return false, err
	}
	can := func(r registration.Registration) bool { return row.flag == "" || slices.Contains(r.Flags, row.flag) }
	if slices.ContainsFunc(left, can) {
		return false, nil
	}
	n := row.in(StateCanceled)
	n.reason = ReasonMethodGone
	// Losing the race means that somebody decided: good.
	return l.move(ctx, row, n, act{action: "cancel", actor: "system", outcome: "method_gone"})
}

// Announce looks at an operation again and tells the world once more that it
// ended, when it did (PA-INT-01). It sees all applications of the tenant.
// Error: ErrNotFound.
func (l *Ledger) Announce(ctx context.Context, t tenant.ID, id string) error {
	if err := l.announce(ctx, t, id); err != nil {
		return fmt.Errorf("operation: announce: %w", err)
	}
	return nil
}

func (l *Ledger) announce(ctx context.Context, t tenant.ID, id string) error {
	key, ok := parseID(id)
	if !ok {
		return ErrNotFound
	}
	row, err := l.read(ctx, t, key)
	if err != nil {
		return err
	}
	if row.overdue(l.now()) { // the expiry tells by itself
		_, err := l.current(ctx, t, id)
		return err
	}
	if row.state == StatePending {
		return nil
	}
	err = pg.InTx(ctx, l.db, func(tx pgx.Tx) error {
		return l.outbox.AddTx(ctx, tx, row.finished(row.standing)...)
	})
	return pg.Unavailable(err)
}
