package ca

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/tenant"
)

// Issued is what came of one request of a batch: a certificate, or why not.
type Issued struct {
	Certificate Certificate
	Err         error
}

// IssueBatch issues each request on its own, several at a time, and answers in
// their order: one that is refused takes no other with it. At most 256 requests;
// ErrRequest otherwise.
func (a *Authority) IssueBatch(ctx context.Context, t tenant.ID, requests []IssueRequest) ([]Issued, error) {
	if len(requests) == 0 || len(requests) > maxBatch {
		return nil, ErrRequest.With(fault.Violation{Field: "requests", Value: len(requests), Hint: fmt.Sprintf("must be 1..%d", maxBatch)})
	}
	out := make([]Issued, len(requests))
	var g errgroup.Group
	g.SetLimit(batchWorkers)
	for i := range requests {
		g.Go(func() error {
			out[i].Certificate, out[i].Err = a.Issue(ctx, t, requests[i])
			return nil
		})
	}
	_ = g.Wait() // the workers answer by out
	return out, nil
}
