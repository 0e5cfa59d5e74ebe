package ca_test

import (
	"context"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
)

func TestCA11RevokeSigner(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	node := b.authority(t, nil)
	ctx := t.Context()
	retired, s := create(t, a), create(t, a)
	issue(t, node, ctx) // has the signer in memory
	renewed, err := a.RenewSigner(ctx, alpha, ca.RenewSigner{Spec: s.ID})
	require.NoError(t, err)
	since := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	require.NoError(t, a.RevokeSigner(ctx, alpha, ca.RevokeSigner{Spec: ca.Current, Reason: revocation.KeyCompromise, Since: since, Actor: "op"}))

	got, err := a.Signer(ctx, alpha, s.ID)
	require.NoError(t, err)
	require.Equal(t, ca.Revoked, got.State)
	require.Nil(t, got.Certificate)
	_, err = a.Signer(ctx, alpha, ca.Current)
	require.ErrorIs(t, err, ca.ErrNoSigner)
	_, err = a.Chain(ctx, alpha, s.ID)
	require.ErrorIs(t, err, ca.ErrNotIssued)
	_, err = a.Paths(ctx, alpha, s.ID)
	require.ErrorIs(t, err, ca.ErrNotIssued)
	for _, n := range []*ca.Authority{a, node} {
		_, err = n.IssueDevice(ctx, alpha, order(t))
		require.ErrorIs(t, err, ca.ErrNoSigner)
		_, err = n.RenewSigner(ctx, alpha, ca.RenewSigner{Spec: s.ID, IgnoreNotIssued: true})
		require.ErrorIs(t, err, ca.ErrSignerRevoked)
		require.ErrorIs(t, n.DeleteSigner(ctx, alpha, ca.DeleteSigner{Spec: s.ID}), ca.ErrSignerRevoked)
		require.ErrorIs(t, n.RevokeSigner(ctx, alpha, ca.RevokeSigner{Spec: s.ID}), ca.ErrSignerRevoked)
	}
	// No certificate of it is left, and a tombstone of each is.
	require.Zero(t, b.count(t, `select count(*) from ca_certificate where subject_signer_id = $1 and certificate is not null`, s.ID))
	for _, der := range [][]byte{s.Certificate, renewed.Certificate} {
		sum := sha256.Sum256(der)
		require.Equal(t, 1, b.count(t, `select count(*) from ca_revocation v join ca_certificate c on c.serial = v.serial
			where v.sha256 = $1 and v.reason = 1 and v.actor = 'op' and v.invalid_since = $2 and v.issuer_key_id = $3
			and c.subject_signer_id = $4 and c.status = 'REVOKED' and c.revoked_by = 'op'`, sum[:], since, parse(t, b.chain[0]).SubjectKeyId, s.ID))
	}
	require.Equal(t, 1, b.count(t, `select count(*) from audit_event where action = 'signer.revoke' and subject = $1 and actor = 'op' and detail->>'reason' = 'KEY_COMPROMISE'`, s.ID))

	require.NoError(t, a.RevokeSigner(ctx, alpha, ca.RevokeSigner{Spec: retired.ID}), "a RETIRED one")
	require.Equal(t, 3, b.count(t, `select count(*) from ca_revocation`))
	next := create(t, a)
	require.Equal(t, next.ID, issue(t, node, ctx).Signer)
}

func TestCA11Refuses(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	ctx := t.Context()
	s := create(t, a)
	for _, r := range []struct {
		t    int
		r    ca.RevokeSigner
		want error
	}{
		{1, ca.RevokeSigner{Spec: s.ID}, ca.ErrNoSigner},
		{0, ca.RevokeSigner{Spec: "current "}, ca.ErrNoSigner},
		{0, ca.RevokeSigner{Spec: s.ID, Reason: 6}, ca.ErrRequest},
		{0, ca.RevokeSigner{Spec: s.ID, Since: time.Now().Add(time.Hour)}, ca.ErrRequest},
	} {
		tenant := alpha
		if r.t == 1 {
			tenant = beta
		}
		require.ErrorIs(t, a.RevokeSigner(ctx, tenant, r.r), r.want)
	}
	require.Zero(t, b.count(t, `select count(*) from ca_revocation`))
	issue(t, a, ctx)
}

