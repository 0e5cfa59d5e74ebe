package ca

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/sweep"
	"github.com/signet-hsm/signet/tenant"
)

// abandoned is the failure of what a crash left behind.
const abandoned = "ABANDONED"

// Run settles what requests leave behind, until ctx ends: it judges work that a
// crash cut off, carries out renewals that are due, destroys keys that nothing
// needs, and rotates signers by age. It runs on every node at once.
func (a *Authority) Run(ctx context.Context) error {
	a.reportUnrecorded(ctx)
	return sweep.Loop{Name: "ca", Every: a.every, Round: a.Reconcile, Logger: a.log}.Run(ctx)
}

// Reconcile is one bounded round of Run; more tells that another may find work
// at once. A step that fails does not keep the others from their turn.
func (a *Authority) Reconcile(ctx context.Context) (more bool, err error) {
	for _, step := range []struct {
		name string
		do   func(context.Context) (int, error)
	}{
		{"certificates", a.judgeLeaves},
		{"signers", a.judgeCreations},
		{"renewals", a.judgeRenewals},
		{"queue", a.renewDue},
		{"keys", a.destroyKeys},
		{"duty keys", a.destroyDutyKeys},
		{"rotations", a.rotateDue},
	} {
		n, e := step.do(ctx)
		a.metrics.reconciled.WithLabelValues(step.name).Add(float64(n))
		more = more || n >= reconcilePage
		if e != nil {
			err = errors.Join(err, fmt.Errorf("ca: reconcile %s: %w", step.name, e))
		}
	}
	return more, err
}

// judgeLeaves ends certificate requests whose lease is over. What was signed can
// not have left, but see doc.go for why the serial is revoked nevertheless.
func (a *Authority) judgeLeaves(ctx context.Context) (n int, err error) {
	err = a.inTx(ctx, "judge certificates", func(tx pgx.Tx) error {
		now := a.wallTime()
		n = 0
		rows, err := tx.Query(ctx, sqlLeavesAbandoned, abandoned, reconcilePage)
		if err != nil {
			return err
		}
		list, err := pgx.CollectRows(rows, scanAbandoned)
		if err != nil {
			return err
		}
		events := &pgx.Batch{}
		tombstones := make([]revocation.Record, 0, len(list))
		for i := range list {
			c := &list[i]
			tombstones = append(tombstones, c.record(c.tenant, revocation.Unspecified, now, now, c.actor))
			if err := a.audit.Queue(events, audit.Event{
				Tenant: c.tenant, At: now, Action: "certificate.issue", Actor: c.actor, Subject: c.ref, UserID: c.user,
				Outcome: strings.ToLower(abandoned),
				Detail:  map[string]any{"profile": c.profile, "signer": c.signer, "serial": c.serial.String()},
			}); err != nil {
				return err
			}
		}
		n = len(list)
		if err := revocation.RecordTx(ctx, tx, tombstones...); err != nil {
			return err
		}
		return tx.SendBatch(ctx, events).Close()
	})
	return n, err
}

type abandonedCertificate struct {
	revocable
	tenant tenant.ID
	actor  string
}

func scanAbandoned(row pgx.CollectableRow) (c abandonedCertificate, err error) {
	var t string
	var serial []byte
	if err = row.Scan(&t, &c.actor, &c.ref, &serial, &c.issuer, &c.notAfter, &c.signer, &c.user, &c.profile, &c.shards); err != nil {
		return c, err
	}
	if c.tenant, err = tenant.Parse(t); err != nil {
		return c, err
	}
	c.serial, err = issuance.ParseSerial(serial)
	return c, err
}

// judgeCreations fails signers whose creation did not come to its end. They are
// not finished: whoever asked was told of a failure, or nothing, and a tenant
// must not find its signer rotated by a request that is long over. The keys are
// destroyed when the next lease is over, so that a generation of keys that is
// still under way in the HSM has come to its end.
func (a *Authority) judgeCreations(ctx context.Context) (n int, err error) {
	err = a.inTx(ctx, "judge signers", func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sqlCreationsAbandoned, abandoned, a.wallTime(), a.lease.Milliseconds(), reconcilePage)
		if err != nil {
			return err
		}
		list, err := pgx.CollectRows(rows, scanCreation)
		if err != nil {
			return err
		}
		for i := range list {
			if err := a.judgeCreation(ctx, tx, &list[i]); err != nil {
				return err
			}
		}
		n = len(list)
		return nil
	})
	return n, err
}

