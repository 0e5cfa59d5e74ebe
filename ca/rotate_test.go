package ca_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
)

// Signers are rotated while devices are being served, by two nodes: no request
// fails, and every certificate verifies under the signer it names.
func TestCA06RotationUnderLoad(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	node := b.authority(t, nil) // another process: it learns of rotations by the database only
	ctx := t.Context()
	_, err := a.CreateSigner(ctx, alpha, ca.CreateSigner{})
	require.NoError(t, err)

	const rotations, workers = 20, 4
	r := order(t)
	var mu sync.Mutex
	var issued []ca.Certificate
	rotated := make(chan struct{})
	var g errgroup.Group
	for i := range workers {
		at := []*ca.Authority{a, node}[i%2]
		g.Go(func() error {
			for {
				c, err := at.IssueDevice(ctx, alpha, r)
				if err != nil {
					return fmt.Errorf("issue: %w", err)
				}
				mu.Lock()
				issued = append(issued, c)
				mu.Unlock()
				select {
				case <-rotated:
					return nil
				default:
				}
			}
		})
	}
	g.Go(func() error {
		defer close(rotated)
		for range rotations {
			if _, err := a.CreateSigner(ctx, alpha, ca.CreateSigner{}); err != nil {
				return fmt.Errorf("rotate: %w", err)
			}
		}
		return nil
	})
	require.NoError(t, g.Wait())

	signers, serials := map[string]int{}, map[issuance.Serial]bool{}
	for _, c := range issued {
		require.NoError(t, issuance.VerifyChain(append([][]byte{c.DER}, c.Chain...), time.Now()))
		require.False(t, serials[c.Serial])
		serials[c.Serial] = true
		signers[c.Signer]++
	}
	require.Greater(t, len(signers), 2, "the load did not meet the rotations")
	require.Equal(t, len(issued), b.count(t, `select count(*) from ca_certificate where profile = 'AST_DEVICE' and status = 'ISSUED'`))
	require.Zero(t, b.count(t, `select count(*) from ca_certificate where status <> 'ISSUED'`))
	require.Equal(t, rotations, b.count(t, `select count(*) from ca_signer where state = 'RETIRED'`))
	t.Logf("%d certificates over %d signers", len(issued), len(signers))
}

// Two nodes rotate at once. A watcher sees exactly one ACTIVE signer at every
// moment; of the creations each ends ACTIVE once, or is told that it lost.
func TestCA06TwoNodesRotateAtOnce(t *testing.T) {
	t.Parallel()
	b, one := bundle(t)
	two := b.authority(t, nil)
	ctx := t.Context()
	_, err := one.CreateSigner(ctx, alpha, ca.CreateSigner{})
	require.NoError(t, err)

	watch, stop := context.WithCancel(ctx)
	var watcher errgroup.Group
	looks := 0
	watcher.Go(func() error {
		for watch.Err() == nil {
			var n int
			if err := b.db.QueryRow(ctx, `select count(*) from ca_signer where tenant_id = 'alpha' and state = 'ACTIVE'`).Scan(&n); err != nil {
				return err
			}
			if n != 1 {
				return fmt.Errorf("%d ACTIVE signers", n)
			}
			looks++
		}
		return nil
	})
	const rounds = 8
	var mu sync.Mutex
	won, lost := 0, 0
	for range rounds {
		var g errgroup.Group
		for _, a := range []*ca.Authority{one, two} {
			g.Go(func() error {
				_, err := a.CreateSigner(ctx, alpha, ca.CreateSigner{})
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					won++
				case errors.Is(err, ca.ErrSuperseded):
					lost++
				default:
					return err
				}
				return nil
			})
		}
		require.NoError(t, g.Wait())
	}
	stop()
	require.NoError(t, watcher.Wait())
	require.Positive(t, looks)
	require.Equal(t, 2*rounds, won+lost)
	require.GreaterOrEqual(t, won, rounds)
	require.Equal(t, won, b.count(t, `select count(*) from ca_signer where state = 'RETIRED'`)) // the first one and all but the last
	require.Equal(t, lost, b.count(t, `select count(*) from ca_signer where state = 'FAILED'`))
	require.Zero(t, b.count(t, `select count(*) from ca_signer where state = 'PENDING'`))
	require.Len(t, b.signerKeys(t), won+1)
	for _, a := range []*ca.Authority{one, two} {
		c, err := a.IssueDevice(ctx, alpha, order(t))
		require.NoError(t, err)
		now, err := a.Signer(ctx, alpha, ca.Current)
		require.NoError(t, err)
		require.Equal(t, now.ID, c.Signer)
	}
	t.Logf("%d won, %d were superseded, %d looks", won, lost, looks)
}

// The very first signers of a tenant can be asked for at once, too.
func TestCA06TwoFirstSigners(t *testing.T) {
	t.Parallel()
	b, one := bundle(t)
	two := b.authority(t, nil)
	var g errgroup.Group
	for _, a := range []*ca.Authority{one, two, one, two} {
		g.Go(func() error {
			_, err := a.CreateSigner(t.Context(), beta, ca.CreateSigner{})
			if errors.Is(err, ca.ErrSuperseded) {
				return nil
			}
			return err
		})
	}
	require.NoError(t, g.Wait())
	require.Equal(t, 1, b.count(t, `select count(*) from ca_signer where tenant_id = 'beta' and state = 'ACTIVE'`))
	_, err := one.IssueDevice(t.Context(), beta, order(t))
	require.NoError(t, err)
}
