package ca

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// RenewSigner asks for a new certificate of a signer's key.
type RenewSigner struct {
	Spec string // id or Current
	// IgnoreNotIssued asks anew even though the last request for a certificate
	// of this signer failed.
	IgnoreNotIssued bool
	Actor           string // who asks, for the audit trail
}

// RenewSigner has the issuer certify a signer's key once more (CA-10): before its
// certificate ends, or after the issuer has changed. The request is queued, with
// its serial, and tried at once; when the HSM is out, Run tries again later, and
// the answer is the signer as it is. The old certificate stays valid to its own
// end. Errors: ErrNoSigner, ErrSignerRevoked, ErrQueued, ErrNotIssued,
// fault.ErrUnavailable when not even the request could be recorded.
func (a *Authority) RenewSigner(ctx context.Context, t tenant.ID, r RenewSigner) (Signer, error) {
	s, err := a.Signer(ctx, t, r.Spec)
	if err != nil {
		return Signer{}, err
	}
	r.Spec = s.ID
	if _, err := a.renew(ctx, t, r); err != nil {
		return Signer{}, err
	}
	return a.Signer(ctx, t, s.ID)
}

// renew queues a renewal of the signer with this id and tries it. done tells
// whether that succeeded; without an error it will be tried again otherwise.
func (a *Authority) renew(ctx context.Context, t tenant.ID, r RenewSigner) (done bool, err error) {
	begun, cancel := a.begin(ctx)
	defer cancel()
	q := &renewal{tenant: t, signer: r.Spec, actor: r.Actor}
	err = a.inTx(begun, "queue renewal", func(tx pgx.Tx) error {
		s := Signer{Tenant: t, ID: r.Spec}
		if err := lockSigner(begun, tx, &s); err != nil {
			return err
		}
		var last string
		if err := tx.QueryRow(begun, sqlSignerLastStatus, t.String(), r.Spec).Scan(&last); err != nil {
			return err
		}
		switch {
		case last == "REQUESTED":
			return ErrQueued
		case last != "ISSUED" && !r.IgnoreNotIssued:
			return ErrNotIssued
		}
		return a.queue(begun, tx, q, a.node, a.lease)
	})
	if err != nil {
		return false, err
	}
	return a.try(begun, q)
}

// renewal is one attempt at a signer's new certificate: a REQUESTED row.
type renewal struct {
	tenant  tenant.ID
	signer  string
	ref     string
	serial  issuance.Serial
	attempt int
	actor   string

	name       string
	generation int
	draft      *issuance.Draft
	signed     bool // the HSM was asked
}

// errDone: the attempt's row says ISSUED.
var errDone = errors.New("ca: the certificate is issued")

// queue writes the row of an attempt. With an owner, the attempt begins now and
// must be over in time; without, it waits that long.
func (a *Authority) queue(ctx context.Context, tx pgx.Tx, q *renewal, owner string, wait time.Duration) error {
	id, err := a.newID()
	if err != nil {
		return err
	}
	if q.serial, err = issuance.NewSerial(a.random); err != nil {
		return fmt.Errorf("ca: %w", err)
	}
	q.ref = id.String()
	hash, now := a.signers.Hash(), a.wallTime()
	tag, err := tx.Exec(ctx, sqlRenewalIntent, q.tenant.String(), q.ref, q.serial[:], a.signers.Name(), hash[:],
		a.issuer.Certificate().SubjectKeyId, now, q.actor, orNull(owner), wait.Milliseconds(), q.signer, q.attempt)
	if err == nil && tag.RowsAffected() != 1 {
		err = ErrRecord
	}
	return err
}

// try carries out an attempt that this process holds the lease of. What only an
// outage stopped is queued again.
func (a *Authority) try(ctx context.Context, q *renewal) (done bool, err error) {
	start := a.now()
	defer func() { a.metrics.done(a.signers.Name(), start, a.now(), err) }()
	err = a.certifyRenewal(ctx, q)
	if err == nil {
		a.forgetSigner(q.tenant, q.signer)
		return true, nil
	}
	again, cleanup := a.giveUp(ctx, q, err)
	switch {
	case errors.Is(cleanup, errDone): // the answer to the commit was lost, not the commit
		a.forgetSigner(q.tenant, q.signer)
		return true, nil
	case cleanup != nil:
		a.log.LogAttrs(ctx, slog.LevelError, "ca: a failed renewal is left to the reconciler", slog.String("tenant", q.tenant.String()),
			slog.String("signer", q.signer), slog.String("certificate", q.ref), slog.Any("cause", cleanup))
		return false, err
	case again:
		a.log.LogAttrs(ctx, slog.LevelWarn, "ca: a renewal will be tried again", slog.String("tenant", q.tenant.String()),
			slog.String("signer", q.signer), slog.Int("attempt", q.attempt), slog.Any("cause", err))
		return false, nil
	}
	return false, err
}

