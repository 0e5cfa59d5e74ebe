package registration

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// VerifyRequest is a signed request as the application received it.
type VerifyRequest struct {
	Apps   []string // the applications that the caller may use; empty means none
	Header signature.Header
	Method string            // GET, POST, PUT or DELETE
	URIID  string            // the agreed resource id
	Body   []byte            // raw body of POST, PUT and DELETE
	Query  map[string]string // decoded parameters of GET
	Actor  string            // for the audit log
}

// Verdict is the outcome of a verification.
type Verdict struct {
	Valid   bool
	ID      string           // the registration that the header names, lower case
	Status  State            // after the verdict; StateRemoved for an unknown registration
	Factors signature.Factor // as the header says

	// The rest is filled only when a signature was judged, that is when the
	// registration was ACTIVE: nothing is told of the others.
	Judged            bool
	UserID            string
	App               string
	Roles             []string // of the application
	Flags             []string
	RemainingAttempts int
	BlockedReason     string // when Status is StateBlocked
}

// Outcomes of a verification in the audit log; the names are the reference's.
const (
	outcomeOK       = "signature_ok"
	outcomeMismatch = "signature_does_not_match"
	outcomeApp      = "activation_invalid_application"
	outcomeState    = "activation_invalid_state"
	outcomeUnknown  = "activation_unknown"
	outcomeSpent    = "activation_max_failed_attempts" // found ACTIVE without an attempt left
)

// Verify judges an online signature (PA-AUTH-01). A wrong signature is a
// Verdict, not an error. Errors: ErrInvalid, before anything is read;
// fault.ErrUnavailable or a kind Internal, without a verdict.
func (r *Registrar) Verify(ctx context.Context, t tenant.ID, req VerifyRequest) (Verdict, error) {
	start := time.Now()
	v, outcome, err := r.verify(ctx, t, req)
	r.metrics.seconds.Observe(time.Since(start).Seconds())
	if err != nil {
		outcome = fault.KindOf(err).String()
		err = fmt.Errorf("registration: verify: %w", err)
	}
	r.metrics.verdicts.WithLabelValues(outcome).Inc()
	return v, err
}

func (r *Registrar) verify(ctx context.Context, t tenant.ID, req VerifyRequest) (Verdict, string, error) {
	if err := req.validate(); err != nil {
		return Verdict{}, "", err
	}
	id, ok := parseID(req.Header.ActivationID)
	if !ok {
		return Verdict{}, "", ErrInvalid.With(fault.Violation{Field: "authHeader", Hint: "pa_activation_id must be a UUID"})
	}
	if req.Method == "GET" {
		req.Body = signature.NormalizeGET(req.Query)
	}
	for ; ; r.metrics.retries.Inc() {
		h, err := r.readHot(ctx, t, id)
		if err != nil {
			return Verdict{}, "", err
		}
		j := judgement{req: &req, hot: h, verdict: Verdict{ID: id.String(), Factors: req.Header.Factors}}
		if err := r.judge(ctx, &j); err != nil {
			return Verdict{}, "", err
		}
		won, err := r.settle(ctx, &j)
		if err != nil {
			return Verdict{}, "", err
		}
		if won {
			return j.verdict, j.outcome, nil
		}
	}
}

// hot is what one verification reads.
type hot struct {
	standing
	tenant    tenant.ID
	id        uuid.UUID
	found     bool
	app, user string
	flags     []string
	sealed    []byte
	revision  int64
	expiresAt time.Time
}

func (r *Registrar) readHot(ctx context.Context, t tenant.ID, id uuid.UUID) (*hot, error) {
	h := &hot{tenant: t, id: id}
	var ctr []byte
	err := r.db.QueryRow(ctx, sqlHot, t.String(), pgtype.UUID{Bytes: id, Valid: true}).Scan(&h.app, &h.user, &h.state, &h.flags, &h.sealed, &ctr,
		&h.counter, &h.failed, &h.failedPossession, &h.max, &h.blocked, &h.revision, &h.expiresAt)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return h, nil
	case err != nil:
		return nil, pg.Unavailable(err)
	}
	h.found = true
	copy(h.ctr[:], ctr)
	return h, nil
}

// judgement is one pass of reading, deciding and writing.
type judgement struct {
	req     *VerifyRequest
	hot     *hot
	verdict Verdict
	outcome string
	next    *standing // what to store; nil: only the event
	offset  int       // counters skipped, of a match
}

