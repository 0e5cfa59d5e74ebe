package ca

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/oklog/ulid/v2"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// reconciler is who acts in the audit trail when no request does.
const reconciler = "ca.reconciler"

// destroyKeys destroys the keys of FAILED and DELETED signers that nobody has
// destroyed yet. The lease keeps two nodes from the same key; both would do no
// harm.
func (a *Authority) destroyKeys(ctx context.Context) (int, error) {
	return a.eachSigner(ctx, sqlKeysToDestroy, nil, func(ctx context.Context, s *Signer) error {
		id, err := ulid.ParseStrict(s.ID)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrRecord, err)
		}
		return a.destroyKey(ctx, s.Tenant, id, s.Generation)
	})
}

// rotateDue replaces ACTIVE signers that have reached their age. A rotation that
// fails is tried again when the lease on the old signer is over.
func (a *Authority) rotateDue(ctx context.Context) (int, error) {
	if a.rotateAfter == 0 {
		return 0, nil
	}
	return a.eachSigner(ctx, sqlSignersAged, []any{a.now().Add(-a.rotateAfter)}, func(ctx context.Context, s *Signer) error {
		next, err := a.CreateSigner(ctx, s.Tenant, CreateSigner{Actor: reconciler})
		if err != nil {
			return err
		}
		a.log.LogAttrs(ctx, slog.LevelInfo, "ca: a signer was rotated by age", slog.String("tenant", s.Tenant.String()),
			slog.String("old", s.ID), slog.String("new", next.ID))
		return nil
	})
}

// eachSigner works at the signers that a statement finds, each under a lease.
func (a *Authority) eachSigner(ctx context.Context, sql string, args []any, do func(context.Context, *Signer) error) (int, error) {
	rows, err := a.db.Query(ctx, sql, append([]any{reconcilePage}, args...)...)
	if err != nil {
		return 0, pg.Unavailable(err)
	}
	list, err := pgx.CollectRows(rows, scanCreation)
	if err != nil {
		return 0, pg.Unavailable(err)
	}
	var errs []error
	for i := range list {
		if err := a.under(ctx, &list[i], do); err != nil {
			errs = append(errs, fmt.Errorf("signer %s: %w", list[i].ID, err))
			if fault.KindOf(err) == fault.Unavailable {
				break // the others would fare no better
			}
		}
	}
	return len(list), errors.Join(errs...)
}

// under does something under a lease on a signer's row, if it is free.
func (a *Authority) under(ctx context.Context, s *Signer, do func(context.Context, *Signer) error) error {
	ctx, cancel := a.begin(ctx)
	defer cancel()
	owner, err := a.newID()
	if err != nil {
		return err
	}
	tag, err := a.db.Exec(ctx, sqlSignerTake, s.Tenant.String(), s.ID, owner.String(), a.lease.Milliseconds())
	if err != nil || tag.RowsAffected() == 0 {
		return pg.Unavailable(err)
	}
	return do(ctx, s)
}

// Unrecorded lists the signer keys in the HSM that no record explains: their
// label belongs to no signer, or to one with another key, or to one whose key
// is recorded as destroyed. They are reported and not touched, since a database
// restored from a backup would make such keys of good ones.
func (a *Authority) Unrecorded(ctx context.Context) ([]hsm.Ref, error) {
	found, err := a.keys.list(ctx)
	if err != nil {
		return nil, unusable("list signer keys", err)
	}
	var strange []hsm.Ref
	for _, k := range found {
		known := false
		if t, err := tenant.Parse(k.Ref.Tenant); err == nil {
			err := a.db.QueryRow(ctx, sqlKeyKnown, t.String(), ulid.ULID(k.ID).String(), k.Ref.String()).Scan(&known)
			if err != nil {
				return nil, fmt.Errorf("ca: look for a key's record: %w", pg.Unavailable(err))
			}
		}
		if !known {
			strange = append(strange, k.Ref)
		}
	}
	return strange, nil
}

func (a *Authority) reportUnrecorded(ctx context.Context) {
	strange, err := a.Unrecorded(ctx)
	if err != nil {
		a.log.LogAttrs(ctx, slog.LevelWarn, "ca: the HSM's signer keys could not be compared with the records", slog.Any("cause", err))
		return
	}
	a.metrics.unrecorded.Set(float64(len(strange)))
	for _, ref := range strange {
		a.log.LogAttrs(ctx, slog.LevelError, "ca: the HSM holds a signer key that no record explains", slog.String("key", ref.String()))
	}
}
