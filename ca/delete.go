package ca

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/oklog/ulid/v2"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// DeleteSigner asks for the end of a signer that was made in vain.
type DeleteSigner struct {
	Spec  string // id or Current
	Actor string // who asks, for the audit trail
}

// DeleteSigner deletes a signer from which no certificate was ever requested, and
// which signed no statement, and destroys its key (CA-08). That it is deleted is recorded first: from then on
// nobody sees it or issues by it, and a key that could not be destroyed at once is
// destroyed by the reconciler. Its own certificate goes onto the issuer's CRL,
// for it may have been downloaded. Errors: ErrNoSigner, ErrSignerUsed,
// ErrSignerRevoked, fault.ErrUnavailable.
func (a *Authority) DeleteSigner(ctx context.Context, t tenant.ID, r DeleteSigner) error {
	ctx, cancel := a.begin(ctx)
	defer cancel()
	s, err := a.Signer(ctx, t, r.Spec)
	if err != nil {
		return err
	}
	if err := a.inTx(ctx, "delete signer", func(tx pgx.Tx) error { return a.deleteTx(ctx, tx, &s, r.Actor) }); err != nil {
		return err
	}
	a.forgetSigner(t, s.ID)
	id, err := ulid.ParseStrict(s.ID)
	if err == nil {
		err = a.destroyKey(ctx, t, id, s.Generation)
	}
	if err != nil {
		a.log.LogAttrs(ctx, slog.LevelWarn, "ca: the key of a deleted signer is left to the reconciler",
			slog.String("tenant", t.String()), slog.String("signer", s.ID), slog.Any("cause", err))
	}
	return nil
}

// deleteTx locks the signer before it looks for certificates: the lock that each
// intent takes (sqlLeafIntent) is the other half.
func (a *Authority) deleteTx(ctx context.Context, tx pgx.Tx, s *Signer, actor string) error {
	t, now := s.Tenant.String(), a.wallTime()
	if err := lockSigner(ctx, tx, s); err != nil {
		return err
	}
	var used bool
	if err := tx.QueryRow(ctx, sqlSignerUsed, t, s.ID).Scan(&used); err != nil {
		return err
	}
	if used {
		return ErrSignerUsed
	}
	tag, err := tx.Exec(ctx, sqlSignerDelete, t, s.ID, now, a.node, a.lease.Milliseconds())
	if err == nil && tag.RowsAffected() != 1 {
		err = ErrRecord
	}
	if err != nil {
		return err
	}
	serials, err := a.endCertificates(ctx, tx, s, RevokeSigner{Reason: revocation.CessationOfOperation, Actor: actor}, now)
	if err != nil {
		return err
	}
	return a.audit.RecordTx(ctx, tx, audit.Event{
		Tenant: s.Tenant, At: now, Action: "signer.delete", Actor: actor, Subject: s.ID, Outcome: "ok",
		Detail: map[string]any{"name": s.Name, "generation": s.Generation, "serials": serials},
	})
}

// lockSigner makes the row this transaction's, with the state that it has now.
func lockSigner(ctx context.Context, tx pgx.Tx, s *Signer) error {
	err := tx.QueryRow(ctx, sqlSignerLock, s.Tenant.String(), s.ID).Scan(&s.State)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return ErrNoSigner
	case err != nil:
		return err
	case s.State == Revoked:
		return ErrSignerRevoked
	}
	return nil
}

// inTx runs fn in a transaction. The domain's own verdicts come back as they
// are, everything else as an outage of the database.
func (a *Authority) inTx(ctx context.Context, what string, fn func(pgx.Tx) error) error {
	if err := pg.InTx(ctx, a.db, fn); err != nil {
		return fmt.Errorf("ca: %s: %w", what, pg.Unavailable(err))
	}
	return nil
}
