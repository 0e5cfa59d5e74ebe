package ca_test

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/tenant"
)

func TestCA10RenewSigner(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	node := b.authority(t, nil)
	ctx := t.Context()
	s := create(t, a)
	before := issue(t, node, ctx)
	renewed, err := a.RenewSigner(ctx, alpha, ca.RenewSigner{Spec: ca.Current, Actor: "op"})
	require.NoError(t, err)
	require.Equal(t, []any{s.ID, s.Generation, ca.Active, s.CreatedAt}, []any{renewed.ID, renewed.Generation, renewed.State, renewed.CreatedAt})
	old, cert := parse(t, s.Certificate), parse(t, renewed.Certificate)
	require.Equal(t, old.RawSubjectPublicKeyInfo, cert.RawSubjectPublicKeyInfo)
	require.Equal(t, old.RawSubject, cert.RawSubject)
	require.NotEqual(t, old.SerialNumber, cert.SerialNumber)
	require.Len(t, b.signerKeys(t), 1)

	// The other node learns of it with its next request; what was issued before
	// has a path by both certificates.
	after := issue(t, node, ctx)
	require.Equal(t, renewed.Certificate, after.Chain[0])
	for _, chain := range [][][]byte{before.Chain, after.Chain} {
		// Not VerifyChain: the new one may begin a second after what is below it.
		require.NoError(t, issuance.VerifyPath(append([][]byte{before.DER}, chain...), time.Now()))
	}
	paths, err := a.Paths(ctx, alpha, s.ID)
	require.NoError(t, err)
	require.Equal(t, [][][]byte{after.Chain, before.Chain}, paths)
	chain, err := a.Chain(ctx, alpha, s.ID)
	require.NoError(t, err)
	require.Equal(t, after.Chain, chain)
	require.Equal(t, 1, b.count(t, `select count(*) from ca_certificate where subject_signer_id = $1 and cert_ref <> $1 and sequence = 1
		and status = 'ISSUED' and certificate = $2 and actor = 'op' and lease_owner is null`, s.ID, renewed.Certificate))
	require.Equal(t, 1, b.count(t, `select count(*) from audit_event where action = 'signer.renew' and subject = $1 and actor = 'op' and outcome = 'ok'`, s.ID))

	next := create(t, a)
	retired, err := a.RenewSigner(ctx, alpha, ca.RenewSigner{Spec: s.ID})
	require.NoError(t, err)
	require.Equal(t, ca.Retired, retired.State)
	require.Equal(t, next.ID, issue(t, a, ctx).Signer)
}

// A node that has the signer in memory learns of a renewal by another one: by the
// next statement or certificate, and also when the old certificate has ended.
func TestCA10RenewedByAnotherNode(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	ctx := t.Context()
	s := create(t, a)
	var at atomic.Pointer[time.Time]
	clock := func(c *ca.Config) {
		c.Now = func() time.Time {
			if p := at.Load(); p != nil {
				return *p
			}
			return time.Now()
		}
	}
	leaves, statements := b.authority(t, clock), b.authority(t, clock)
	issue(t, leaves, ctx)
	signed := func() {
		t.Helper()
		jws, err := statements.SignWithCurrent(ctx, alpha, statement())
		require.NoError(t, err)
		header, err := base64.RawURLEncoding.DecodeString(strings.Split(jws, ".")[0])
		require.NoError(t, err)
		got, err := a.Signer(ctx, alpha, s.ID)
		require.NoError(t, err)
		require.Contains(t, string(header), base64.StdEncoding.EncodeToString(got.Certificate))
	}
	signed()
	_, err := a.RenewSigner(ctx, alpha, ca.RenewSigner{Spec: s.ID})
	require.NoError(t, err)
	signed()

	// What the others have in memory ends while it is not used; the new one is
	// made so late that it has not.
	end := parse(t, s.Certificate).NotAfter.Add(-time.Hour)
	at.Store(&end)
	for _, n := range []*ca.Authority{leaves, statements} {
		_, err = n.SignWithCurrent(ctx, alpha, statement())
		require.NoError(t, err)
	}
	_, err = b.authority(t, clock).RenewSigner(ctx, alpha, ca.RenewSigner{Spec: s.ID})
	require.NoError(t, err)
	late := end.Add(48 * time.Hour)
	at.Store(&late)
	c, err := leaves.IssueDevice(ctx, alpha, order(t))
	require.NoError(t, err)
	require.NoError(t, issuance.VerifyChain(append([][]byte{c.DER}, c.Chain...), late))
	signed()
}

