package operation

import (
	"context"
	"log/slog"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/sweep"
	"github.com/signet-hsm/signet/tenant"
)

// purgeBatch is how many operations Run deletes at once.
const purgeBatch = 1000

// Run expires what nobody reads, so that its end is told in time, and deletes what
// ended longer ago than Retention. Any number of nodes may run it: a batch is
// locked by one, and passed over by the others. It returns nil when ctx ends; an
// outage is logged and outlived.
func (l *Ledger) Run(ctx context.Context) error {
	return sweep.Loop{Name: "operation", Every: l.sweep, Logger: l.log, Round: func(ctx context.Context) (bool, error) {
		expired, err := l.Sweep(ctx)
		if err != nil {
			return false, err
		}
		deleted, err := l.Purge(ctx)
		return expired == l.batch || deleted == purgeBatch, err
	}}.Run(ctx)
}

// Purge deletes one batch of what ended longer ago than Retention, and returns its
// size. Nothing is PENDING in it, so nobody can be deciding it.
func (l *Ledger) Purge(ctx context.Context) (deleted int, err error) {
	if l.keep == 0 {
		return 0, nil
	}
	tag, err := l.db.Exec(ctx, sqlPurge, l.clock().Add(-l.keep), purgeBatch)
	if err != nil {
		return 0, pg.Unavailable(err)
	}
	if deleted = int(tag.RowsAffected()); deleted > 0 {
		l.log.LogAttrs(ctx, slog.LevelInfo, "old operations deleted", slog.Int("operations", deleted))
	}
	return deleted, nil
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
