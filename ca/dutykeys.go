package ca

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// dutySQL are the statements about the keys of one duty.
type dutySQL struct{ record, due, doom, gone string }

// dutyStatements has them for the columns of ca_signer that begin with prefix.
func dutyStatements(prefix string) dutySQL {
	name := func(sql string) string { return strings.ReplaceAll(sql, "duty_", prefix) }
	return dutySQL{
		// Only a signer that may sign gets one.
		record: name(`update ca_signer set duty_key_id = $3, duty_until = greatest(duty_until, $4)
where tenant_id = $1 and id = $2 and state in ('ACTIVE', 'RETIRED')`),

		due: name(`select tenant_id, id, duty_key_id, state, duty_doomed_at from ca_signer
where state in ('REVOKED', 'DELETED') and duty_key_id is not null and duty_destroyed_at is null and duty_until < $1
  and (duty_doomed_at is null or duty_doomed_at < $2)
order by duty_until limit $3`),

		// Of two nodes one finds it changed.
		doom: name(`update ca_signer set duty_doomed_at = $3
where tenant_id = $1 and id = $2 and duty_destroyed_at is null and duty_doomed_at is not distinct from $4`),

		gone: name(`update ca_signer set duty_destroyed_at = $3
where tenant_id = $1 and id = $2 and duty_doomed_at is not null and duty_destroyed_at is null`),
	}
}

// recordDutyKey records that there is, or is about to be, a key of this duty for
// a signer, and until when what it signs may count.
func (s *Issuers) recordDutyKey(ctx context.Context, c *certifier, d *duty) error {
	if c.signer == "" {
		return nil // the installation's issuers end by configuration
	}
	id, until := c.keyID(), s.a.wallTime().Add(d.profile.Validity)
	tag, err := s.a.db.Exec(ctx, d.record, c.tenant.String(), c.signer, id[:], until)
	if err != nil {
		return fmt.Errorf("ca: record %s key: %w", d.what, pg.Unavailable(err))
	}
	if tag.RowsAffected() != 1 {
		return revocation.ErrNoIssuer // ended meanwhile
	}
	return nil
}

// dutyKey is one that nothing needs any more.
type dutyKey struct {
	duty   *duty
	tenant tenant.ID
	signer string
	id     revocation.KeyID
	state  string     // of the signer
	doomed *time.Time // when somebody began; nil = nobody has
}

// event says what is to be done with the key, or was.
func (k *dutyKey) event(at time.Time, outcome string) audit.Event {
	return audit.Event{
		Tenant: k.tenant, At: at, Action: k.duty.action + ".destroy", Actor: reconciler, Subject: k.id.String(), Outcome: outcome,
		Detail: map[string]any{"signer": k.signer, "state": k.state, "key": k.duty.ref(k.tenant, k.id).String()},
	}
}

// destroyDutyKeys destroys the keys for OCSP and CRLs of signers that have ended,
// when nothing they signed counts any more. That it is to be done is recorded first,
// and that it is done after it, each with its audit event; what a crash left
// undone is done again a lease later.
func (a *Authority) destroyDutyKeys(ctx context.Context) (n int, err error) {
	for _, d := range duties {
		done, err := a.destroyKeysOf(ctx, d)
		if n += done; err != nil {
			return n, err
		}
	}
	return n, nil
}

func (a *Authority) destroyKeysOf(ctx context.Context, d *duty) (int, error) {
	now := a.wallTime()
	rows, err := a.db.Query(ctx, d.due, now, now.Add(-a.lease), reconcilePage)
	if err != nil {
		return 0, pg.Unavailable(err)
	}
	due, err := pgx.CollectRows(rows, scanDutyKey)
	if err != nil {
		return 0, pg.Unavailable(err)
	}
	for i := range due {
		due[i].duty = d
		if err := a.destroyDutyKey(ctx, &due[i], now); err != nil {
			return i, fmt.Errorf("signer %s: %w", due[i].signer, err)
		}
	}
	return len(due), nil
}

func scanDutyKey(row pgx.CollectableRow) (k dutyKey, err error) {
	var t string
	var id []byte
	if err = row.Scan(&t, &k.signer, &id, &k.state, &k.doomed); err != nil {
		return k, err
	}
	copy(k.id[:], id)
	k.tenant, err = tenant.Parse(t)
	return k, err
}

func (a *Authority) destroyDutyKey(ctx context.Context, k *dutyKey, now time.Time) error {
	ctx, cancel := a.begin(ctx)
	defer cancel()
	t, ref := k.tenant.String(), k.duty.ref(k.tenant, k.id)
	mine := false
	err := a.inTx(ctx, "record the end of a key for "+k.duty.what, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, k.duty.doom, t, k.signer, now, k.doomed)
		if mine = err == nil && tag.RowsAffected() == 1; !mine || k.doomed != nil {
			return err
		}
		return a.audit.RecordTx(ctx, tx, k.event(now, "intended"))
	})
	if err != nil || !mine {
		return err
	}
	if err := a.keys.destroy(ctx, ref); err != nil {
		return unusable("destroy "+k.duty.what+" key", err)
	}
	err = a.inTx(ctx, "record that a key for "+k.duty.what+" is gone", func(tx pgx.Tx) error {
		at := a.wallTime()
		tag, err := tx.Exec(ctx, k.duty.gone, t, k.signer, at)
		if err != nil || tag.RowsAffected() != 1 {
			return err // another node said so
		}
		return a.audit.RecordTx(ctx, tx, k.event(at, "ok"))
	})
	if err != nil {
		return err
	}
	a.log.LogAttrs(ctx, slog.LevelInfo, "ca: a key of a signer that has ended was destroyed",
		slog.String("tenant", t), slog.String("signer", k.signer), slog.String("key", ref.String()))
	return nil
}
