package ca

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/tenant"
)

// RevokeSigner asks for the end of a signer that must not be trusted any more.
type RevokeSigner struct {
	Spec   string // id or Current
	Reason revocation.Reason
	Since  time.Time // when its key is thought to have been lost; zero = not stated
	Actor  string    // who asks, for the audit trail
}

// RevokeSigner revokes an ACTIVE or RETIRED signer with all its certificates
// (CA-11). They are erased from use, the tombstones stay, in one transaction: as
// soon as it is committed nobody issues by the signer, builds a path over it, or
// renews it. What it issued loses its path with it. Nobody signs its CRL any more,
// so whoever wants each of those revoked as well calls RevokeIssued before. Its
// key stays in the HSM as evidence and is not used again.
// Errors: ErrNoSigner, ErrSignerRevoked, ErrRequest, fault.ErrUnavailable.
func (a *Authority) RevokeSigner(ctx context.Context, t tenant.ID, r RevokeSigner) error {
	now := a.wallTime()
	if err := validReason(r.Reason, r.Since, now); err != nil {
		return err
	}
	s, err := a.Signer(ctx, t, r.Spec)
	if err != nil {
		return err
	}
	err = a.inTx(ctx, "revoke signer", func(tx pgx.Tx) error {
		if err := lockSigner(ctx, tx, &s); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, sqlSignerRevoke, t.String(), s.ID, now, int16(r.Reason), r.Actor)
		if err == nil && tag.RowsAffected() != 1 {
			err = ErrRecord
		}
		if err != nil {
			return err
		}
		serials, err := a.endCertificates(ctx, tx, &s, r, now)
		if err != nil {
			return err
		}
		return a.audit.RecordTx(ctx, tx, audit.Event{
			Tenant: t, At: now, Action: "signer.revoke", Actor: r.Actor, Subject: s.ID, Outcome: "ok",
			Detail: map[string]any{"name": s.Name, "generation": s.Generation, "from": s.State, "reason": r.Reason.String(), "serials": serials},
		})
	})
	if err == nil {
		a.forgetSigner(t, s.ID)
	}
	return err
}

// endCertificates ends everything certified for a signer's key: ISSUED rows
// become REVOKED and lose the certificate; REQUESTED ones become FAILED, and get
// a tombstone as well if somebody may be signing.
func (a *Authority) endCertificates(ctx context.Context, tx pgx.Tx, s *Signer, r RevokeSigner, now time.Time) (serials []string, err error) {
	rows, err := tx.Query(ctx, sqlSignerCertificates, s.Tenant.String(), s.ID)
	if err != nil {
		return nil, err
	}
	certs, err := pgx.CollectRows(rows, scanRevocable)
	if err != nil {
		return nil, err
	}
	tombstones := make([]revocation.Record, 0, len(certs))
	for i := range certs {
		c := &certs[i]
		if c.status == "REQUESTED" {
			if _, err := tx.Exec(ctx, sqlCertificateFailed, s.Tenant.String(), c.ref, "SIGNER_ENDED"); err != nil {
				return nil, err
			}
			if !c.begun {
				continue
			}
		} else if _, err := tx.Exec(ctx, sqlCertificateErase, s.Tenant.String(), c.ref, now, int16(r.Reason), r.Actor); err != nil {
			return nil, err
		}
		c.shards = issuerShards
		tombstones = append(tombstones, c.record(s.Tenant, r.Reason, r.Since, now, r.Actor))
		serials = append(serials, c.serial.String())
	}
	return serials, revocation.RecordTx(ctx, tx, tombstones...)
}

// RevokeCertificate asks for the end of one certificate that a signer issued.
type RevokeCertificate struct {
	Ref    string          // reference of its request; or
	Serial issuance.Serial // its serial, when Ref is ""
	Reason revocation.Reason
	Since  time.Time // when its key is thought to have been lost; zero = not stated
	Actor  string    // who asks, for the audit trail
}

