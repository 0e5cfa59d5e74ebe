package operation

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// Run expires what nobody reads, so that its end is told in time. Any number of
// nodes may run it: a batch is locked by one, and passed over by the others. It
// returns when ctx ends, with ctx's error; an outage is logged and outlived.
func (l *Ledger) Run(ctx context.Context) error {
	for {
		pause := l.sweep/2 + rand.N(l.sweep) // nodes drift apart
		n, err := l.Sweep(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			l.log.LogAttrs(ctx, slog.LevelWarn, "operations can not be expired", slog.Any("error", err))
		case n == l.batch:
			pause = 0 // there may be more
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
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
