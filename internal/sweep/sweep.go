package sweep

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

// Loop says what to run and how often.
type Loop struct {
	Name  string        // for the log, e.g. "registration"
	Every time.Duration // mean pause between rounds that found nothing more; must be positive
	// Round does one bounded piece of work and tells whether there may be more.
	Round  func(ctx context.Context) (more bool, err error)
	Logger *slog.Logger
}

// Run blocks until ctx ends, then returns nil. A round that fails is logged and
// tried again after a pause.
func (l Loop) Run(ctx context.Context) error {
	for {
		more, err := l.Round(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			l.Logger.LogAttrs(ctx, slog.LevelWarn, "sweep failed", slog.String("of", l.Name), slog.Any("error", err))
		}
		pause := l.Every/2 + rand.N(l.Every)
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