// judge decides; it reads caches and computes, and holds no lock.
func (r *Registrar) judge(ctx context.Context, j *judgement) error {
	h := j.hot
	if !h.found || !slices.Contains(j.req.Apps, h.app) {
		j.verdict.Status, j.outcome = StateRemoved, outcomeUnknown
		return nil
	}
	if h.state != StateActive {
		return r.judgeInactive(ctx, j)
	}
	roles, err := r.apps.Roles(ctx, h.tenant, h.app)
	if err != nil {
		return err
	}
	v, err := r.apps.ByKey(ctx, j.req.Header.ApplicationKey)
	known := err == nil && v.Supported && v.Tenant == h.tenant && v.App == h.app
	if err != nil && !errors.Is(err, app.ErrNotFound) {
		return err
	}
	var next standing
	switch {
	case h.spent(): // only when the limit was lowered: nothing is judged any more
		next, j.outcome = h.block(), outcomeSpent
	case !known:
		next, j.outcome = h.fail(j.req.Header.Factors), outcomeApp
	default:
		keys, err := r.keysOf(ctx, h.tenant, h.id, h.sealed)
		if err != nil {
			return err
		}
		m, ok := keys.Verify(&j.req.Header, signature.Request{
			Method: j.req.Method, URIID: j.req.URIID, Body: j.req.Body, Secret: v.Secret.Reveal(),
		}, h.ctr, lookAhead)
		if ok {
			next, j.outcome, j.offset = h.pass(m), outcomeOK, m.Offset
		} else {
			next, j.outcome = h.fail(j.req.Header.Factors), outcomeMismatch
		}
		j.verdict.Valid = ok
	}
	j.next = &next
	j.verdict.Judged = true
	j.verdict.Status, j.verdict.RemainingAttempts = next.state, next.remaining()
	j.verdict.UserID, j.verdict.App, j.verdict.Roles, j.verdict.Flags = h.user, h.app, roles, h.flags
	if next.blocked != nil {
		j.verdict.BlockedReason = *next.blocked
	}
	return nil
}

// judgeInactive answers the state alone, after the lazy expiry.
func (r *Registrar) judgeInactive(ctx context.Context, j *judgement) error {
	h := j.hot
	j.verdict.Status, j.outcome = h.state, outcomeState
	if h.state.inProgress() && !r.now().Before(h.expiresAt) {
		j.verdict.Status = StateRemoved
		return r.expire(ctx, h.record())
	}
	return nil
}

// record is the part of the row that hot has.
func (h *hot) record() *record {
	return &record{
		tenant: h.tenant, id: h.id, app: h.app, user: h.user, state: h.state, failed: h.failed, revision: h.revision,
	}
}

// settle makes the judgement durable: one statement, one round trip. It reports
// false when the registration was changed since it was read.
func (r *Registrar) settle(ctx context.Context, j *judgement) (bool, error) {
	h, now := j.hot, r.clock()
	e := audit.Event{
		Tenant: h.tenant, At: now, Action: "registration.verify", Actor: j.req.Actor, Subject: h.id.String(),
		Outcome: j.outcome, JSON: j.detail(),
	}
	if h.found { // also for a caller who may not see it: the tenant's auditor may
		e.UserID, e.AppID = h.user, h.app
	}
	if j.next == nil {
		err := r.audit.RecordTx(ctx, r.db, e)
		return err == nil, err
	}
	n := j.next
	args := []any{
		h.tenant.String(),
		pgtype.UUID{Bytes: h.id, Valid: true},
		h.revision, string(n.state), n.ctr[:], n.counter, n.failed, n.failedPossession,
		n.blocked, j.req.Header.Version.String(), now,
	}
	if n.state != h.state {
		return r.transit(ctx, sqlVerdict, args, e, h.record().told(n.state, *n.blocked))
	}
	return r.apply(ctx, sqlVerdict, args, e)
}

// detail is what an auditor may know, as JSON: no secret, and what was signed as
// a hash. It is written by hand because it is written for every verdict.
func (j *judgement) detail() []byte {
	h := &j.req.Header
	b := make([]byte, 0, 320)
	b = append(b, `{"version":"`...)
	b = append(b, h.Version.String()...)
	b = append(b, `","type":"`...)
	b = append(b, strings.ToUpper(h.Factors.String())...)
	b = append(b, `","method":"`...)
	b = append(b, j.req.Method...) // one of four
	b = append(b, `","uriId":`...)
	b, _ = jsontext.AppendQuote(b, j.req.URIID) // fails for bad UTF-8 only, which validate refused
	b = append(b, `,"dataHash":"`...)
	sum := dataHash(j.req)
	b = hex.AppendEncode(b, sum[:])
	b = append(b, '"')
	if n := j.next; n != nil {
		b = append(b, `,"status":"`...)
		b = append(b, n.state...)
		b = append(b, `","counter":`...)
		b = strconv.AppendInt(b, n.counter, 10)
		b = append(b, `,"remainingAttempts":`...)
		b = strconv.AppendInt(b, int64(n.remaining()), 10)
	}
	if j.verdict.Valid {
		b = append(b, `,"skipped":`...)
		b = strconv.AppendInt(b, int64(j.offset), 10)
	}
	return append(b, '}')
}

// dataHash is SHA-256 of the signed data without its last element, the
// application secret.
func dataHash(r *VerifyRequest) [32]byte {
	var buf [512]byte
	return sha256.Sum256(signature.AppendBaseString(buf[:0], signature.Request{
		Method: r.Method, URIID: r.URIID, Nonce: r.Header.Nonce[:], Body: r.Body,
	}))
}
