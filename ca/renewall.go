package ca

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// RenewAll asks for new certificates of the installation's signers.
type RenewAll struct {
	Actor string // who asks, for the audit trail
}

// Renewals counts what RenewAll did.
type Renewals struct {
	Renewed int // have a new certificate
	Queued  int // will have one: the first try failed, or a request was queued before
	Failed  int // could not be renewed; the log and each certificate's status say why
}

// RenewAll renews every ACTIVE and RETIRED signer of every tenant whose
// certificate is not by the configured issuer: what a change of the issuer calls
// for. A call that was cut off is repeated, and goes on with those that are left.
// It returns what it did so far with fault.ErrUnavailable.
func (a *Authority) RenewAll(ctx context.Context, r RenewAll) (Renewals, error) {
	var total Renewals
	var last signerName
	for {
		page, err := a.otherIssuers(ctx, last)
		if err != nil || len(page) == 0 {
			return total, err
		}
		var mu sync.Mutex
		var g errgroup.Group
		g.SetLimit(batchWorkers)
		for _, n := range page {
			g.Go(func() error {
				done, err := a.renewOne(ctx, n, r.Actor)
				mu.Lock()
				defer mu.Unlock()
				total.Renewed += done.Renewed
				total.Queued += done.Queued
				total.Failed += done.Failed
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return total, err
		}
		last = page[len(page)-1]
	}
}

type signerName struct{ tenant, id string }

func (a *Authority) otherIssuers(ctx context.Context, after signerName) ([]signerName, error) {
	rows, err := a.db.Query(ctx, sqlOtherIssuers, a.issuer.Certificate().SubjectKeyId, after.tenant, after.id, renewPage)
	if err != nil {
		return nil, fmt.Errorf("ca: signers to renew: %w", pg.Unavailable(err))
	}
	page, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (n signerName, err error) {
		err = row.Scan(&n.tenant, &n.id)
		return n, err
	})
	if err != nil {
		return nil, fmt.Errorf("ca: signers to renew: %w", pg.Unavailable(err))
	}
	return page, nil
}

// renewOne counts one signer; its error ends the whole.
func (a *Authority) renewOne(ctx context.Context, n signerName, actor string) (Renewals, error) {
	t, err := tenant.Parse(n.tenant)
	if err != nil {
		return Renewals{}, fmt.Errorf("ca: %w: %w", ErrRecord, err)
	}
	done, err := a.renew(ctx, t, RenewSigner{Spec: n.id, IgnoreNotIssued: true, Actor: actor})
	switch {
	case err == nil && done:
		return Renewals{Renewed: 1}, nil
	case err == nil, errors.Is(err, ErrQueued):
		return Renewals{Queued: 1}, nil
	case errors.Is(err, ErrNoSigner), errors.Is(err, ErrSignerRevoked): // ended meanwhile
		return Renewals{}, nil
	case fault.KindOf(err) == fault.Unavailable:
		return Renewals{}, err
	default:
		return Renewals{Failed: 1}, nil
	}
}
