package operation

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/group"
	"github.com/signet-hsm/signet/otp"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// OTPParams is what a person copied from the phone.
type OTPParams struct {
	Apps         []string // the applications that the caller may use; empty means none
	ID           string
	OTP          string // in one of the three written forms
	Nonce        string // of the QR code, Base64
	Registration string
	Actor        string // for the audit log
}

// OTPVerdict is the outcome of an offline approval.
type OTPVerdict struct {
	Valid             bool
	OperationID       string
	State             State // of the operation, after the verdict
	UserID            string
	Registration      string
	Status            registration.State // after the verdict
	Factors           signature.Factor
	RemainingAttempts int // of the registration
	Flags             []string
	App               string
	Roles             []string // of the application
}

// OfflineOTP judges the OTP of an offline approval (PA-OP-05). A right one
// approves the operation; a wrong one is a verdict, not an error, and counts at
// the operation and at the registration. With a registration that is not ACTIVE
// nothing is judged: not valid, and the status says why. Errors, with nothing
// counted: ErrOTPForm, ErrInvalid, ErrNotFound, ErrState, ErrUndecided,
// registration.ErrNotFound. ErrState also when the operation ended while the OTP
// was being checked: the OTP is used up then. What happens when a write fails in
// the middle stands in doc.go.
func (l *Ledger) OfflineOTP(ctx context.Context, t tenant.ID, p OTPParams) (OTPVerdict, error) {
	v, err := l.offlineOTP(ctx, t, p)
	if err != nil {
		return OTPVerdict{}, fmt.Errorf("operation: offline OTP: %w", err)
	}
	return v, nil
}

func (l *Ledger) offlineOTP(ctx context.Context, t tenant.ID, p OTPParams) (OTPVerdict, error) {
	digits, err := normalizeOTP(p.OTP)
	if err != nil {
		return OTPVerdict{}, err
	}
	nonce, err := signature.ParseBase64(p.Nonce)
	if err != nil || len(nonce) != 16 {
		return OTPVerdict{}, ErrInvalid.With(fault.Violation{Field: "nonce", Hint: "must be the nonce of the QR code: Base64 of 16 bytes"})
	}
	for {
		row, err := l.offline(ctx, t, p.Apps, p.ID)
		if err != nil {
			return OTPVerdict{}, err
		}
		check := &otpCheck{row: row, nonce: nonce, digits: digits, actor: p.Actor}
		if check.device, err = l.decider(ctx, row, p); err != nil {
			return OTPVerdict{}, err
		}
		if check.data, err = l.signedData(ctx, row); err != nil {
			return OTPVerdict{}, err
		}
		if won, err := l.begin(ctx, check); err != nil {
			return OTPVerdict{}, err
		} else if won {
			return l.conclude(ctx, check)
		}
		l.metrics.retries.Inc()
	}
}

// otpCheck is one check of an offline OTP.
type otpCheck struct {
	row    *record
	device registration.Registration
	nonce  []byte
	data   [][]byte // what the device may have signed
	digits string   // XXXXXXXX-XXXXXXXX
	actor  string
	mark   []byte // among the row's while the outcome is open
}

// decider is the registration if it belongs to the operation, in any state.
func (l *Ledger) decider(ctx context.Context, row *record, p OTPParams) (registration.Registration, error) {
	reg, err := l.devices.Get(ctx, row.tenant, common(row.apps, p.Apps), p.Registration)
	if err == nil && (reg.UserID != row.user || row.flag != "" && !slices.Contains(reg.Flags, row.flag)) {
		err = registration.ErrNotFound
	}
	return reg, err
}

// begin leaves the mark of this OTP in the row before anything is consumed. A
// mark that is there already is a check without a known outcome.
func (l *Ledger) begin(ctx context.Context, c *otpCheck) (won bool, err error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s|%s|%s|%x", c.row.id, c.device.ID, c.digits, c.nonce)
	c.mark = h.Sum(nil)
	if c.row.attempt.has(c.mark) || c.row.attempt.full() {
		return false, ErrUndecided
	}
	open := c.row.attempt.with(c.mark)
	tag, err := l.db.Exec(ctx, sqlAttempt, c.row.tenant.String(), c.row.id, c.row.revision, open)
	if err != nil {
		return false, fmt.Errorf("%w: %w", fault.ErrUnavailable, err)
	}
	c.row.revision++
	c.row.attempt = open
	return tag.RowsAffected() == 1, nil
}

// conclude judges the signature, which consumes it, and then moves the operation.
func (l *Ledger) conclude(ctx context.Context, c *otpCheck) (OTPVerdict, error) {
	verdict, err := l.judgeOTP(ctx, c)
	if err != nil {
		return OTPVerdict{}, err
	}
	reason := ""
	switch {
	case !verdict.Valid:
		reason = failSignature
	case !slices.Contains(c.row.types, verdict.Factors): // knowledge, where only biometry is allowed
		reason = failFactors
	}
	state, err := l.settle(ctx, c, verdict, reason)
	if err != nil {
		return OTPVerdict{}, err
	}
	roles := verdict.Roles
	if !verdict.Judged {
		if roles, err = l.apps.Roles(ctx, c.row.tenant, c.device.App); err != nil {
			return OTPVerdict{}, err
		}
	}
	return OTPVerdict{
		Valid: reason == "", OperationID: c.row.id.String(), State: state, UserID: c.row.user,
		Registration: c.device.ID, Status: verdict.Status, Factors: verdict.Factors,
		RemainingAttempts: verdict.RemainingAttempts, Flags: c.device.Flags, App: c.device.App, Roles: roles,
	}, nil
}

