package ca_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
)

func create(tb testing.TB, a *ca.Authority) ca.Signer {
	tb.Helper()
	s, err := a.CreateSigner(tb.Context(), alpha, ca.CreateSigner{Actor: "test"})
	require.NoError(tb, err)
	return s
}

func TestCA08DeleteSigner(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	node := b.authority(t, nil)
	ctx := t.Context()
	first, s := create(t, a), create(t, a)
	_, err := a.CreateSigner(ctx, beta, ca.CreateSigner{}) // the twin has the same generation
	require.NoError(t, err)
	require.Len(t, b.signerKeys(t), 3)

	require.NoError(t, a.DeleteSigner(ctx, alpha, ca.DeleteSigner{Spec: ca.Current, Actor: "op"}))
	for _, spec := range []string{ca.Current, s.ID} {
		_, err = a.Signer(ctx, alpha, spec)
		require.ErrorIs(t, err, ca.ErrNoSigner)
		require.ErrorIs(t, a.DeleteSigner(ctx, alpha, ca.DeleteSigner{Spec: spec}), ca.ErrNoSigner)
	}
	for _, n := range []*ca.Authority{a, node} {
		_, err = n.IssueDevice(ctx, alpha, order(t))
		require.ErrorIs(t, err, ca.ErrNoSigner)
	}
	require.Len(t, b.signerKeys(t), 2)
	require.Equal(t, 1, b.count(t, `select count(*) from ca_signer where id = $1 and state = 'DELETED' and certificate is null and key_destroyed_at is not null`, s.ID))
	require.Equal(t, 1, b.count(t, `select count(*) from ca_certificate where cert_ref = $1 and status = 'REVOKED' and certificate is null`, s.ID))
	require.Equal(t, 1, b.count(t, `select count(*) from ca_revocation where cert_ref = $1 and reason = 5 and sha256 = sha256($2)`, s.ID, s.Certificate))
	require.Equal(t, 1, b.count(t, `select count(*) from audit_event where action = 'signer.delete' and subject = $1 and actor = 'op' and outcome = 'ok'`, s.ID))

	require.NoError(t, a.DeleteSigner(ctx, alpha, ca.DeleteSigner{Spec: first.ID}), "a RETIRED one")
	third := create(t, a)
	require.Equal(t, 2, third.Generation, "generations are not used again")
	_, err = a.Signer(ctx, beta, ca.Current)
	require.NoError(t, err)
}

func TestCA08RefusesAUsedSigner(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	ctx := t.Context()
	s := create(t, a)
	require.ErrorIs(t, a.DeleteSigner(ctx, beta, ca.DeleteSigner{Spec: s.ID}), ca.ErrNoSigner)
	require.ErrorIs(t, a.DeleteSigner(ctx, alpha, ca.DeleteSigner{Spec: "nonsense"}), ca.ErrNoSigner)
	broken := b.authority(t, nil)
	broken.Inject(&ca.Faults{Sign: func(context.Context, hsm.Ref) error { return fault.ErrUnavailable }}, issuerRef)
	_, err := broken.IssueDevice(ctx, alpha, order(t))
	require.ErrorIs(t, err, fault.ErrUnavailable)
	err = a.DeleteSigner(ctx, alpha, ca.DeleteSigner{Spec: s.ID})
	require.ErrorIs(t, err, ca.ErrSignerUsed, "a request counts, even a failed one")
	require.Equal(t, fault.Conflict, fault.KindOf(err))
	got, err := a.Signer(ctx, alpha, ca.Current)
	require.NoError(t, err)
	require.Equal(t, s, got)
	require.Len(t, b.signerKeys(t), 1)
	require.Zero(t, b.count(t, `select count(*) from ca_revocation`))
}

// Apps hold a configuration that names the signer: that counts as issued.
func TestCA08RefusesASignerOfStatements(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	ctx := t.Context()
	s := create(t, a)
	broken := b.authority(t, func(c *ca.Config) { c.DB = &brokenDB{Pool: b.db, fail: failOn("audit_event")} })
	_, err := broken.SignWithCurrent(ctx, alpha, statement())
	require.ErrorIs(t, err, fault.ErrUnavailable)
	require.Zero(t, b.count(t, `select count(*) from ca_signer where stated_at is not null`), "it was not handed out")
	_, err = a.SignWithCurrent(ctx, alpha, statement())
	require.NoError(t, err)
	create(t, a)
	require.ErrorIs(t, a.DeleteSigner(ctx, alpha, ca.DeleteSigner{Spec: s.ID}), ca.ErrSignerUsed)
	require.NoError(t, a.DeleteSigner(ctx, alpha, ca.DeleteSigner{Spec: ca.Current}))
}

// Deleting and issuing at once: either the certificate was asked for first, and
// the signer stays, or there is none.
func TestCA08DeleteMeetsIssuing(t *testing.T) {
	t.Parallel()
	b, one := bundle(t)
	two := b.authority(t, nil)
	ctx := t.Context()
	deleted := 0
	for range 20 {
		s := create(t, one)
		var wg sync.WaitGroup
		errs := make([]error, 3)
		start := make(chan struct{})
		for i, do := range []func() error{
			func() error { return one.DeleteSigner(ctx, alpha, ca.DeleteSigner{Spec: s.ID}) },
			func() error { _, err := two.IssueDevice(ctx, alpha, order(t)); return err },
			func() error { _, err := one.IssueDevice(ctx, alpha, order(t)); return err },
		} {
			wg.Go(func() { <-start; errs[i] = do() })
		}
		close(start)
		wg.Wait()
		issued := b.count(t, `select count(*) from ca_certificate where signer_id = $1`, s.ID)
		if errs[0] == nil {
			deleted++
			require.Zero(t, issued)
			require.ErrorIs(t, errors.Join(errs[1], errs[2]), ca.ErrNoSigner)
		} else {
			require.ErrorIs(t, errs[0], ca.ErrSignerUsed)
			require.Positive(t, issued)
		}
	}
	t.Logf("%d of 20 were deleted", deleted)
}

// The HSM is out when the key should go: it goes later.
func TestCA08KeyIsDestroyedLater(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	s := create(t, a)
	broken := b.authority(t, nil)
	broken.Inject(&ca.Faults{Discard: func(hsm.Ref) error { return fault.ErrUnavailable }}, issuerRef)
	require.NoError(t, broken.DeleteSigner(t.Context(), alpha, ca.DeleteSigner{Spec: s.ID}))
	_, err := a.Reconcile(t.Context())
	require.NoError(t, err)
	require.Len(t, b.signerKeys(t), 1, "not before the lease is over")
	b.settle(t, a)
	require.Empty(t, b.signerKeys(t))
	require.Equal(t, 1, b.count(t, `select count(*) from ca_signer where key_destroyed_at is not null`))
}