// A certificate that is being signed while its signer is revoked is not handed
// out, and its serial is on the CRL in the end.
func TestCA11RevokedWhileIssuing(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	s := create(t, a)
	slow := b.authority(t, nil)
	slow.Inject(&ca.Faults{Sign: func(ctx context.Context, _ hsm.Ref) error {
		return a.RevokeSigner(ctx, alpha, ca.RevokeSigner{Spec: s.ID})
	}}, issuerRef)
	_, err := slow.IssueDevice(t.Context(), alpha, order(t))
	require.ErrorIs(t, err, ca.ErrRecord)
	b.settle(t, a)
	require.Equal(t, 1, b.count(t, `select count(*) from ca_certificate c join ca_revocation v on v.serial = c.serial
		where c.signer_id = $1 and c.status = 'FAILED' and c.certificate is null`, s.ID))
}

func TestRevokeCertificate(t *testing.T) {
	t.Parallel()
	b, _ := bundle(t)
	a := b.authority(t, func(c *ca.Config) { c.CRLShards = 4 })
	ctx := t.Context()
	s := create(t, a)
	c, other := issue(t, a, ctx), issue(t, a, ctx)
	refused := func(want error, r ca.RevokeCertificate) {
		t.Helper()
		require.ErrorIs(t, a.RevokeCertificate(ctx, alpha, r), want)
	}
	require.ErrorIs(t, a.RevokeCertificate(ctx, beta, ca.RevokeCertificate{Ref: c.Ref}), ca.ErrNoCertificate)
	require.ErrorIs(t, a.RevokeCertificate(ctx, beta, ca.RevokeCertificate{Serial: c.Serial}), ca.ErrNoCertificate)
	refused(ca.ErrNoCertificate, ca.RevokeCertificate{})
	refused(ca.ErrNoCertificate, ca.RevokeCertificate{Ref: "x"})
	refused(ca.ErrRequest, ca.RevokeCertificate{Ref: c.Ref, Reason: 99})
	refused(ca.ErrSignerCertificate, ca.RevokeCertificate{Ref: s.ID})
	require.Zero(t, b.count(t, `select count(*) from ca_revocation`))

	require.NoError(t, a.RevokeCertificate(ctx, alpha, ca.RevokeCertificate{Ref: c.Ref, Reason: revocation.Superseded, Actor: "op"}))
	refused(ca.ErrCertificateState, ca.RevokeCertificate{Ref: c.Ref})
	refused(ca.ErrCertificateState, ca.RevokeCertificate{Serial: c.Serial})
	sum := sha256.Sum256(c.DER)
	require.Equal(t, 1, b.count(t, `select count(*) from ca_revocation where serial = $1 and shard = $2 and issuer_key_id = $3
		and cert_ref = $4 and sha256 = $5 and reason = 4 and not_after = $6 and actor = 'op' and tenant_id = 'alpha'`,
		c.Serial[:], revocation.Shard(c.Serial, 4), parse(t, s.Certificate).SubjectKeyId, c.Ref, sum[:], c.NotAfter))
	require.Equal(t, 1, b.count(t, `select count(*) from ca_certificate where cert_ref = $1 and status = 'REVOKED' and certificate = $2`, c.Ref, c.DER))
	require.Equal(t, 1, b.count(t, `select count(*) from audit_event where action = 'certificate.revoke' and subject = $1
		and user_id = 'jane' and actor = 'op' and detail->>'reason' = 'SUPERSEDED' and detail->>'serial' = $2`, c.Ref, c.Serial.String()))
	require.NoError(t, a.RevokeCertificate(ctx, alpha, ca.RevokeCertificate{Serial: other.Serial}))
	require.Equal(t, 2, b.count(t, `select count(*) from ca_revocation`))

	broken := b.authority(t, func(c *ca.Config) { c.DB = &brokenDB{Pool: b.db, fail: failOn("begin")} })
	require.ErrorIs(t, broken.RevokeCertificate(ctx, alpha, ca.RevokeCertificate{Serial: other.Serial}), fault.ErrUnavailable)
}