func scanCreation(row pgx.CollectableRow) (s Signer, err error) {
	var t string
	if err = row.Scan(&t, &s.ID, &s.Name, &s.Generation); err != nil {
		return s, err
	}
	s.Tenant, err = tenant.Parse(t)
	return s, err
}

func (a *Authority) judgeCreation(ctx context.Context, tx pgx.Tx, s *Signer) error {
	rows, err := tx.Query(ctx, sqlSignerCertificates, s.Tenant.String(), s.ID)
	if err != nil {
		return err
	}
	certs, err := pgx.CollectRows(rows, scanRevocable)
	if err != nil {
		return err
	}
	now := a.wallTime()
	tombstones := make([]revocation.Record, 0, len(certs))
	for i := range certs {
		if _, err := tx.Exec(ctx, sqlCertificateFailed, s.Tenant.String(), certs[i].ref, abandoned); err != nil {
			return err
		}
		tombstones = append(tombstones, certs[i].record(s.Tenant, revocation.Unspecified, now, now, reconciler))
	}
	if err := revocation.RecordTx(ctx, tx, tombstones...); err != nil {
		return err
	}
	return a.audit.RecordTx(ctx, tx, audit.Event{
		Tenant: s.Tenant, At: now, Action: "signer.create", Actor: reconciler, Subject: s.ID, Outcome: strings.ToLower(abandoned),
		Detail: map[string]any{"name": s.Name, "generation": s.Generation},
	})
}

// judgeRenewals ends attempts whose lease is over and queues the next.
func (a *Authority) judgeRenewals(ctx context.Context) (int, error) {
	return a.each(ctx, sqlRenewalsAbandoned, func(ctx context.Context, q *renewal) error {
		q.signed = true // for all that is known
		err := a.inTx(ctx, "judge renewal", func(tx pgx.Tx) error {
			_, err := a.replace(ctx, tx, q, abandoned, false)
			return err
		})
		if errors.Is(err, errDone) || errors.Is(err, ErrRecord) {
			return nil // another node was faster, or the attempt alive
		}
		return err
	})
}

// renewDue carries out the attempts whose time has come. Whoever sets the owner
// begins; nobody else does. One that an outage stops ends the pass, so that the
// next, and with it the judging, is not late by the time that each of them waits.
func (a *Authority) renewDue(ctx context.Context) (int, error) {
	return a.each(ctx, sqlRenewalsDue, func(ctx context.Context, q *renewal) error {
		ctx, cancel := a.begin(ctx)
		defer cancel()
		tag, err := a.db.Exec(ctx, sqlRenewalTake, q.tenant.String(), q.ref, a.node, a.lease.Milliseconds())
		if err != nil || tag.RowsAffected() == 0 {
			return pg.Unavailable(err)
		}
		// Its outcome is logged, counted, and recorded in the row.
		if done, err := a.try(ctx, q); !done && (err == nil || fault.KindOf(err) == fault.Unavailable) {
			return errOutage
		}
		return nil
	})
}

// errOutage ends a pass and is no error of it.
var errOutage = errors.New("ca: the others would fare no better")

// each works at the renewals that a statement finds, until an outage, and returns
// at how many it did.
func (a *Authority) each(ctx context.Context, sql string, do func(context.Context, *renewal) error) (int, error) {
	rows, err := a.db.Query(ctx, sql, reconcilePage)
	if err != nil {
		return 0, pg.Unavailable(err)
	}
	list, err := pgx.CollectRows(rows, scanRenewal)
	if err != nil {
		return 0, pg.Unavailable(err)
	}
	var errs []error
	for i := range list {
		err := do(ctx, &list[i])
		if errors.Is(err, errOutage) {
			return i + 1, errors.Join(errs...)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("signer %s: %w", list[i].signer, err))
			if fault.KindOf(err) == fault.Unavailable {
				return i + 1, errors.Join(errs...)
			}
		}
	}
	return len(list), errors.Join(errs...)
}

func scanRenewal(row pgx.CollectableRow) (q renewal, err error) {
	var t string
	var serial []byte
	if err = row.Scan(&t, &q.signer, &q.ref, &serial, &q.attempt, &q.actor); err != nil {
		return q, err
	}
	if q.tenant, err = tenant.Parse(t); err != nil {
		return q, err
	}
	q.serial, err = issuance.ParseSerial(serial)
	return q, err
}