// judgeOTP has the signature judged. A caller who goes away now must not leave a mark
// that nobody can explain; what was certainly not judged leaves none.
func (l *Ledger) judgeOTP(ctx context.Context, c *otpCheck) (registration.Verdict, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	verdict, err := l.devices.VerifyOffline(ctx, c.row.tenant, registration.OfflineRequest{
		Apps: []string{c.device.App}, ID: c.device.ID, URIID: OfflineURI, Nonce: c.nonce, Data: c.data,
		Signature: c.digits, Biometry: slices.Contains(c.row.types, signature.PossessionBiometry), Actor: c.actor,
	})
	if errors.Is(err, group.ErrBusy) {
		l.unmark(ctx, c)
	}
	return verdict, err
}

// unmark takes the mark back. When it fails the OTP stays undecided, which is the
// safe side.
func (l *Ledger) unmark(ctx context.Context, c *otpCheck) {
	for row, err := c.row, error(nil); err == nil && row.state == StatePending && row.attempt.has(c.mark); {
		var left any
		if m := row.attempt.without(c.mark); m != nil {
			left = m
		}
		tag, failed := l.db.Exec(ctx, sqlAttempt, row.tenant.String(), row.id, row.revision, left)
		if failed != nil || tag.RowsAffected() == 1 {
			return
		}
		row, err = l.read(ctx, row.tenant, row.id)
	}
}

// signedData is what the device may have signed: with the proximity OTP of this
// step or the one before, when there is one.
func (l *Ledger) signedData(ctx context.Context, row *record) ([][]byte, error) {
	base := row.id.String() + "&" + row.data
	if row.seed == nil {
		return [][]byte{[]byte(base)}, nil
	}
	seed, err := l.envelope.Open(ctx, seedField(row.tenant, row.id), row.seed)
	if err != nil {
		return nil, err
	}
	defer seed.Wipe()
	var out [][]byte
	for _, back := range []time.Duration{0, proximityStep} {
		code, err := otp.Proximity.At(seed.Reveal(), l.now().Add(-back))
		if err != nil {
			return nil, err
		}
		out = append(out, []byte(base+"&"+code))
	}
	return out, nil
}

const proximityStep = 30 * time.Second

const (
	settleTimeout = 5 * time.Second
	settleTries   = 4
)

// settle stores what the judged signature means for the operation. It goes on
// when the caller has gone away, and tries again for a moment when the database
// fails: the signature is used up, nobody else can finish this.
func (l *Ledger) settle(ctx context.Context, c *otpCheck, v registration.Verdict, reason string) (State, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	var (
		row     = c.row
		unknown bool // an earlier try may have been stored
		err     error
	)
	for try := 1; ; {
		if row != nil {
			if state, done, ended := c.settled(row, unknown, reason); done {
				return state, ended
			}
			n, what := c.next(row, v, reason)
			var won bool
			if won, err = l.move(ctx, row, n, what); won {
				if reason != "" && v.Judged {
					l.metrics.refused.WithLabelValues(reason).Inc()
				}
				return n.state, nil
			}
		}
		if err != nil {
			unknown = true
			if try++; try > settleTries {
				return "", err
			}
			select {
			case <-ctx.Done():
				return "", err
			case <-time.After(50 * time.Millisecond << try):
			}
		}
		row, err = l.read(ctx, c.row.tenant, c.row.id)
	}
}

// settled reports whether there is nothing left to store: an earlier try was
// stored after all, or the operation ended by another hand.
func (c *otpCheck) settled(row *record, unknown bool, reason string) (s State, done bool, err error) {
	ours := row.attempt.has(c.mark)
	switch {
	case reason == "" && row.state == StateApproved && unknown && ours: // an approval keeps its own mark
		return row.state, true, nil
	case reason == "" && row.state != StatePending:
		return row.state, true, fmt.Errorf("%w: it ended while the OTP was checked", ErrState)
	case reason != "" && (row.state != StatePending || unknown && !ours): // a failure clears it
		return row.state, true, nil
	}
	return "", false, nil
}

func (c *otpCheck) next(row *record, v registration.Verdict, reason string) (standing, act) {
	d := Device{Registration: c.device.ID, UserID: row.user, App: c.device.App}
	var (
		n    standing
		what act
	)
	switch {
	case reason == "":
		n, what = row.approve(d, v.Factors)
		n.attempt = marks(c.mark)
	case v.Judged:
		n, what = row.fail(d, reason)
		n.attempt = row.attempt.without(c.mark)
	default: // blocked or removed since it was read: nothing was judged
		n = row.standing
		n.attempt = row.attempt.without(c.mark)
		what = act{action: "approve", outcome: "registration_" + strings.ToLower(string(v.Status)), app: d.App}
	}
	what.actor = c.actor
	if what.detail == nil {
		what.detail = map[string]any{}
	}
	what.detail["offline"] = true
	return n, what
}