// RevokeCertificate revokes an ISSUED certificate of the tenant, and with it, for
// the same reason, those that RenewDevice gave for it: whoever has its key may
// have asked for them. The rows keep the certificates. Errors: ErrNoCertificate, ErrCertificateState,
// ErrSignerCertificate, ErrRequest, fault.ErrUnavailable.
func (a *Authority) RevokeCertificate(ctx context.Context, t tenant.ID, r RevokeCertificate) error {
	now := a.wallTime()
	if err := validReason(r.Reason, r.Since, now); err != nil {
		return err
	}
	sql, arg := sqlRevocableByRef, any(r.Ref) // both lock the row
	switch {
	case r.Ref == "":
		sql, arg = sqlRevocableBySerial, r.Serial[:]
	case !validID(r.Ref):
		return ErrNoCertificate
	}
	return a.inTx(ctx, "revoke certificate", func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sql, t.String(), arg)
		if err != nil {
			return err
		}
		c, err := pgx.CollectExactlyOneRow(rows, scanRevocable)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return ErrNoCertificate
		case err != nil:
			return err
		case c.ofSigner:
			return ErrSignerCertificate
		case c.status != "ISSUED":
			return ErrCertificateState
		}
		return a.revokeWithSuccessors(ctx, tx, t, c.ref, RevokeIssued{Reason: r.Reason, Since: r.Since, Actor: r.Actor})
	})
}

// revokeWithSuccessors revokes a certificate, what was renewed by means of it,
// what was renewed by means of that, and so on. Each is revoked before its
// successors are looked for: whoever stores one meanwhile holds a lock on it.
func (a *Authority) revokeWithSuccessors(ctx context.Context, tx pgx.Tx, t tenant.ID, ref string, r RevokeIssued) error {
	room := maxSuccessors
	for queue := []string{ref}; len(queue) > 0; {
		refs := queue[:min(len(queue), a.revokeBatch)]
		queue = queue[len(refs):]
		if _, err := a.revokeTx(ctx, tx, t, refs, r); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, sqlSuccessors, t.String(), refs, room+1)
		if err != nil {
			return err
		}
		next, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		if len(next) > room {
			a.log.LogAttrs(ctx, slog.LevelError, "ca: a certificate was renewed more often than is revoked with it, revoke the rest by themselves",
				slog.String("tenant", t.String()), slog.String("certificate", ref), slog.Int("limit", maxSuccessors))
			next = next[:room]
		}
		room -= len(next)
		queue = append(queue, next...)
	}
	return nil
}

// revocable is what a tombstone needs of a certificate.
type revocable struct {
	ref         string
	serial      issuance.Serial
	issuer      []byte
	status      string
	ofSigner    bool
	begun       bool // somebody holds a lease, so it may be signed
	certificate []byte
	notAfter    time.Time
	signer      string
	user        string
	profile     string
	shards      int
}

func scanRevocable(row pgx.CollectableRow) (c revocable, err error) {
	var serial []byte
	err = row.Scan(&c.ref, &serial, &c.issuer, &c.status, &c.ofSigner, &c.begun, &c.certificate, &c.notAfter,
		&c.signer, &c.user, &c.profile, &c.shards)
	if err != nil {
		return c, err
	}
	c.serial, err = issuance.ParseSerial(serial)
	return c, err
}

// record is the tombstone. Without a certificate the hash stays zero: what may
// have been signed was not stored.
func (c *revocable) record(t tenant.ID, reason revocation.Reason, since, at time.Time, actor string) revocation.Record {
	r := revocation.Record{
		Tenant: t, Issuer: c.issuer, Shards: c.shards, Serial: c.serial, CertRef: c.ref,
		Reason: reason, At: at, Since: since, NotAfter: c.notAfter, Actor: actor,
	}
	if c.certificate != nil {
		r.SHA256 = sha256.Sum256(c.certificate)
	}
	return r
}

func (c *revocable) event(t tenant.ID, reason revocation.Reason, at time.Time, actor string) audit.Event {
	sum := sha256.Sum256(c.certificate)
	return audit.Event{
		Tenant: t, At: at, Action: "certificate.revoke", Actor: actor, Subject: c.ref, UserID: c.user, Outcome: "ok",
		Detail: map[string]any{
			"profile": c.profile, "signer": c.signer, "serial": c.serial.String(),
			"sha256": hex.EncodeToString(sum[:]), "reason": reason.String(),
		},
	}
}

func validReason(r revocation.Reason, since, now time.Time) error {
	var v []fault.Violation
	if !r.Valid() {
		v = append(v, fault.Violation{Field: "reason", Value: strconv.Itoa(int(r)), Hint: "must be a revocation reason of RFC 5280, but not a hold"})
	}
	if since.After(now) {
		v = append(v, fault.Violation{Field: "since", Hint: "must not be in the future"})
	}
	if v != nil {
		return ErrRequest.With(v...)
	}
	return nil
}
