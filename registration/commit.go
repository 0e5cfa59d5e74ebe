package registration

import (
	"context"
	"fmt"

	"github.com/signet-hsm/signet/tenant"
)

// CommitParams names the registration to commit.
type CommitParams struct {
	Apps           []string // the applications that the caller may use; empty means none
	ID             string
	OTP            string // exactly for ON_COMMIT
	ExternalUserID string // the operator who commits, for the audit log; may be empty
	Actor          string // for the audit log
}

// Commit makes a registration in PENDING_COMMIT ACTIVE (PA-REG-02). Errors:
// ErrNotFound, ErrChange in any other state (also a second time, and when it
// expired), ErrOTP, ErrInvalid.
func (r *Registrar) Commit(ctx context.Context, t tenant.ID, p CommitParams) error {
	if err := p.validate(); err != nil {
		return fmt.Errorf("registration: commit: %w", err)
	}
	guess := otpGuess{text: p.OTP}
	for {
		done, err := r.commit(ctx, t, p, &guess)
		if err != nil {
			return fmt.Errorf("registration: commit: %w", err)
		}
		if done {
			return nil
		}
		r.metrics.retries.Inc()
	}
}

// commit decides once; done is false when another change came between.
func (r *Registrar) commit(ctx context.Context, t tenant.ID, p CommitParams, guess *otpGuess) (done bool, err error) {
	row, err := r.find(ctx, t, p.Apps, p.ID)
	if err != nil {
		return false, err
	}
	if row.expired(r.now()) {
		won, err := r.expire(ctx, row)
		if err == nil && won {
			err = ErrChange
		}
		return false, err
	}
	if row.state != StatePendingCommit {
		return false, ErrChange
	}
	verdict, err := r.judgeOTP(ctx, row, OTPOnCommit, guess)
	if err != nil {
		return false, err
	}
	switch verdict {
	case otpRefuse:
		return false, ErrOTP
	case otpWrong:
		won, err := r.failOTP(ctx, row, "registration.commit", p.Actor)
		if err == nil && won {
			err = ErrOTP
		}
		return false, err
	}
	now := r.clock()
	e := row.event(now, "registration.commit", p.Actor, "ok")
	if p.ExternalUserID != "" {
		e.Detail = map[string]any{"externalUserId": p.ExternalUserID}
	}
	return r.transit(ctx, sqlSettle, []any{t.String(), row.id, row.revision, StateActive, 0, now}, e, row.told(StateActive, ""))
}

// failOTP counts a wrong OTP; the last one allowed removes the registration.
func (r *Registrar) failOTP(ctx context.Context, row *record, action, actor string) (won bool, err error) {
	now := r.clock()
	state, outcome, failed := row.state, "otp_does_not_match", row.failed+1
	if failed >= row.max {
		state, outcome = StateRemoved, "otp_max_failed_attempts"
	}
	e := row.event(now, action, actor, outcome)
	e.Detail = map[string]any{"remainingAttempts": max(row.max-failed, 0)}
	args := []any{row.tenant.String(), row.id, row.revision, state, failed, now}
	if state != row.state {
		return r.transit(ctx, sqlSettle, args, e, row.told(state, ""))
	}
	return r.apply(ctx, sqlSettle, args, e)
}
