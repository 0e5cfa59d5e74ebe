package ca_test

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

// Several nodes reconcile at once: each thing is done once.
func TestReconcileOnSeveralNodes(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	ctx := t.Context()
	out := b.authority(t, nil)
	out.Inject(&ca.Faults{
		Sign: func(_ context.Context, r hsm.Ref) error {
			if r.Role == hsm.RoleIssuer {
				return fault.ErrUnavailable
			}
			return nil
		},
		Discard: func(hsm.Ref) error { return fault.ErrUnavailable },
	}, issuerRef)
	const n = 4
	for range n {
		s := create(t, a)
		_, err := out.RenewSigner(ctx, alpha, ca.RenewSigner{Spec: s.ID})
		require.NoError(t, err)
		_, err = out.CreateSigner(ctx, alpha, ca.CreateSigner{})
		require.ErrorIs(t, err, fault.ErrUnavailable)
	}
	require.Equal(t, 2*n, b.unsettled(t))
	require.Len(t, b.signerKeys(t), 2*n)
	b.expire(t)
	var signed, destroyed atomic.Int32
	var wg sync.WaitGroup
	for range 3 {
		node := b.authority(t, nil)
		node.Inject(&ca.Faults{
			Signed: func(r hsm.Ref) {
				if r.Role == hsm.RoleIssuer {
					signed.Add(1)
				}
			},
			Gone: func(hsm.Ref) { destroyed.Add(1) },
		}, issuerRef)
		wg.Go(func() {
			for range 3 {
				_, err := node.Reconcile(ctx)
				require.NoError(t, err)
			}
		})
	}
	wg.Wait()
	require.Zero(t, b.unsettled(t))
	require.EqualValues(t, n, signed.Load())
	require.EqualValues(t, n, destroyed.Load())
	require.Len(t, b.signerKeys(t), n)
	require.Equal(t, n, b.count(t, `select count(*) from ca_certificate where sequence = 2 and status = 'ISSUED'`))
}

// Half of a key, which a process that was killed left, is destroyed with its intent.
func TestCA06HalfAKeyIsSwept(t *testing.T) {
	t.Parallel()
	soft := softhsmtest.Create(t)
	b := &bench{db: pgtest.New(t), token: softhsmtest.Open(t, soft.HSM())}
	b.chain = issuerChain(t, b.token)
	a := b.authority(t, nil)
	create(t, a)
	dead := softhsmtest.Open(t, soft.HSM()) // another process, of which nothing is remembered
	dying := b.authority(t, nil)
	dying.Inject(&ca.Faults{Making: func(ref hsm.Ref) error {
		_, err := dead.Generate(t.Context(), ref, hsm.P256, [16]byte{9})
		require.NoError(t, err)
		softhsmtest.Halve(t, soft, ref.String())
		return fault.ErrUnavailable
	}}, issuerRef)
	_, err := dying.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
	require.ErrorIs(t, err, fault.ErrUnavailable)
	b.settle(t, a)
	there, _ := softhsmtest.Objects(t, soft)
	require.Len(t, there, 4, "the issuer's key and the first signer's")
}

// What a request holds is not touched before its lease is over.
func TestReconcileLeavesTheLivingAlone(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	ctx := t.Context()
	create(t, a)
	busy := b.authority(t, nil)
	busy.Inject(&ca.Faults{Sign: func(ctx context.Context, _ hsm.Ref) error {
		_, err := a.Reconcile(ctx)
		return err
	}}, issuerRef)
	issue(t, busy, ctx)
	create(t, busy)
	_, err := busy.RenewSigner(ctx, alpha, ca.RenewSigner{Spec: ca.Current})
	require.NoError(t, err)
	require.Zero(t, b.count(t, `select count(*) from ca_revocation`))
	require.Zero(t, b.count(t, `select count(*) from ca_certificate where status <> 'ISSUED'`))
}

// A request that was taken for dead comes back: its certificate is not handed
// out, for it is on the CRL already, and a signer of its does not become ACTIVE.
func TestReconcileMeetsTheUndead(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	ctx := t.Context()
	s := create(t, a)
	late := b.authority(t, nil)
	late.Inject(&ca.Faults{Sign: func(ctx context.Context, r hsm.Ref) error {
		b.expire(t)
		_, err := a.Reconcile(ctx)
		return err
	}}, issuerRef)
	_, err := late.IssueDevice(ctx, alpha, order(t))
	require.ErrorIs(t, err, ca.ErrRecord)
	_, err = late.CreateSigner(ctx, alpha, ca.CreateSigner{})
	require.ErrorIs(t, err, ca.ErrRecord)
	_, err = late.RenewSigner(ctx, alpha, ca.RenewSigner{Spec: s.ID})
	require.ErrorIs(t, err, ca.ErrRecord)
	b.settle(t, a)
	got, err := a.Signer(ctx, alpha, ca.Current)
	require.NoError(t, err)
	require.Equal(t, s.ID, got.ID)
	require.Len(t, b.signerKeys(t), 1)
	require.Zero(t, b.count(t, `select count(*) from ca_certificate c where failure = 'ABANDONED'
		and not exists (select from ca_revocation v where v.serial = c.serial)`))
	require.Positive(t, b.count(t, `select count(*) from ca_revocation`))
}

