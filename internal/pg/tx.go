package pg

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// Beginner is a pool or a connection.
type Beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// maxAttempts bounds InTx. With the delays below the last attempt comes after
// about a tenth of a second, when the others have long finished.
const maxAttempts = 6

// InTx runs fn in a transaction and commits when it returns nil. On a
// serialization failure or a deadlock everything is undone and fn is run again,
// up to six times with growing random pauses: fn must have no effect outside tx
// and must set, not add to, what it captures. fn must not call an HSM or the
// network: row locks would be held meanwhile.
//
// fn's error comes back as it is. An error of begin or commit is Unavailable; a
// lost connection in commit leaves open whether it took place.
func InTx(ctx context.Context, db Beginner, fn func(pgx.Tx) error) error {
	for attempt := 1; ; attempt++ {
		err := once(ctx, db, fn)
		if err == nil || !retryable(err) {
			return err
		}
		if attempt == maxAttempts {
			return Unavailable(fmt.Errorf("pg: gave up after %d attempts: %w", attempt, err))
		}
		pause := time.Millisecond << attempt
		select {
		case <-ctx.Done():
			return Unavailable(fmt.Errorf("pg: %w: %w", ctx.Err(), err))
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}

func once(ctx context.Context, db Beginner, fn func(pgx.Tx) error) (err error) {
	tx, err := db.Begin(ctx)
	if err != nil {
		return Unavailable(fmt.Errorf("pg: begin: %w", err))
	}
	// Also on a panic in fn: the connection must not go back inside a transaction.
	// The request may be over by then, so the roll-back gets a moment of its own.
	committed := false
	defer func() {
		if !committed {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			_ = tx.Rollback(ctx)
		}
	}()
	if err := fn(tx); err != nil {
		return err
	}
	committed = true // pgx ends the transaction whatever commit answers
	if err := tx.Commit(ctx); err != nil {
		return Unavailable(fmt.Errorf("pg: commit: %w", err))
	}
	return nil
}