func (a *Authority) certifyRenewal(ctx context.Context, q *renewal) error {
	var current []byte
	err := a.db.QueryRow(ctx, sqlSignerToRenew, q.tenant.String(), q.signer).Scan(&q.name, &q.generation, &current)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return ErrNoSigner
	case err != nil:
		return fmt.Errorf("ca: read signer: %w", pg.Unavailable(err))
	}
	of, err := newAuthority(current)
	if err != nil {
		return fmt.Errorf("ca: signer %s: %w", q.signer, err)
	}
	k, err := a.signerKey(ctx, q.tenant, q.generation, of)
	if err != nil {
		return fmt.Errorf("ca: signer %s: %w", q.signer, err)
	}
	csr, err := issuance.NewRequest(bound{ctx, k})
	if err != nil {
		return unusable("request for the signer's key", err)
	}
	request, err := issuance.ParseRequest(csr)
	if err != nil {
		return unusable("signer key", err)
	}
	if q.draft, err = issuance.Prepare(issuance.Order{
		Issuer: a.issuer, Profile: a.signers, Request: request, Serial: q.serial, Now: a.now(),
		Subject:   issuance.Subject{Organization: q.tenant.String(), CommonName: q.name, SerialNumber: q.signer},
		Locations: a.locations(a.issuer, q.serial, issuerShards),
	}); err != nil {
		return fmt.Errorf("ca: draft signer certificate: %w", err)
	}
	hash := a.signers.Hash()
	tag, err := a.db.Exec(ctx, sqlRenewalDraft, q.tenant.String(), q.ref, a.signers.Name(), hash[:],
		a.issuer.Certificate().SubjectKeyId, q.draft.NotBefore(), q.draft.NotAfter())
	if err != nil {
		return fmt.Errorf("ca: record signer certificate: %w", pg.Unavailable(err))
	}
	if tag.RowsAffected() != 1 {
		return fmt.Errorf("ca: renewal %s: %w", q.ref, ErrRecord)
	}
	q.signed = true
	der, err := q.draft.Sign(bound{ctx, a.issuerKey})
	if err != nil {
		return unusable("sign signer certificate", err)
	}
	if err := issuance.VerifyChain(append([][]byte{der}, a.issuers[0].chain...), a.now()); err != nil {
		return fmt.Errorf("ca: renewed signer: %w", err)
	}
	return a.inTx(ctx, "store signer certificate", func(tx pgx.Tx) error { return a.storeRenewal(ctx, tx, q, der) })
}

func (a *Authority) storeRenewal(ctx context.Context, tx pgx.Tx, q *renewal, der []byte) error {
	t, now := q.tenant.String(), a.wallTime()
	renewed, err := tx.Exec(ctx, sqlSignerRenewed, t, q.signer, der, q.serial[:], now)
	if err != nil {
		return err
	}
	issued, err := tx.Exec(ctx, sqlSignerCertificateIssued, t, q.ref, der, now)
	if err != nil {
		return err
	}
	if renewed.RowsAffected() != 1 || issued.RowsAffected() != 1 {
		return ErrRecord
	}
	return a.audit.RecordTx(ctx, tx, q.event(now, "ok"))
}

// giveUp ends an attempt and queues the next unless the cause is final. The
// request may be over, so this has a little time of its own.
func (a *Authority) giveUp(ctx context.Context, q *renewal, cause error) (again bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	final := fault.KindOf(cause) != fault.Unavailable
	err = a.inTx(ctx, "end renewal", func(tx pgx.Tx) (err error) {
		again, err = a.replace(ctx, tx, q, reasonOf(cause), final)
		return err
	})
	return again, err
}

// replace makes an attempt's row FAILED, with a tombstone when it may be signed,
// and queues the next attempt. errDone or ErrRecord when the row is not
// REQUESTED any more.
func (a *Authority) replace(ctx context.Context, tx pgx.Tx, q *renewal, reason string, final bool) (again bool, err error) {
	s := Signer{Tenant: q.tenant, ID: q.signer}
	switch err := lockSigner(ctx, tx, &s); {
	case errors.Is(err, ErrSignerRevoked), errors.Is(err, ErrNoSigner):
		final = true
	case err != nil:
		return false, err
	}
	t, now := q.tenant.String(), a.wallTime()
	var issuer []byte
	var end time.Time
	switch err := tx.QueryRow(ctx, sqlRenewalFailed, t, q.ref, reason).Scan(&issuer, &end); {
	case errors.Is(err, pgx.ErrNoRows):
		return false, statusOf(ctx, tx, q)
	case err != nil:
		return false, err
	}
	if q.signed {
		if err := revocation.RecordTx(ctx, tx, revocation.Record{
			Tenant: q.tenant, Issuer: issuer, Shards: issuerShards, Serial: q.serial, CertRef: q.ref,
			At: now, NotAfter: end, Actor: q.actor,
		}); err != nil {
			return false, err
		}
	}
	if err := a.audit.RecordTx(ctx, tx, q.event(now, strings.ToLower(reason))); err != nil {
		return false, err
	}
	if final || q.attempt+1 >= maxAttempts {
		return false, nil
	}
	next := &renewal{tenant: q.tenant, signer: q.signer, attempt: q.attempt + 1, actor: q.actor}
	return true, a.queue(ctx, tx, next, "", retryAfter(next.attempt))
}

func statusOf(ctx context.Context, tx pgx.Tx, q *renewal) error {
	var status string
	if err := tx.QueryRow(ctx, sqlCertificateStatus, q.tenant.String(), q.ref).Scan(&status); err != nil {
		return err
	}
	if status == "ISSUED" {
		return errDone
	}
	return ErrRecord
}

// retryAfter doubles from a second to ten minutes; a half of it is jitter.
func retryAfter(attempt int) time.Duration {
	d := lastRetry
	if attempt <= 10 {
		d = min(lastRetry, firstRetry<<(attempt-1))
	}
	return d/2 + rand.N(d/2)
}

func (q *renewal) event(at time.Time, outcome string) audit.Event {
	detail := map[string]any{"certificate": q.ref, "serial": q.serial.String(), "attempt": q.attempt}
	if q.draft != nil {
		spki := q.draft.SPKIHash()
		detail["name"], detail["generation"], detail["spkiSha256"] = q.name, q.generation, hex.EncodeToString(spki[:])
	}
	return audit.Event{
		Tenant: q.tenant, At: at, Action: "signer.renew", Actor: q.actor, Subject: q.signer, Outcome: outcome, Detail: detail,
	}
}
