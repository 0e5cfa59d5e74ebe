package push

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/sweep"
)

const (
	sweepEvery = time.Minute
	purgeBatch = 1000
)

// Run deletes inbox messages that are older than Retention until ctx ends; then it
// returns nil. Any number of nodes may run it; an outage is logged and outlived.
func (p *Pusher) Run(ctx context.Context) error {
	return sweep.Loop{Name: "push", Every: sweepEvery, Round: p.Sweep, Logger: p.c.Logger}.Run(ctx)
}

// Sweep deletes one batch, the oldest messages first, and tells whether there may be
// more. Errors: fault.ErrUnavailable.
func (p *Pusher) Sweep(ctx context.Context) (more bool, err error) {
	tag, err := p.c.DB.Exec(ctx, sqlPurge, p.now().Add(-p.c.Retention), purgeBatch)
	if err != nil {
		return false, pg.Unavailable(fmt.Errorf("push: sweep: %w", err))
	}
	deleted := tag.RowsAffected()
	if deleted > 0 {
		p.c.Logger.LogAttrs(ctx, slog.LevelInfo, "old inbox messages deleted", slog.Int64("messages", deleted))
	}
	return deleted == purgeBatch, nil
}
