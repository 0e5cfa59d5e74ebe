package ca

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

const (
	// Only a signer that may sign gets one.
	sqlOCSPKey = `update ca_signer set ocsp_key_id = $3, ocsp_until = greatest(ocsp_until, $4)
where tenant_id = $1 and id = $2 and state in ('ACTIVE', 'RETIRED')`

	sqlOCSPKeysDue = `select tenant_id, id, ocsp_key_id, state, ocsp_doomed_at from ca_signer
where state in ('REVOKED', 'DELETED') and ocsp_key_id is not null and ocsp_destroyed_at is null and ocsp_until < $1
  and (ocsp_doomed_at is null or ocsp_doomed_at < $2)
order by ocsp_until limit $3`

	// Of two nodes one finds it changed.
	sqlOCSPKeyDoom = `update ca_signer set ocsp_doomed_at = $3
where tenant_id = $1 and id = $2 and ocsp_destroyed_at is null and ocsp_doomed_at is not distinct from $4`

	sqlOCSPKeyGone = `update ca_signer set ocsp_destroyed_at = $3
where tenant_id = $1 and id = $2 and ocsp_doomed_at is not null and ocsp_destroyed_at is null`
)

// recordResponder records that there is, or is about to be, a key that answers
// OCSP for a signer, and until when responses by it may count.
func (s *Issuers) recordResponder(ctx context.Context, c *certifier) error {
	if c.signer == "" {
		return nil // the installation's issuers end by configuration
	}
	id, until := c.keyID(), s.a.wallTime().Add(s.responders.Profile().Validity)
	tag, err := s.a.db.Exec(ctx, sqlOCSPKey, c.tenant.String(), c.signer, id[:], until)
	if err != nil {
		return fmt.Errorf("ca: record OCSP signing key: %w", pg.Unavailable(err))
	}
	if tag.RowsAffected() != 1 {
		return revocation.ErrNoIssuer // ended meanwhile
	}
	return nil
}

// ocspKey is one that nothing needs any more.
type ocspKey struct {
	tenant tenant.ID
	signer string
	id     revocation.KeyID
	state  string     // of the signer
	doomed *time.Time // when somebody began; nil = nobody has
}

// event says what is to be done with the key, or was.
func (k *ocspKey) event(at time.Time, outcome string) audit.Event {
	return audit.Event{
		Tenant: k.tenant, At: at, Action: "ocsp.destroy", Actor: reconciler, Subject: k.id.String(), Outcome: outcome,
		Detail: map[string]any{"signer": k.signer, "state": k.state, "key": responderRef(k.tenant, k.id).String()},
	}
}

// destroyOCSPKeys destroys the OCSP keys of signers that have ended, when
// nothing they signed counts any more. That it is to be done is recorded first,
// and that it is done after it, each with its audit event; what a crash left
// undone is done again a lease later.
func (a *Authority) destroyOCSPKeys(ctx context.Context) (int, error) {
	now := a.wallTime()
	rows, err := a.db.Query(ctx, sqlOCSPKeysDue, now, now.Add(-a.lease), reconcilePage)
	if err != nil {
		return 0, pg.Unavailable(err)
	}
	due, err := pgx.CollectRows(rows, scanOCSPKey)
	if err != nil {
		return 0, pg.Unavailable(err)
	}
	for i := range due {
		if err := a.destroyOCSPKey(ctx, &due[i], now); err != nil {
			return i, fmt.Errorf("signer %s: %w", due[i].signer, err)
		}
	}
	return len(due), nil
}

func scanOCSPKey(row pgx.CollectableRow) (k ocspKey, err error) {
	var t string
	var id []byte
	if err = row.Scan(&t, &k.signer, &id, &k.state, &k.doomed); err != nil {
		return k, err
	}
	copy(k.id[:], id)
	k.tenant, err = tenant.Parse(t)
	return k, err
}

func (a *Authority) destroyOCSPKey(ctx context.Context, k *ocspKey, now time.Time) error {
	ctx, cancel := a.begin(ctx)
	defer cancel()
	t, ref := k.tenant.String(), responderRef(k.tenant, k.id)
	mine := false
	err := a.inTx(ctx, "record the end of an OCSP signing key", func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sqlOCSPKeyDoom, t, k.signer, now, k.doomed)
		if mine = err == nil && tag.RowsAffected() == 1; !mine || k.doomed != nil {
			return err
		}
		return a.audit.RecordTx(ctx, tx, k.event(now, "intended"))
	})
	if err != nil || !mine {
		return err
	}
	if err := a.keys.destroy(ctx, ref); err != nil {
		return unusable("destroy OCSP signing key", err)
	}
	err = a.inTx(ctx, "record that an OCSP signing key is gone", func(tx pgx.Tx) error {
		at := a.wallTime()
		tag, err := tx.Exec(ctx, sqlOCSPKeyGone, t, k.signer, at)
		if err != nil || tag.RowsAffected() != 1 {
			return err // another node said so
		}
		return a.audit.RecordTx(ctx, tx, k.event(at, "ok"))
	})
	if err != nil {
		return err
	}
	a.log.LogAttrs(ctx, slog.LevelInfo, "ca: the OCSP signing key of a signer that has ended was destroyed",
		slog.String("tenant", t), slog.String("signer", k.signer), slog.String("key", ref.String()))
	return nil
}
