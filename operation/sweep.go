package operation

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/sweep"
	"github.com/signet-hsm/signet/tenant"
)

// Run expires what nobody reads, so that its end is told in time. Any number of
// nodes may run it: a batch is locked by one, and passed over by the others. It
// returns nil when ctx ends; an outage is logged and outlived.
func (l *Ledger) Run(ctx context.Context) error {
	return sweep.Loop{Name: "operation", Every: l.sweep, Logger: l.log, Round: func(ctx context.Context) (bool, error) {
		n, err := l.Sweep(ctx)
		return n == l.batch, err
	}}.Run(ctx)
}

// Sweep expires one batch, in one transaction with its audit events and what the
// world is told, and returns its size.
func (l *Ledger) Sweep(ctx context.Context) (expired int, err error) {
	now := l.clock()
	err = pg.InTx(ctx, l.db, func(tx pgx.Tx) error {
		expired = 0
		rows, err := tx.Query(ctx, sqlOverdue, now, l.batch)
		if err != nil {
			return err
		}
		overdue, err := collect(rows, tenant.ID{})
		if err != nil || len(overdue) == 0 {
			return err
		}
		var (
			batch  pgx.Batch
			events []outbox.Event
		)
		for _, row := range overdue {
			n := row.in(StateExpired)
			event, err := l.audit.Args(row.event(now, act{action: "expire", actor: "system", outcome: "expired"}))
			if err != nil {
				return err
			}
			batch.Queue(sqlExpire, append([]any{row.tenant.String(), row.id, row.revision, string(n.state), now}, event...)...)
			events = append(events, row.finished(n)...)
		}
		if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
			return err
		}
		expired = len(overdue)
		return l.outbox.AddTx(ctx, tx, events...)
	})
	if err != nil {
		return 0, pg.Unavailable(err)
	}
	l.metrics.moves.WithLabelValues(string(StateExpired)).Add(float64(expired))
	return expired, nil
}
