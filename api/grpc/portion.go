package grpc

import (
	"context"
	"time"
)

// answerWithin is kept of a call's time for its answer.
const answerWithin = 2 * time.Second

// portion is the time that work in portions may take of a call: enough is left
// for an answer that says how far it came.
func portion(ctx context.Context) (context.Context, context.CancelFunc) {
	at, ok := ctx.Deadline()
	if !ok { // not behind the interceptor
		return context.WithTimeout(ctx, defaultDeadline)
	}
	return context.WithDeadline(ctx, at.Add(-min(answerWithin, time.Until(at)/4)))
}

// partly tells whether the work is complete. An error counts for nothing when it
// was only that the time for the portion ended, and some of the work was done.
func partly(ctx, part context.Context, done int, err error) (complete bool, _ error) {
	switch {
	case err == nil:
		return true, nil
	case done > 0 && part.Err() != nil && ctx.Err() == nil:
		return false, nil
	}
	return false, err
}
