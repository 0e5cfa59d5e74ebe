package operation

import (
	"context"
	"crypto/subtle"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/signet-hsm/signet/otp"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// Approval is a signed approval. The caller has verified the signature
// (registration.Verify, resource id /operation/authorize) and tells its factors.
type Approval struct {
	ID           string
	Data         string // as the device has signed it
	Factors      signature.Factor
	ProximityOTP string // when the operation asks for it
}

// Flags of a registration whose owner is still being identified; it decides
// nothing.
var unverifiedFlags = []string{"VERIFICATION_PENDING", "VERIFICATION_IN_PROGRESS"}

// Why an approval failed, in the audit log and as a metric label.
const (
	failSignature = "signature_does_not_match"
	failFactors   = "factors_not_allowed"
	failData      = "data_does_not_match"
	failProximity = "proximity_otp_does_not_match"
)

// Authorize approves an operation. An approval that does not fit it (other data,
// factors that the template does not allow, a missing or wrong proximity OTP) is
// counted: ErrRefused, and ErrFailed when it was the last one allowed. Not
// counted: ErrNotFound, ErrFlag, ErrActivation, and ErrFinished, ErrFailed,
// ErrCanceled or ErrExpired for an operation that ended before.
func (l *Ledger) Authorize(ctx context.Context, t tenant.ID, d Device, a Approval) error {
	if err := l.authorize(ctx, t, d, a); err != nil {
		return fmt.Errorf("operation: authorize: %w", err)
	}
	return nil
}

func (l *Ledger) authorize(ctx context.Context, t tenant.ID, d Device, a Approval) error {
	for {
		row, err := l.open(ctx, t, d, a.ID)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(d.Flags, func(f string) bool { return slices.Contains(unverifiedFlags, f) }) {
			return ErrActivation
		}
		reason, err := l.judge(ctx, row, a)
		if err != nil {
			return err
		}
		n, what := row.approve(d, a.Factors)
		if reason != "" {
			n, what = row.fail(d, reason)
		}
		won, err := l.move(ctx, row, n, what)
		if err != nil {
			return err
		}
		if won {
			return l.verdict(n.state, reason)
		}
	}
}

// verdict is the answer to an approval whose outcome is stored.
func (l *Ledger) verdict(s State, reason string) error {
	if reason == "" {
		return nil
	}
	l.metrics.refused.WithLabelValues(reason).Inc()
	if s == StateFailed {
		return ErrFailed
	}
	return ErrRefused
}

// judge says why the approval does not fit the operation, "" when it does.
func (l *Ledger) judge(ctx context.Context, row *record, a Approval) (reason string, err error) {
	switch {
	case !slices.Contains(row.types, a.Factors):
		return failFactors, nil
	case subtle.ConstantTimeCompare([]byte(a.Data), []byte(row.data)) != 1:
		return failData, nil
	case row.seed == nil:
		return "", nil
	}
	seed, err := l.envelope.Open(ctx, seedField(row.tenant, row.id), row.seed)
	if err != nil {
		return "", err
	}
	defer seed.Wipe()
	_, ok, err := otp.Proximity.Verify(seed.Reveal(), l.now(), 1, 0, a.ProximityOTP)
	if err == nil && !ok {
		reason = failProximity
	}
	return reason, err
}

// Fail counts an approval whose signature the registration refused. The caller
// calls it only when a signature was judged (Verdict.Judged), with the device of
// the verdict: otherwise anybody could fail anybody's operations. It answers what
// the device is to be told, never nil.
func (l *Ledger) Fail(ctx context.Context, t tenant.ID, d Device, id string) error {
	for {
		row, err := l.open(ctx, t, d, id)
		if err != nil {
			return fmt.Errorf("operation: fail: %w", err)
		}
		n, what := row.fail(d, failSignature)
		won, err := l.move(ctx, row, n, what)
		if err == nil && won {
			err = l.verdict(n.state, failSignature)
		}
		if err != nil {
			return fmt.Errorf("operation: fail: %w", err)
		}
	}
}

// Rejection is a signed rejection (resource id /operation/cancel).
type Rejection struct {
	ID     string
	Reason string // "UNKNOWN", "INCORRECT_DATA", "UNEXPECTED_OPERATION" or another, at most 32 characters
}

// Reject ends an operation by the will of its user. Errors: ErrInvalid and those
// of Detail.
func (l *Ledger) Reject(ctx context.Context, t tenant.ID, d Device, r Rejection) error {
	if err := l.reject(ctx, t, d, r); err != nil {
		return fmt.Errorf("operation: reject: %w", err)
	}
	return nil
}

func (l *Ledger) reject(ctx context.Context, t tenant.ID, d Device, r Rejection) error {
	if err := checkReason(r.Reason); err != nil {
		return err
	}
	for {
		row, err := l.open(ctx, t, d, r.ID)
		if err != nil {
			return err
		}
		n := row.in(StateRejected)
		n.reason = r.Reason
		n.additional = d.decided(row)
		won, err := l.move(ctx, row, n, act{
			action: "reject", actor: "device", outcome: "ok", app: d.App, detail: d.event(map[string]any{"reason": r.Reason}),
		})
		if won || err != nil {
			return err
		}
	}
}

// decided is the additional data with the device that acts now.
func (d Device) decided(row *record) map[string]string {
	m := maps.Clone(row.additional)
	if m == nil {
		m = map[string]string{}
	}
	m["activationId"], m["applicationId"] = d.Registration, d.App
	for name, value := range map[string]string{"ipAddress": d.Address, "userAgent": d.Agent} {
		if delete(m, name); value != "" {
			m[name] = clip(value)
		}
	}
	return m
}

// event is what the audit log keeps of the device that acts: which, and from where.
func (d Device) event(detail map[string]any) map[string]any {
	detail["registration"] = d.Registration
	if d.Address != "" {
		detail["address"] = clip(d.Address)
	}
	return detail
}

// clip makes a text from outside fit to be stored.
func clip(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, ""), "\x00", "")
	if len(s) > MaxText {
		s = strings.ToValidUTF8(s[:MaxText], "")
	}
	return s
}

func (row *record) approve(d Device, f signature.Factor) (standing, act) {
	factors := strings.ToUpper(f.String())
	n := row.in(StateApproved)
	n.attempt = nil // or who finds its mark below an approval takes it for its own
	n.additional = d.decided(row)
	n.additional["authFactor"] = factors
	return n, act{action: "approve", actor: "device", outcome: "ok", app: d.App, detail: d.event(map[string]any{
		"type": factors, "dataHash": row.dataHash(),
	})}
}

// fail is the standing after one more failed approval; the last one allowed ends
// the operation.
func (row *record) fail(d Device, reason string) (standing, act) {
	n := row.standing
	n.additional = d.decided(row)
	n.failures++
	if n.failures >= row.max {
		n.state = StateFailed
	}
	return n, act{action: "approve", actor: "device", outcome: reason, app: d.App, detail: d.event(map[string]any{
		"failures": n.failures, "status": string(n.state),
	})}
}
