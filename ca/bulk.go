package ca

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/tenant"
)

// RevokeIssued asks for the end of everything that one signer issued.
type RevokeIssued struct {
	Spec   string // id or Current
	Reason revocation.Reason
	Since  time.Time // when the keys are thought to have been lost; zero = not stated
	Actor  string    // who asks, for the audit trail
}

// RevokeIssued revokes all ISSUED certificates of a signer in transactions of a
// few hundred, and returns how many. After an error, or a crash, the next call
// goes on where this one stopped: what is revoked already is not met again. It
// does not stop the signer from issuing more; rotate or revoke it first.
// Errors: ErrNoSigner, ErrRequest, fault.ErrUnavailable.
func (a *Authority) RevokeIssued(ctx context.Context, t tenant.ID, r RevokeIssued) (revoked int, err error) {
	if err := validReason(r.Reason, r.Since, a.wallTime()); err != nil {
		return 0, err
	}
	s, err := a.Signer(ctx, t, r.Spec)
	if err != nil {
		return 0, err
	}
	for after := ""; ; {
		var refs []string
		n := 0
		err := a.inTx(ctx, "revoke certificates", func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, sqlIssuedBySigner, t.String(), s.ID, after, a.revokeBatch)
			if err != nil {
				return err
			}
			if refs, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil || len(refs) == 0 {
				return err
			}
			n, err = a.revokeTx(ctx, tx, t, refs, r)
			return err
		})
		if err != nil || len(refs) == 0 {
			return revoked, err
		}
		revoked, after = revoked+n, refs[len(refs)-1]
	}
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