// An HSM that does not answer costs one renewal its time, not each of them: the
// others are left as they are, and are done when it is back.
func TestReconcileStopsAtAnOutage(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	ctx := t.Context()
	const n = 4
	var calls atomic.Int32
	hanging := b.authority(t, func(c *ca.Config) { c.Lease = time.Second })
	hanging.Inject(&ca.Faults{Sign: func(ctx context.Context, r hsm.Ref) error {
		if r.Role != hsm.RoleIssuer {
			return nil
		}
		calls.Add(1)
		<-ctx.Done()
		return fault.ErrUnavailable
	}}, issuerRef)
	out := b.authority(t, nil)
	out.Inject(&ca.Faults{Sign: func(_ context.Context, r hsm.Ref) error {
		if r.Role == hsm.RoleIssuer {
			return fault.ErrUnavailable
		}
		return nil
	}}, issuerRef)
	for range n {
		s := create(t, a)
		_, err := out.RenewSigner(ctx, alpha, ca.RenewSigner{Spec: s.ID})
		require.NoError(t, err)
	}
	b.expire(t)
	_, err := hanging.Reconcile(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 1, calls.Load())
	require.Equal(t, n-1, b.count(t, `select count(*) from ca_certificate where status = 'REQUESTED' and attempt = 1`))
	require.Equal(t, 1, b.count(t, `select count(*) from ca_certificate where status = 'REQUESTED' and attempt = 2`))
	b.settle(t, a)
	require.Equal(t, n, b.count(t, `select count(*) from ca_certificate where sequence > 0 and status = 'ISSUED'`))
}

func TestRotationByAge(t *testing.T) {
	t.Parallel()
	b, _ := bundle(t)
	at := time.Now()
	aged := func(c *ca.Config) { c.RotateAfter, c.Now = 24*time.Hour, func() time.Time { return at } }
	one, two := b.authority(t, aged), b.authority(t, aged)
	ctx := t.Context()
	s := create(t, one)
	rounds := func() {
		t.Helper()
		var wg sync.WaitGroup
		for _, a := range []*ca.Authority{one, two, one, two} {
			wg.Go(func() {
				_, err := a.Reconcile(ctx)
				require.NoError(t, err)
			})
		}
		wg.Wait()
	}
	at = at.Add(24*time.Hour - time.Minute)
	rounds()
	require.Equal(t, 1, b.count(t, `select count(*) from ca_signer`))
	at = at.Add(2 * time.Minute)
	rounds()
	require.Equal(t, 2, b.count(t, `select count(*) from ca_signer`), "once, not once for each node")
	next, err := two.Signer(ctx, alpha, ca.Current)
	require.NoError(t, err)
	require.NotEqual(t, s.ID, next.ID)
	require.Equal(t, 1, b.count(t, `select count(*) from audit_event where action = 'signer.create' and actor = 'ca.reconciler' and subject = $1`, next.ID))
}

// A key that no record explains is reported when the reconciler starts, and left
// alone: it may be that the database was restored from a backup.
func TestUnrecordedKeysAreReported(t *testing.T) {
	t.Parallel()
	b, _ := bundle(t)
	var log lockedBuffer
	a := b.authority(t, func(c *ca.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		c.ReconcileEvery = time.Millisecond
	})
	create(t, a)
	strange, err := a.Unrecorded(t.Context())
	require.NoError(t, err)
	require.Empty(t, strange)
	ref := hsm.Ref{Tenant: "alpha", Role: hsm.RoleSigner, Name: "signer", Generation: 9}
	_, err = b.token.Generate(t.Context(), ref, hsm.P256, [16]byte{9})
	require.NoError(t, err)
	strange, err = a.Unrecorded(t.Context())
	require.NoError(t, err)
	require.Equal(t, []hsm.Ref{ref}, strange)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	require.Eventually(t, func() bool { return log.contains(ref.String()) }, time.Minute, time.Millisecond)
	cancel()
	require.NoError(t, <-done)
	require.Len(t, b.signerKeys(t), 2)
}

// The database is out: the round fails, says so, and nothing is lost.
func TestReconcileSurvivesOutages(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	create(t, a)
	broken := b.authority(t, func(c *ca.Config) {
		c.RotateAfter = time.Hour
		c.DB = &brokenDB{Pool: b.db, fail: failOn("begin")}
	})
	_, err := broken.Reconcile(t.Context())
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) contains(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Contains(l.b.Bytes(), []byte(s))
}
