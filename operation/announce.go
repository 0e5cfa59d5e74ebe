package operation

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// Announce looks at an operation again and tells the world once more that it
// ended, when it did (PA-INT-01). It sees all applications of the tenant.
// Error: ErrNotFound.
func (l *Ledger) Announce(ctx context.Context, t tenant.ID, id string) error {
	if err := l.announce(ctx, t, id); err != nil {
		return fmt.Errorf("operation: announce: %w", err)
	}
	return nil
}

func (l *Ledger) announce(ctx context.Context, t tenant.ID, id string) error {
	key, ok := parseID(id)
	if !ok {
		return ErrNotFound
	}
	row, err := l.read(ctx, t, key)
	if err != nil {
		return err
	}
	if row.overdue(l.now()) { // the expiry tells by itself
		_, err := l.current(ctx, t, id)
		return err
	}
	if row.state == StatePending {
		return nil
	}
	err = pg.InTx(ctx, l.db, func(tx pgx.Tx) error {
		return l.outbox.AddTx(ctx, tx, row.finished(row.standing)...)
	})
	return pg.Unavailable(err)
}
