package token

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// How far the timestamp of a header may be off, either way.
const (
	Window    = 5 * time.Minute // 3.2 and 3.3
	WindowOld = 2 * time.Hour   // 3.0 and 3.1
	// nodeSkew is how far the clocks of two nodes may be apart: a nonce is kept
	// that much longer than any node accepts its timestamp.
	nodeSkew = time.Minute
)

// VerifyRequest is a token header as the application received it.
type VerifyRequest struct {
	Apps   []string // the applications that the caller may use; empty means none
	Header signature.TokenHeader
	Actor  string // for the audit log
}

// Verdict is the outcome of a verification.
type Verdict struct {
	Valid bool
	// Judged: the digest is right. The rest is filled only then: nothing is told
	// to who does not know the secret.
	Judged         bool
	RegistrationID string
	Status         registration.State
	Factors        signature.Factor // that signed when the token was made
	UserID         string
	App            string
	Roles          []string // of the application
	Flags          []string // of the registration
}

// Outcomes of a verification in the audit log.
const (
	outcomeOK      = "token_ok"
	outcomeDigest  = "token_digest_does_not_match"
	outcomeTime    = "token_timestamp_invalid"
	outcomeReplay  = "token_replayed"
	outcomeState   = "activation_invalid_state"
	outcomeUnknown = "token_unknown" // of the metrics only: nothing is written
)

// Verify judges a token header (PA-AUTH-02). A header that is not accepted is a
// Verdict, not an error. Errors: fault.ErrUnavailable or a kind Internal, without
// a verdict.
func (k *Keeper) Verify(ctx context.Context, t tenant.ID, req VerifyRequest) (Verdict, error) {
	start := time.Now()
	v, outcome, err := k.verify(ctx, t, req)
	k.metrics.seconds.Observe(time.Since(start).Seconds())
	if err != nil {
		outcome = fault.KindOf(err).String()
		v, err = Verdict{}, fmt.Errorf("token: verify: %w", err)
	}
	k.metrics.verdicts.WithLabelValues(outcome).Inc()
	return v, err
}

func (k *Keeper) verify(ctx context.Context, t tenant.ID, req VerifyRequest) (Verdict, string, error) {
	id, ok := parseID(req.Header.TokenID)
	if !ok {
		return Verdict{}, outcomeUnknown, nil
	}
	j := judgement{key: key{t, id}, req: &req, now: k.clock()}
	// Nonces that were kept before a step back of the database are forgotten.
	if err := k.guard.Fresh(t, time.UnixMilli(req.Header.Timestamp), j.window()); err != nil {
		return Verdict{}, "", err
	}
	var err error
	if j.held, err = k.find(ctx, j.key, req.Apps); err != nil {
		return Verdict{}, "", err
	}
	if j.held == nil || !slices.Contains(req.Apps, j.held.app) {
		var nobody [secretSize]byte
		_ = req.Header.Verify(nobody[:]) // the work of a wrong digest
		return Verdict{}, outcomeUnknown, nil
	}
	if !req.Header.Verify(j.held.secret.Reveal()) {
		return Verdict{}, outcomeDigest, k.audit.RecordTx(ctx, k.db, j.event(outcomeDigest))
	}
	if j.offTime() {
		return k.refuse(ctx, &j, outcomeTime)
	}
	return k.accept(ctx, &j)
}

// judgement is one header on its way.
type judgement struct {
	key
	req  *VerifyRequest
	held *held
	now  time.Time
}

func (j *judgement) window() time.Duration {
	if j.req.Header.Version < signature.V32 {
		return WindowOld
	}
	return Window
}

func (j *judgement) offTime() bool {
	d := j.now.Sub(time.UnixMilli(j.req.Header.Timestamp))
	return d > j.window() || d < -j.window()
}

// accept spends the nonce, together with what others ask for: one statement, one
// round trip.
func (k *Keeper) accept(ctx context.Context, j *judgement) (Verdict, string, error) {
	s := &spend{
		key: j.key, registration: j.held.registration, nonce: j.req.Header.Nonce,
		expires: time.UnixMilli(j.req.Header.Timestamp).Add(j.window() + nodeSkew), event: j.event(outcomeOK),
	}
	if err := audit.Check(&s.event); err != nil {
		return Verdict{}, "", err
	}
	kept, err := k.nonces.Do(ctx, binary.BigEndian.Uint64(j.id[8:]), s)
	switch {
	case err != nil:
		return Verdict{}, "", err
	case !kept.won:
		return k.refuse(ctx, j, outcomeReplay)
	}
	if err := k.guard.Check(j.tenant); err != nil { // it may have been set back since
		return Verdict{}, "", err
	}
	v, err := k.verdict(ctx, j, registration.StateActive, kept.flags)
	v.Valid = err == nil
	return v, outcomeOK, err
}

// refuse finds out why: the token may be gone, through another node, or the
// registration not ACTIVE; else it is what the caller says.
func (k *Keeper) refuse(ctx context.Context, j *judgement, outcome string) (Verdict, string, error) {
	h, err := k.load(ctx, j.key)
	if err != nil {
		return Verdict{}, "", err
	}
	if h == nil {
		return Verdict{}, outcomeUnknown, nil
	}
	state, flags, err := k.registrations.Standing(ctx, j.tenant, j.held.registration.String())
	if err != nil {
		return Verdict{}, "", err
	}
	if state != registration.StateActive {
		outcome = outcomeState
	}
	if err := k.audit.RecordTx(ctx, k.db, j.event(outcome)); err != nil {
		return Verdict{}, "", err
	}
	v, err := k.verdict(ctx, j, state, flags)
	return v, outcome, err
}

func (k *Keeper) verdict(ctx context.Context, j *judgement, state registration.State, flags []string) (Verdict, error) {
	roles, err := k.roles.Roles(ctx, j.tenant, j.held.app)
	if err != nil {
		return Verdict{}, err
	}
	return Verdict{
		Judged: true, RegistrationID: j.held.registration.String(), Status: state, Factors: j.held.factors,
		UserID: j.held.user, App: j.held.app, Roles: roles, Flags: flags,
	}, nil
}

// event has no secret: the digest is worthless once its nonce is spent.
func (j *judgement) event(outcome string) audit.Event {
	return audit.Event{
		Tenant: j.tenant, At: j.now, Action: "token.verify", Actor: j.req.Actor, Subject: j.held.registration.String(),
		UserID: j.held.user, AppID: j.held.app, Outcome: outcome,
		// A UUID and a version need no escaping.
		JSON: []byte(`{"token":"` + j.id.String() + `","version":"` + j.req.Header.Version.String() + `"}`),
	}
}

// parseID reads a UUID in its usual form, in any case.
func parseID(s string) (uuid.UUID, bool) {
	if len(s) != 36 {
		return uuid.UUID{}, false
	}
	id, err := uuid.Parse(s)
	return id, err == nil
}