func TestCA10Refuses(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	ctx := t.Context()
	_, err := a.RenewSigner(ctx, alpha, ca.RenewSigner{Spec: ca.Current})
	require.ErrorIs(t, err, ca.ErrNoSigner)
	s := create(t, a)
	for _, spec := range []string{"", "nonsense", "01J0000000000000000000000A"} {
		_, err = a.RenewSigner(ctx, alpha, ca.RenewSigner{Spec: spec})
		require.ErrorIs(t, err, ca.ErrNoSigner)
	}
	_, err = a.RenewSigner(ctx, beta, ca.RenewSigner{Spec: s.ID})
	require.ErrorIs(t, err, ca.ErrNoSigner)
	require.Equal(t, 1, b.count(t, `select count(*) from ca_certificate`))
}

// While the HSM is out the request waits in the queue, the answer is the signer
// as it is, and another request is refused. When the HSM is back it is carried
// out; each attempt has its own serial, and all of them can be looked up.
func TestCA10QueuedWhileTheHSMIsOut(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	ctx := t.Context()
	s := create(t, a)
	var out error = fault.ErrUnavailable
	broken := b.authority(t, nil)
	broken.Inject(&ca.Faults{Sign: func(_ context.Context, r hsm.Ref) error {
		if r.Role == hsm.RoleIssuer {
			return out
		}
		return nil
	}}, issuerRef)
	got, err := broken.RenewSigner(ctx, alpha, ca.RenewSigner{Spec: s.ID, Actor: "op"})
	require.NoError(t, err)
	require.Equal(t, s, got)
	for _, ignore := range []bool{false, true} {
		_, err = a.RenewSigner(ctx, alpha, ca.RenewSigner{Spec: s.ID, IgnoreNotIssued: ignore})
		require.ErrorIs(t, err, ca.ErrQueued)
	}
	latest := `select count(*) from ca_certificate where sequence = (select max(sequence) from ca_certificate) and status = $1`
	require.Equal(t, 1, b.count(t, latest, "REQUESTED"))
	for range 3 {
		b.expire(t)
		_, err = broken.Reconcile(ctx)
		require.NoError(t, err)
	}
	require.Equal(t, 1, b.count(t, latest, "REQUESTED"))
	require.Equal(t, 4, b.count(t, `select count(*) from ca_certificate where status = 'FAILED' and failure = 'UNAVAILABLE'`))
	require.Equal(t, 1, b.count(t, `select count(*) from ca_certificate where status = 'REQUESTED' and attempt = 4 and actor = 'op' and lease_owner is null and lease_until > now()`))
	issue(t, a, ctx) // nothing of this disturbs issuing
	b.settle(t, a)
	got, err = a.Signer(ctx, alpha, s.ID)
	require.NoError(t, err)
	require.NotEqual(t, s.Certificate, got.Certificate)
	require.Equal(t, 1, b.count(t, latest, "ISSUED"))
	require.Equal(t, 6, b.count(t, `select count(distinct serial) from ca_certificate where subject_signer_id = $1`, s.ID))
	require.Equal(t, 4, b.count(t, `select count(*) from audit_event where action = 'signer.renew' and outcome = 'unavailable'`))
}

// A cause that waiting does not mend ends the request; only ignoreNotIssued asks
// for another.
func TestCA10FailsForGood(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	ctx := t.Context()
	s := create(t, a)
	broken := b.authority(t, nil)
	broken.Inject(&ca.Faults{Signer: func(hsm.Ref) error { return hsm.ErrKeyNotFound }}, issuerRef)
	_, err := broken.RenewSigner(ctx, alpha, ca.RenewSigner{Spec: s.ID})
	require.ErrorIs(t, err, ca.ErrKey)
	require.Zero(t, b.unsettled(t))
	require.Zero(t, b.count(t, `select count(*) from ca_revocation`), "nothing was signed")
	_, err = a.RenewSigner(ctx, alpha, ca.RenewSigner{Spec: s.ID})
	require.ErrorIs(t, err, ca.ErrNotIssued)
	_, err = a.RenewSigner(ctx, alpha, ca.RenewSigner{Spec: s.ID, IgnoreNotIssued: true})
	require.NoError(t, err)
}

