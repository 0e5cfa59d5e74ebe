package token

import (
	"context"
	"fmt"
	"time"

	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/sweep"
)

const (
	sweepEvery = 30 * time.Second
	purgeBatch = 1000
)

// Run purges nonces whose time is over until ctx ends; then it returns nil. Any
// number of nodes may run it.
func (k *Keeper) Run(ctx context.Context) error {
	return sweep.Loop{Name: "token", Every: sweepEvery, Round: k.Sweep, Logger: k.log}.Run(ctx)
}

// Sweep does one bounded round of Run and tells whether a full batch was found.
func (k *Keeper) Sweep(ctx context.Context) (more bool, err error) {
	tag, err := k.db.Exec(ctx, sqlPurge, k.clock(), purgeBatch)
	if err != nil {
		return false, fmt.Errorf("token: sweep: %w", pg.Unavailable(err))
	}
	return tag.RowsAffected() == purgeBatch, nil
}
