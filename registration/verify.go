package registration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

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
	Factors signature.Factor // as the header says; offline: what signed, or PossessionKnowledge

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
	version := req.Header.Version.String()
	return r.decide(ctx, t, id, &attempt{
		apps: req.Apps, actor: req.Actor, action: "registration.verify", factors: req.Header.Factors,
		key: &req.Header.ApplicationKey, version: &version,
		match: func(k *signature.Keys, secret []byte, ctr signature.Counter) (signature.Match, bool) {
			return k.Verify(&req.Header, signature.Request{
				Method: req.Method, URIID: req.URIID, Body: req.Body, Secret: secret,
			}, ctr, lookAhead)
		},
		detail: req.detail,
	})
}

// attempt is one signature to judge, online or offline.
type attempt struct {
	apps    []string
	actor   string
	action  string
	factors signature.Factor // what a wrong one counts as
	key     *[16]byte        // the application key that the request names; nil offline
	version *string          // of the protocol; nil leaves what is stored
	match   func(k *signature.Keys, secret []byte, ctr signature.Counter) (signature.Match, bool)
	detail  func(b []byte) []byte // appends members of the audit detail
}

// decide reads, judges and stores until nothing came between. What lost although
// the row is still as it was read could not be locked: somebody else holds it.
func (r *Registrar) decide(ctx context.Context, t tenant.ID, id uuid.UUID, a *attempt) (Verdict, string, error) {
	if err := r.guard.Check(t); err != nil {
		return Verdict{}, "", err
	}
	var j judgement
	defer j.keys.Wipe()
	for lost := int64(0); ; r.metrics.retries.Inc() {
		j = judgement{attempt: a, verdict: Verdict{ID: id.String(), Factors: a.factors}, erased: r.cache.erased.Load()}
		j.cached = r.cache.get(t, id, &j.hot, &j.keys)
		if !j.cached || !slices.Contains(a.apps, j.hot.app) { // who may not see it is not to learn by the time that it is here
			h, err := r.readHot(ctx, t, id)
			if err != nil {
				return Verdict{}, "", err
			}
			if h.found && h.revision < lost {
				r.guard.WentBack("a registration", lost, h.revision)
			}
			j.hot, j.cached = *h, false
		}
		j.ready = j.cached
		j.held = j.hot.found && j.hot.revision == lost
		if err := r.judge(ctx, &j); err != nil {
			return Verdict{}, "", err
		}
		if j.lost {
			continue
		}
		won, err := r.settle(ctx, &j)
		if err != nil {
			return Verdict{}, "", err
		}
		if won {
			// Once more: it may have been stored in a database that was set back since.
			if err := r.guard.Check(t); err != nil {
				return Verdict{}, "", err
			}
			return j.verdict, j.outcome, nil
		}
		lost = j.hot.revision
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
	sealed    []byte // the master secret; nil when the cache had its keys
	seal      uint64 // of the blob that the keys are from
	revision  int64
	expiresAt time.Time

	advancedTo *int64 // by an operator after a step back of the database; for status only
}

func (h *hot) key() keyID { return keyID{h.tenant, h.id} }

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
	h.seal = sealOf(h.sealed)
	copy(h.ctr[:], ctr)
	return h, nil
}
