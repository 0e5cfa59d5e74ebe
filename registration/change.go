package registration

import (
	"context"
	"fmt"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/tenant"
)

// Change is what an application tier may do to the state of a registration.
type Change string

// The changes of PA-REG-05.
const (
	Block   Change = "BLOCK"   // ACTIVE only
	Unblock Change = "UNBLOCK" // BLOCKED only
	Remove  Change = "REMOVE"  // any state but REMOVED; final
)

// BlockedNotSpecified is the reason of a block by a caller who gave none.
const BlockedNotSpecified = "NOT_SPECIFIED"

// ChangeParams names the registration and what to do.
type ChangeParams struct {
	Apps           []string // the applications that the caller may use; empty means none
	ID             string
	Change         Change
	BlockReason    string // for Block, at most 255 characters; "" is BlockedNotSpecified
	ExternalUserID string // the operator who asks, for the audit log; may be empty
	Actor          string // for the audit log
}

func (p ChangeParams) validate() error {
	var v []fault.Violation
	if p.Change != Block && p.Change != Unblock && p.Change != Remove {
		v = append(v, fault.Violation{Field: "change", Value: string(p.Change), Hint: "must be BLOCK, UNBLOCK or REMOVE"})
	}
	if !optionalText(p.BlockReason) {
		v = append(v, fault.Violation{Field: "blockReason", Value: p.BlockReason, Hint: "must be at most 255 characters"})
	}
	if !optionalText(p.ExternalUserID) {
		v = append(v, fault.Violation{Field: "externalUserId", Value: p.ExternalUserID, Hint: hintText})
	}
	return refuse(v)
}

// Change blocks, unblocks or removes a registration (PA-REG-05, PA-REG-06).
// Unblocking clears the failed attempts. Errors: ErrInvalid; ErrNotFound, also
// for one that is REMOVED or has expired; ErrChange for what the state does not
// allow, blocking twice included: the caller learns that someone else was first.
func (r *Registrar) Change(ctx context.Context, t tenant.ID, p ChangeParams) error {
	if err := p.validate(); err != nil {
		return fmt.Errorf("registration: change: %w", err)
	}
	for {
		row, err := r.living(ctx, t, p.Apps, p.ID)
		if err != nil {
			return fmt.Errorf("registration: change: %w", err)
		}
		won, err := r.change(ctx, row, p)
		if err != nil {
			return fmt.Errorf("registration: change: %w", err)
		}
		if won {
			return nil
		}
		r.metrics.retries.Inc()
	}
}

// living finds a registration that is not REMOVED, after the lazy expiry.
func (r *Registrar) living(ctx context.Context, t tenant.ID, visible []string, id string) (*record, error) {
	row, err := r.find(ctx, t, visible, id)
	if err != nil {
		return nil, err
	}
	if row.expired(r.now()) {
		if _, err := r.expire(ctx, row); err != nil {
			return nil, err
		}
		if row, err = r.find(ctx, t, visible, id); err != nil {
			return nil, err
		}
	}
	if row.state == StateRemoved {
		return nil, ErrNotFound
	}
	return row, nil
}

// target says where a change leads; ok is false outside of the matrix.
func (c Change) target(from State) (to State, ok bool) {
	switch {
	case c == Remove && from != StateRemoved:
		return StateRemoved, true
	case c == Block && from == StateActive:
		return StateBlocked, true
	case c == Unblock && from == StateBlocked:
		return StateActive, true
	}
	return "", false
}

var changeActions = map[Change]string{
	Block: "registration.block", Unblock: "registration.unblock", Remove: "registration.remove",
}

// change decides once; won is false when another change came between.
func (r *Registrar) change(ctx context.Context, row *record, p ChangeParams) (won bool, err error) {
	to, ok := p.Change.target(row.state)
	if !ok {
		return false, fmt.Errorf("%w: %s of %s", ErrChange, p.Change, row.state)
	}
	now := r.clock()
	e := row.event(now, changeActions[p.Change], p.Actor, "ok")
	e.Detail = map[string]any{"from": row.state}
	if p.ExternalUserID != "" {
		e.Detail["externalUserId"] = p.ExternalUserID
	}
	reason := row.blocked
	switch p.Change {
	case Block:
		given := p.BlockReason
		if given == "" {
			given = BlockedNotSpecified
		}
		reason = &given
		e.Detail["blockReason"] = given
	case Unblock:
		reason = nil
	}
	told := row.told(to, "")
	if to == StateBlocked {
		told = row.told(to, *reason)
	}
	return r.transit(ctx, sqlChange, []any{
		row.tenant.String(), row.id, row.revision, to, reason, p.Change == Unblock, now,
	}, e, told)
}
