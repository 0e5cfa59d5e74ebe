package registration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/sweep"
	"github.com/signet-hsm/signet/tenant"
)

const (
	sweepEvery = 5 * time.Second
	sweepBatch = 100  // registrations, each its own transaction
	purgeBatch = 1000 // rows that nobody can use any more
)

// Run expires what was in progress for too long and purges temporary keys and
// nonces whose time is over, until ctx ends; then it returns nil. Reads do not
// depend on it: they expire what they meet. Any number of nodes may run it: each
// expiry is a compare-and-swap on the row, so one of them wins and the others
// write nothing, and no lock outlives a statement.
func (r *Registrar) Run(ctx context.Context) error {
	return sweep.Loop{Name: "registration", Every: sweepEvery, Round: r.Sweep, Logger: r.log}.Run(ctx)
}

// Sweep does one bounded round of Run and tells whether a full batch was found.
func (r *Registrar) Sweep(ctx context.Context) (more bool, err error) {
	stale, err := r.stale(ctx)
	if err != nil {
		return false, fmt.Errorf("registration: sweep: %w", err)
	}
	// Nodes that read the same batch start at different ends of it.
	rand.Shuffle(len(stale), func(i, j int) { stale[i], stale[j] = stale[j], stale[i] })
	for _, row := range stale {
		if _, err := r.expire(ctx, row); err != nil {
			return false, fmt.Errorf("registration: sweep: %w", err)
		}
	}
	more = len(stale) == sweepBatch
	for _, sql := range []string{sqlPurgeTemporary, sqlPurgeNonce} {
		tag, err := r.db.Exec(ctx, sql, r.clock(), purgeBatch)
		if err != nil {
			return false, fmt.Errorf("registration: sweep: %w", pg.Unavailable(err))
		}
		more = more || tag.RowsAffected() == purgeBatch
	}
	return more, nil
}

// stale reads the registrations of all tenants that expired, the oldest first.
func (r *Registrar) stale(ctx context.Context) ([]*record, error) {
	rows, err := r.db.Query(ctx, sqlStale, r.clock(), sweepBatch)
	if err != nil {
		return nil, pg.Unavailable(err)
	}
	found, err := pgx.CollectRows(rows, func(s pgx.CollectableRow) (*record, error) {
		var (
			owner string
			row   record
		)
		if err := s.Scan(&owner, &row.id, &row.app, &row.user, &row.state, &row.failed, &row.revision); err != nil {
			return nil, err
		}
		row.tenant, err = tenant.Parse(owner)
		return &row, err
	})
	if err != nil {
		return nil, pg.Unavailable(err)
	}
	return found, nil
}
