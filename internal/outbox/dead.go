package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/rivertype"

	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// DeadLetter is a delivery (or, with no consumer, an event) that was given up.
type DeadLetter struct {
	ID       int64
	Consumer string
	Delivery Delivery
	Attempts int
	At       time.Time // when it was given up
	Cause    string    // of the last attempt; no secrets
}

// MaxDead is the most dead letters of one page.
const MaxDead = 1000

// Dead lists a tenant's dead letters, newest first. limit 0 means 100; before 0
// the top, else the last id of the previous page.
func (o *Outbox) Dead(ctx context.Context, t tenant.ID, limit int, before int64) ([]DeadLetter, error) {
	if limit <= 0 {
		limit = 100
	}
	limit = min(limit, MaxDead)
	rows, _ := o.db.Query(ctx, sqlDead, t.String(), limit, before)
	out, err := pgx.CollectRows(rows, scanDead)
	if err != nil {
		return nil, pg.Unavailable(fmt.Errorf("outbox: dead letters: %w", err))
	}
	return out, nil
}

// Redeliver makes a dead letter a delivery again, with one more attempt, at once.
// ErrNotFound when it is not a dead letter of the tenant.
func (o *Outbox) Redeliver(ctx context.Context, t tenant.ID, id int64) error {
	err := pg.InTx(ctx, o.db, func(tx pgx.Tx) error {
		var found int64
		if err := tx.QueryRow(ctx, sqlDeadOne, t.String(), id).Scan(&found); err != nil {
			return err
		}
		_, err := o.river.JobRetryTx(ctx, tx, found)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) || errors.Is(err, rivertype.ErrNotFound) {
		return fmt.Errorf("outbox: redeliver: %w", ErrNotFound)
	}
	return pg.Unavailable(err)
}

func scanDead(row pgx.CollectableRow) (l DeadLetter, err error) {
	var args, last []byte
	if err = row.Scan(&l.ID, &args, &l.Attempts, &l.At, &last); err != nil {
		return l, err
	}
	l.At = l.At.UTC()
	var a deliveryArgs // of an event too, with consumer and target empty
	if err = json.Unmarshal(args, &a); err != nil {
		return l, err
	}
	l.Consumer = a.Consumer
	if l.Delivery, err = a.delivery(l.Attempts); err != nil {
		return l, err
	}
	if last != nil {
		var cause rivertype.AttemptError
		if err = json.Unmarshal(last, &cause); err != nil {
			return l, err
		}
		l.Cause = cause.Error
	}
	return l, nil
}
