package registration

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/signature"
)

// judgement is one pass of reading, deciding and writing.
type judgement struct {
	*attempt
	hot     hot
	cached  bool           // hot and keys are from the cache
	keys    signature.Keys // of hot, when ready
	ready   bool
	erased  uint64 // of the cache, before keys were opened
	verdict Verdict
	outcome string
	next    *standing // what to store; nil: only the event
	offset  int       // counters skipped, of a match
	lost    bool      // the registration changed while it was judged: read again
	held    bool      // somebody else holds the row
}

// judge decides; it reads caches and computes, and holds no lock.
func (r *Registrar) judge(ctx context.Context, j *judgement) error {
	h := &j.hot
	secret, known, err := r.secretOf(ctx, j)
	if err != nil {
		return err
	}
	if !h.found || !slices.Contains(j.apps, h.app) {
		r.pretend(j)
		j.verdict.Status, j.outcome = StateRemoved, outcomeUnknown
		return nil
	}
	if h.state != StateActive {
		r.pretend(j)
		return r.judgeInactive(ctx, j)
	}
	roles, err := r.apps.Roles(ctx, h.tenant, h.app)
	if err != nil {
		return err
	}
	var next standing
	switch {
	case h.spent(): // only when the limit was lowered: nothing is judged any more
		r.pretend(j)
		next, j.outcome = h.block(), outcomeSpent
	case !known:
		r.pretend(j)
		next, j.outcome = h.fail(j.factors), outcomeApp
	default:
		if err := r.prepare(ctx, j); err != nil {
			return err
		}
		m, ok := j.match(&j.keys, secret, h.ctr)
		if ok {
			next, j.outcome, j.offset = h.pass(m), outcomeOK, m.Offset
			j.verdict.Factors = m.Factors
		} else {
			next, j.outcome = h.fail(j.factors), outcomeMismatch
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

// prepare makes the keys ready, which are there already when the row came from the cache.
func (r *Registrar) prepare(ctx context.Context, j *judgement) error {
	if j.ready {
		r.metrics.keyHits.Inc()
		return nil
	}
	keys, err := r.keysOf(ctx, j.hot.tenant, j.hot.id, j.hot.sealed)
	if err != nil {
		return err
	}
	j.keys, j.ready = *keys, true
	keys.Wipe()
	return nil
}

// pretend does the work of judging a wrong signature where there is nothing to
// judge, so that the time of the answer does not tell who is registered. What it
// finds, if it could find anything, is of no consequence.
func (r *Registrar) pretend(j *judgement) {
	_, _ = j.match(r.decoy, []byte(decoySecret), signature.Counter{})
}

// decoySecret is as long as the secrets of applications.
const decoySecret = "AAAAAAAAAAAAAAAAAAAAAA=="

// secretOf is the application secret of the key that the request names; known is
// false for a key that is not a supported one of the registration's application.
func (r *Registrar) secretOf(ctx context.Context, j *judgement) (secret []byte, known bool, err error) {
	if j.key == nil {
		return []byte(signature.OfflineSecret), true, nil
	}
	v, err := r.apps.ByKey(ctx, *j.key)
	if err != nil && !errors.Is(err, app.ErrNotFound) {
		return nil, false, err
	}
	known = err == nil && v.Supported && v.Tenant == j.hot.tenant && v.App == j.hot.app
	return v.Secret.Reveal(), known, nil
}

// judgeInactive answers the state alone, after the lazy expiry.
func (r *Registrar) judgeInactive(ctx context.Context, j *judgement) error {
	h := &j.hot
	j.verdict.Status, j.outcome = h.state, outcomeState
	if h.state.inProgress() && !r.now().Before(h.expiresAt) {
		won, err := r.expire(ctx, h.record())
		j.verdict.Status, j.lost = StateRemoved, !won
		return err
	}
	return nil
}

// record is the part of the row that hot has.
func (h *hot) record() *record {
	return &record{
		tenant: h.tenant, id: h.id, app: h.app, user: h.user, state: h.state, failed: h.failed, revision: h.revision,
	}
}

// settle makes the judgement durable, in one round trip. It reports
// false when the registration was changed since it was read.
func (r *Registrar) settle(ctx context.Context, j *judgement) (bool, error) {
	h, now := &j.hot, r.clock()
	if j.outcome == outcomeUnknown && j.actor == actorDevice {
		// Anybody with an app may ask about any id, as often as they like: nothing
		// is there to be recorded for, and records can not be taken back. The record
		// is made all the same: the hash of what was signed is half of the work.
		_ = j.detailJSON()
		return true, nil
	}
	repeated := j.outcome == outcomeState && j.actor == actorDevice
	if repeated && !r.asked.due(h.key(), now) {
		_ = j.detailJSON()
		return true, nil
	}
	e := audit.Event{
		Tenant: h.tenant, At: now, Action: j.action, Actor: j.actor, Subject: h.id.String(),
		Outcome: j.outcome, JSON: j.detailJSON(),
	}
	if h.found { // also for a caller who may not see it: the tenant's auditor may
		e.UserID, e.AppID = h.user, h.app
	}
	if j.next == nil {
		err := r.audit.RecordTx(ctx, r.db, e)
		if err == nil && repeated {
			r.asked.recorded(h.key(), now)
		}
		return err == nil, err
	}
	n := j.next
	if n.state == h.state {
		return r.storeVerdict(ctx, j, e)
	}
	won, err := r.transit(ctx, sqlVerdict, j.row(now), e, h.record().told(n.state, *n.blocked))
	r.cache.drop(h.id, h.revision) // it is BLOCKED, or it was changed before
	return won, err
}

// storeVerdict stores a verdict together with what others ask for, or, when the
// row is held by somebody else, waits for it here: by its own callers only.
func (r *Registrar) storeVerdict(ctx context.Context, j *judgement, e audit.Event) (won bool, err error) {
	c := &change{next: j.hot, read: j.hot.ctr, event: e}
	c.next.standing = *j.next
	c.next.revision++
	if j.version != nil {
		c.version = *j.version
	}
	if j.held {
		won, err = r.apply(ctx, sqlVerdict, j.row(e.At), e)
		if err == nil && !won {
			r.cache.drop(c.next.id, j.hot.revision)
		}
	} else if err = audit.Check(&e); err == nil {
		won, err = r.verdicts.Do(ctx, binary.BigEndian.Uint64(c.next.id[8:]), c)
	}
	switch {
	case !won || err != nil:
	case j.cached:
		r.cache.moved(&c.next)
	case j.ready:
		r.cache.put(&c.next, &j.keys, j.erased)
	}
	return won, err
}

// row is the arguments of sqlVerdict.
func (j *judgement) row(at time.Time) []any {
	h, n := &j.hot, j.next
	return []any{
		h.tenant.String(),
		pgtype.UUID{Bytes: h.id, Valid: true},
		h.revision, string(n.state), n.ctr[:], n.counter,
		n.failed, n.failedPossession, n.blocked, j.version, at, h.ctr[:],
	}
}

// detailJSON is what an auditor may know, as JSON: no secret, and what was signed as
// a hash. It is written by hand because it is written for every verdict.
func (j *judgement) detailJSON() []byte {
	b := make([]byte, 0, 320)
	b = append(b, `{"type":"`...)
	b = append(b, strings.ToUpper(j.verdict.Factors.String())...)
	b = append(b, `",`...)
	b = j.detail(b)
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

// detail appends what the request says of itself.
func (r *VerifyRequest) detail(b []byte) []byte {
	b = append(b, `"version":"`...)
	b = append(b, r.Header.Version.String()...)
	b = append(b, `","method":"`...)
	b = append(b, r.Method...) // one of four
	b = append(b, `","uriId":`...)
	b, _ = jsontext.AppendQuote(b, r.URIID) // fails for bad UTF-8 only, which validate refused
	b = append(b, `,"dataHash":"`...)
	sum := dataHash(signature.Request{Method: r.Method, URIID: r.URIID, Nonce: r.Header.Nonce[:], Body: r.Body})
	b = hex.AppendEncode(b, sum[:])
	return append(b, '"')
}

// dataHash is SHA-256 of the signed data without its last element, the
// application secret.
func dataHash(r signature.Request) [32]byte {
	var buf [512]byte
	return sha256.Sum256(signature.AppendBaseString(buf[:0], r))
}