// Everything of one signer, in several transactions, one of which fails.
func TestRevokeIssued(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	ctx := t.Context()
	old := create(t, a)
	const n = 7
	for range n {
		issue(t, a, ctx)
	}
	s := create(t, a)
	kept := issue(t, a, ctx)
	begins := 0
	broken := b.authority(t, func(c *ca.Config) {
		c.DB = &brokenDB{Pool: b.db, fail: func(sql string) error {
			if sql == "begin" {
				begins++
			}
			if begins == 3 { // after the lock and the first batch
				return errCut
			}
			return nil
		}}
	})
	broken.SetRevokeBatch(3)
	a.SetRevokeBatch(3)
	done, err := broken.RevokeIssued(ctx, alpha, ca.RevokeIssued{Spec: old.ID, Reason: revocation.CACompromise})
	require.ErrorIs(t, err, fault.ErrUnavailable)
	require.Equal(t, 3, done)
	done, err = a.RevokeIssued(ctx, alpha, ca.RevokeIssued{Spec: old.ID, Reason: revocation.CACompromise, Actor: "op"})
	require.NoError(t, err)
	require.Equal(t, n-3, done)
	done, err = a.RevokeIssued(ctx, alpha, ca.RevokeIssued{Spec: old.ID})
	require.NoError(t, err)
	require.Zero(t, done)
	require.Equal(t, n, b.count(t, `select count(*) from ca_revocation v join ca_certificate c on c.serial = v.serial
		where c.signer_id = $1 and c.status = 'REVOKED' and v.reason = 2 and v.sha256 = sha256(c.certificate)`, old.ID))
	require.Equal(t, n, b.count(t, `select count(*) from audit_event where action = 'certificate.revoke'`))
	require.Equal(t, 1, b.count(t, `select count(*) from ca_certificate where status = 'ISSUED' and signer_id = $1`, s.ID))
	_, err = a.RevokeIssued(ctx, beta, ca.RevokeIssued{Spec: old.ID})
	require.ErrorIs(t, err, ca.ErrNoSigner)
	_, err = a.RevokeIssued(ctx, alpha, ca.RevokeIssued{Spec: old.ID, Reason: 7})
	require.ErrorIs(t, err, ca.ErrRequest)
	require.NoError(t, issuance.VerifyChain(append([][]byte{kept.DER}, kept.Chain...), time.Now()))
}

// A request that is in the HSM when its signer has been replaced, and one whose
// reference is older than what was met already: neither is left.
func TestRevokeIssuedMeetsRequests(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	a.SetRevokeBatch(2)
	ctx := t.Context()
	old := create(t, a)
	for range 3 {
		issue(t, a, ctx)
	}
	revoke := func() {
		done, err := a.RevokeIssued(ctx, alpha, ca.RevokeIssued{Spec: old.ID, Reason: revocation.CACompromise, Actor: "op"})
		require.NoError(t, err)
		require.Equal(t, 3, done)
	}
	slow := b.authority(t, nil)
	slow.Inject(&ca.Faults{Sign: func(context.Context, hsm.Ref) error {
		create(t, a)
		revoke()
		return nil
	}}, issuerRef)
	_, err := slow.IssueDevice(ctx, alpha, order(t))
	require.ErrorIs(t, err, ca.ErrRecord)
	require.Zero(t, b.count(t, `select count(*) from ca_certificate where signer_id = $1 and status in ('ISSUED', 'REQUESTED')`, old.ID))
	require.Equal(t, 1, b.count(t, `select count(*) from ca_certificate c join ca_revocation v on v.serial = c.serial
		where c.signer_id = $1 and c.status = 'FAILED' and c.failure = 'REVOKED' and v.reason = 2 and v.actor = 'op'`, old.ID))
	require.Equal(t, 1, b.count(t, `select count(*) from audit_event where action = 'certificate.issue' and outcome = 'revoked' and actor = 'op'`))

	require.NoError(t, a.RevokeSigner(ctx, alpha, ca.RevokeSigner{Spec: old.ID}))
	_, err = a.RevokeIssued(ctx, alpha, ca.RevokeIssued{Spec: old.ID})
	require.ErrorIs(t, err, ca.ErrSignerRevoked)
}

// A node whose clock is slow commits a reference below those that were met.
func TestRevokeIssuedMeetsSlowClocks(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	ctx := t.Context()
	old := create(t, a)
	slow := b.authority(t, func(c *ca.Config) { c.Now = func() time.Time { return time.Now().Add(-time.Minute) } })
	for range 3 {
		issue(t, a, ctx)
	}
	late := issue(t, slow, ctx)
	create(t, a)
	b.exec(t, `update ca_certificate set status = 'REVOKED', revoked_at = now(), revocation_reason = 0 where cert_ref = $1`, late.Ref)
	begins := 0
	c := b.authority(t, func(c *ca.Config) {
		c.DB = &brokenDB{Pool: b.db, fail: func(sql string) error {
			if sql == "begin" {
				if begins++; begins == 4 { // the lock and two batches went before
					b.exec(t, `update ca_certificate set status = 'ISSUED', revoked_at = null, revocation_reason = null where cert_ref = $1`, late.Ref)
				}
			}
			return nil
		}}
	})
	c.SetRevokeBatch(2)
	done, err := c.RevokeIssued(ctx, alpha, ca.RevokeIssued{Spec: old.ID})
	require.NoError(t, err)
	require.Equal(t, 4, done)
	require.Zero(t, b.count(t, `select count(*) from ca_certificate where signer_id = $1 and status = 'ISSUED'`, old.ID))
}
