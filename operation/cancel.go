package operation

import (
	"context"
	"fmt"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/tenant"
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
