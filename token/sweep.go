package token

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/signet-hsm/signet/internal/pg"
)

const (
	sweepEvery = 30 * time.Second
	purgeBatch = 1000
)

// Run purges nonces whose time is over until ctx ends; then it returns nil. Any
// number of nodes may run it.
func (k *Keeper) Run(ctx context.Context) error {
	for {
		more, err := k.Sweep(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			k.log.LogAttrs(ctx, slog.LevelWarn, "token sweep failed", slog.Any("error", err))
		}
		pause := sweepEvery/2 + rand.N(sweepEvery) // nodes started together drift apart
		if more && err == nil {
			pause = 0
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// Sweep does one bounded round of Run and tells whether a full batch was found.
func (k *Keeper) Sweep(ctx context.Context) (more bool, err error) {
	tag, err := k.db.Exec(ctx, sqlPurge, k.clock(), purgeBatch)
	if err != nil {
		return false, fmt.Errorf("token: sweep: %w", pg.Unavailable(err))
	}
	return tag.RowsAffected() == purgeBatch, nil
}