func TestCA10LostAnswerToTheCommit(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	s := create(t, a)
	commits := 0
	cut := b.authority(t, func(c *ca.Config) {
		c.DB = &brokenDB{Pool: b.db, fail: func(sql string) error {
			if sql == "committed" {
				commits++
			}
			if commits == 2 { // the first one queues
				commits++
				return errCut
			}
			return nil
		}}
	})
	got, err := cut.RenewSigner(t.Context(), alpha, ca.RenewSigner{Spec: s.ID})
	require.NoError(t, err)
	require.NotEqual(t, s.Certificate, got.Certificate)
	require.Equal(t, 2, b.count(t, `select count(*) from ca_certificate where status = 'ISSUED'`))
}

// Of many requests at once for one signer one is carried out at a time.
func TestCA10ManyAtOnce(t *testing.T) {
	t.Parallel()
	b, one := bundle(t)
	two := b.authority(t, nil)
	s := create(t, one)
	var wg sync.WaitGroup
	errs := make([]error, 12)
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = []*ca.Authority{one, two}[i%2].RenewSigner(t.Context(), alpha, ca.RenewSigner{Spec: s.ID})
		})
	}
	wg.Wait()
	done := 0
	for _, err := range errs {
		if err == nil {
			done++
			continue
		}
		require.True(t, errors.Is(err, ca.ErrQueued), "%v", err)
	}
	require.Positive(t, done)
	require.Equal(t, done+1, b.count(t, `select count(*) from ca_certificate where subject_signer_id = $1 and status = 'ISSUED'`, s.ID))
	require.Equal(t, done, b.count(t, `select max(sequence) from ca_certificate`))
	t.Logf("%d of %d were carried out", done, len(errs))
}

// The issuer changes: signers of the old one go on issuing, one call renews them
// all, and a verifier that trusts only one of the two roots finds a path by it.
func TestCA10RenewAllAfterAnIssuerChange(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	ctx := t.Context()
	retired, s := create(t, a), create(t, a)
	other, err := a.CreateSigner(ctx, beta, ca.CreateSigner{})
	require.NoError(t, err)
	old := issue(t, a, ctx)

	next := hsm.Ref{Tenant: "_system", Role: hsm.RoleIssuer, Name: "issuer", Generation: 1}
	chain := issuerChainOf(t, b.token, next)
	changed := func(c *ca.Config) {
		c.IssuerChain, c.IssuerKey, c.OtherIssuers = chain, next, []ca.OtherIssuer{{Chain: b.chain}}
	}
	_, err = b.authority(t, func(c *ca.Config) { changed(c); c.OtherIssuers = nil }).IssueDevice(ctx, alpha, order(t))
	require.ErrorIs(t, err, ca.ErrOtherIssuer)
	node := b.authority(t, changed)
	between := issue(t, node, ctx)
	require.Equal(t, old.Chain, between.Chain)

	// A first call is cut off in the middle.
	cut := b.authority(t, changed)
	limited, cancel := context.WithCancel(ctx)
	cut.Inject(&ca.Faults{Signed: func(r hsm.Ref) {
		if r == next {
			cancel()
		}
	}}, next)
	_, err = cut.RenewAll(limited, ca.RenewAll{Actor: "op"})
	require.Error(t, err)
	b.settle(t, node)
	_, err = node.RenewAll(ctx, ca.RenewAll{Actor: "op"})
	require.NoError(t, err)
	b.settle(t, node)
	again, err := node.RenewAll(ctx, ca.RenewAll{Actor: "op"})
	require.NoError(t, err)
	require.Zero(t, again)
	for id, owner := range map[string]tenant.ID{retired.ID: alpha, s.ID: alpha, other.ID: beta} {
		paths, err := node.Paths(ctx, owner, id)
		require.NoError(t, err)
		require.Len(t, paths, 2)
		require.Equal(t, chain, paths[0][1:])
		require.Equal(t, b.chain, paths[1][1:])
	}
	after := issue(t, node, ctx)
	require.Equal(t, chain, after.Chain[1:])
	for _, c := range []ca.Certificate{old, between, after} { // one key, both roots
		for _, chain := range [][][]byte{old.Chain, after.Chain} {
			roots, above := x509.NewCertPool(), x509.NewCertPool()
			above.AddCert(parse(t, chain[0]))
			above.AddCert(parse(t, chain[1]))
			roots.AddCert(parse(t, chain[2]))
			_, err := parse(t, c.DER).Verify(x509.VerifyOptions{Roots: roots, Intermediates: above, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			require.NoError(t, err)
		}
	}
}
