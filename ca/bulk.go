package ca

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/tenant"
)

// bulkRevoked is the failure of requests that a bulk revocation met.
const bulkRevoked = "REVOKED"

// RevokeIssued asks for the end of everything that one signer issued.
type RevokeIssued struct {
	Spec   string // id or Current
	Reason revocation.Reason
	Since  time.Time // when the keys are thought to have been lost; zero = not stated
	Actor  string    // who asks, for the audit trail
}

// RevokeIssued revokes what a signer has issued in transactions of a few hundred,
// and returns how many certificates those were. Requests under way are failed, as
// the reconciler does, and their serials revoked. For a RETIRED signer nothing is
// left afterwards that could become a certificate; an ACTIVE one issues more, so
// rotate first. Refused for a REVOKED one, whose CRL is not published any more:
// revoke it last. After an error, or a crash, the next call goes on where this one
// stopped: what is revoked already is not met again. Errors: ErrNoSigner,
// ErrSignerRevoked, ErrRequest, fault.ErrUnavailable.
func (a *Authority) RevokeIssued(ctx context.Context, t tenant.ID, r RevokeIssued) (revoked int, err error) {
	if err := validReason(r.Reason, r.Since, a.wallTime()); err != nil {
		return 0, err
	}
	s, err := a.Signer(ctx, t, r.Spec)
	if err != nil {
		return 0, err
	}
	// The lock waits for intents that found the signer ACTIVE and are not
	// committed; no others come after it when the signer is RETIRED.
	if err := a.inTx(ctx, "revoke certificates", func(tx pgx.Tx) error { return lockSigner(ctx, tx, &s) }); err != nil {
		return 0, err
	}
	// References are not committed in their order, above all not those of a node
	// whose clock is slow: look until nothing is found.
	for met := true; met; {
		n := 0
		n, met, err = a.revokePass(ctx, &s, r)
		revoked += n
		if err != nil {
			return revoked, err
		}
		met = met && s.State != Active // that would have no end
	}
	return revoked, nil
}

// revokePass goes once through the certificates of a signer. met tells whether
// there were any.
func (a *Authority) revokePass(ctx context.Context, s *Signer, r RevokeIssued) (revoked int, met bool, err error) {
	for after := ""; ; {
		var refs []string
		n := 0
		err := a.inTx(ctx, "revoke certificates", func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, sqlLiveBySigner, s.Tenant.String(), s.ID, after, a.revokeBatch)
			if err != nil {
				return err
			}
			if refs, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil || len(refs) == 0 {
				return err
			}
			// In this order: what is stored in between is met by the second.
			if err := a.failTx(ctx, tx, s.Tenant, refs, r); err != nil {
				return err
			}
			n, err = a.revokeTx(ctx, tx, s.Tenant, refs, r)
			return err
		})
		if err != nil || len(refs) == 0 {
			return revoked, met, err
		}
		revoked, met, after = revoked+n, true, refs[len(refs)-1]
	}
}

// failTx fails those of the certificates that are REQUESTED. Whoever signs one
// can not store it any more, but see doc.go for why its serial is revoked.
func (a *Authority) failTx(ctx context.Context, tx pgx.Tx, t tenant.ID, refs []string, r RevokeIssued) error {
	rows, err := tx.Query(ctx, sqlCertificatesFail, t.String(), refs, bulkRevoked)
	if err != nil {
		return err
	}
	certs, err := pgx.CollectRows(rows, scanRevocable)
	if err != nil {
		return err
	}
	now := a.wallTime()
	tombstones, events := make([]revocation.Record, len(certs)), &pgx.Batch{}
	for i := range certs {
		c := &certs[i]
		tombstones[i] = c.record(t, r.Reason, r.Since, now, r.Actor)
		if err := a.audit.Queue(events, audit.Event{
			Tenant: t, At: now, Action: "certificate.issue", Actor: r.Actor, Subject: c.ref, UserID: c.user,
			Outcome: strings.ToLower(bulkRevoked),
			Detail:  map[string]any{"profile": c.profile, "signer": c.signer, "serial": c.serial.String(), "reason": r.Reason.String()},
		}); err != nil {
			return err
		}
	}
	if err := revocation.RecordTx(ctx, tx, tombstones...); err != nil {
		return err
	}
	return tx.SendBatch(ctx, events).Close()
}

// revokeTx revokes those of the certificates that are still ISSUED.
func (a *Authority) revokeTx(ctx context.Context, tx pgx.Tx, t tenant.ID, refs []string, r RevokeIssued) (int, error) {
	now := a.wallTime()
	rows, err := tx.Query(ctx, sqlCertificatesRevoke, t.String(), refs, now, int16(r.Reason), r.Actor)
	if err != nil {
		return 0, err
	}
	certs, err := pgx.CollectRows(rows, scanRevocable)
	if err != nil {
		return 0, err
	}
	tombstones, events := make([]revocation.Record, len(certs)), &pgx.Batch{}
	for i := range certs {
		c := &certs[i]
		tombstones[i] = c.record(t, r.Reason, r.Since, now, r.Actor)
		if err := a.audit.Queue(events, c.event(t, r.Reason, now, r.Actor)); err != nil {
			return 0, err
		}
	}
	if err := revocation.RecordTx(ctx, tx, tombstones...); err != nil {
		return 0, err
	}
	return len(certs), tx.SendBatch(ctx, events).Close()
}
