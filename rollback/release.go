package rollback

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// MaxAdvance bounds what Release adds to counters.
const MaxAdvance = 10_000

// Step moves the counters of some registrations of t, those behind after, on by n
// and returns the last of them; more is false when there are no others. It works
// in tx alone. registration.Advance is one.
type Step func(ctx context.Context, tx pgx.Tx, t tenant.ID, n int, after uuid.UUID) (last uuid.UUID, more bool, err error)

// Release moves all counters of t on by n and ends its hold. n must be no less
// than the number of signatures that any one device can have made since the state
// that the database was set back to. A release that was cut off goes on where it
// was, with the same n. Errors: ErrAdvance, ErrNotHeld, ErrBegun.
func Release(ctx context.Context, db DB, log *audit.Log, t tenant.ID, n int, actor string, step Step) error {
	if n < 1 || n > MaxAdvance {
		return ErrAdvance
	}
	for more := true; more; {
		err := pg.InTx(ctx, db, func(tx pgx.Tx) (err error) {
			more, err = releaseSome(ctx, tx, log, t, n, actor, step)
			return err
		})
		if err != nil {
			return fmt.Errorf("rollback: release %s: %w", t, err)
		}
	}
	return nil
}

// releaseSome is one batch, and with the last one the end of the hold.
func releaseSome(ctx context.Context, tx pgx.Tx, log *audit.Log, t tenant.ID, n int, actor string, step Step) (more bool, err error) {
	open, err := readOpen(ctx, tx, t)
	if err != nil {
		return false, err
	}
	if open.advance != nil && *open.advance != n {
		return false, ErrBegun
	}
	last, more, err := step(ctx, tx, t, n, open.cursor)
	if err != nil {
		return false, err
	}
	if _, err = tx.Exec(ctx, sqlProgress, t.String(), n, last); err != nil || more {
		return more, pg.Unavailable(err)
	}
	if _, err = tx.Exec(ctx, sqlRelease, t.String()); err != nil {
		return false, pg.Unavailable(err)
	}
	return false, log.RecordTx(ctx, tx, audit.Event{
		Tenant: t, Action: "rollback.release", Actor: actor, Subject: t.String(), Outcome: "ok",
		Detail: map[string]any{"advance": n, "heldSince": open.since.UTC().Format(time.RFC3339Nano)},
	})
}

// opened is the holds of a tenant that are not released; they advance as one.
type opened struct {
	since   time.Time
	advance *int
	cursor  uuid.UUID
}

// readOpen locks them. One that was found while a release was under way starts it
// anew: what was advanced before the newest step back may have been undone by it.
func readOpen(ctx context.Context, tx pgx.Tx, t tenant.ID) (opened, error) {
	rows, err := tx.Query(ctx, sqlOpen, t.String())
	if err != nil {
		return opened{}, pg.Unavailable(err)
	}
	var (
		o      opened
		at     time.Time
		n      *int
		cursor *uuid.UUID
		count  int
		fresh  bool
	)
	_, err = pgx.ForEachRow(rows, []any{&at, &n, &cursor}, func() error {
		if count++; count == 1 {
			o.since = at
		}
		if cursor == nil {
			fresh = true
			return nil
		}
		o.advance, o.cursor = n, *cursor
		return nil
	})
	switch {
	case err != nil:
		return opened{}, pg.Unavailable(err)
	case count == 0:
		return opened{}, ErrNotHeld
	case fresh:
		o.advance, o.cursor = nil, uuid.Nil
	}
	return o, nil
}
