package ca_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"math/big"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
)

func TestRenewDevice(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	ctx := t.Context()
	s := create(t, a)
	key := softKey(t)
	r := order(t)
	r.CSR = csr(t, key)
	old, err := a.IssueDevice(ctx, alpha, r)
	require.NoError(t, err)
	peer := parse(t, old.DER)

	renewed, err := a.RenewDevice(ctx, alpha, ca.RenewDevice{Peer: peer, CSR: csr(t, key)})
	require.NoError(t, err)
	require.Equal(t, peer.RawSubjectPublicKeyInfo, parse(t, renewed.DER).RawSubjectPublicKeyInfo)
	require.Equal(t, peer.RawSubject, parse(t, renewed.DER).RawSubject)
	next := create(t, a)
	rekeyed, err := a.RenewDevice(ctx, alpha, ca.RenewDevice{Peer: parse(t, renewed.DER), CSR: csr(t, softKey(t)), Actor: "gateway"})
	require.NoError(t, err)
	require.NotEqual(t, peer.RawSubjectPublicKeyInfo, parse(t, rekeyed.DER).RawSubjectPublicKeyInfo)
	require.Equal(t, []string{s.ID, s.ID, next.ID}, []string{old.Signer, renewed.Signer, rekeyed.Signer})
	for _, c := range []ca.Certificate{renewed, rekeyed} {
		require.NoError(t, issuance.VerifyChain(append([][]byte{c.DER}, c.Chain...), time.Now()))
		require.Equal(t, client, parse(t, c.DER).Subject.CommonName)
		require.Equal(t, 1, b.count(t, `select count(*) from ca_certificate where cert_ref = $1 and user_id = 'jane' and client_id = $2 and profile = 'AST_DEVICE'`, c.Ref, client))
	}
	require.Equal(t, 1, b.count(t, `select count(*) from ca_certificate where cert_ref = $1 and replaces = $2 and actor = $2`, renewed.Ref, old.Ref))
	require.Equal(t, 1, b.count(t, `select count(*) from audit_event where action = 'certificate.issue' and subject = $1 and actor = 'gateway' and detail->>'replaces' = $2`, rekeyed.Ref, renewed.Ref))
	// The old one is good to its end: whoever lost the answer asks again.
	_, err = a.RenewDevice(ctx, alpha, ca.RenewDevice{Peer: peer, CSR: csr(t, key)})
	require.NoError(t, err)
}

// The limit is the client's: neither the next certificate nor the next node
// starts anew, and an hour later it is over.
func TestRenewalsOfAClientAreLimited(t *testing.T) {
	t.Parallel()
	b, _ := bundle(t)
	var later time.Duration
	node := func() *ca.Authority {
		return b.authority(t, func(c *ca.Config) {
			c.RenewLimit, c.Now = 3, func() time.Time { return time.Now().Add(later) }
		})
	}
	a := node()
	create(t, a)
	last := issue(t, a, t.Context())
	renew := func(a *ca.Authority, c ca.Certificate) (ca.Certificate, error) {
		return a.RenewDevice(t.Context(), alpha, ca.RenewDevice{Peer: parse(t, c.DER), CSR: csr(t, softKey(t))})
	}
	var err error
	for range 3 {
		last, err = renew(a, last)
		require.NoError(t, err)
	}
	rows := b.count(t, `select count(*) from ca_certificate`)
	for _, n := range []*ca.Authority{a, node()} {
		_, err = renew(n, last)
		require.ErrorIs(t, err, ca.ErrRenewals)
		require.Equal(t, fault.Exhausted, fault.KindOf(err))
	}
	require.Equal(t, rows, b.count(t, `select count(*) from ca_certificate`), "nothing changed")
	later = time.Hour + time.Minute
	_, err = renew(a, last)
	require.NoError(t, err)
}

func TestRenewDeviceRefuses(t *testing.T) {
	t.Parallel()
	b, _ := bundle(t)
	at := time.Now()
	a := b.authority(t, func(c *ca.Config) { c.Now = func() time.Time { return at }; c.RenewGrace = time.Hour })
	ctx := t.Context()
	create(t, a)
	_, err := a.CreateSigner(ctx, beta, ca.CreateSigner{})
	require.NoError(t, err)
	good, revoked := issue(t, a, ctx), issue(t, a, ctx)
	require.NoError(t, a.RevokeCertificate(ctx, alpha, ca.RevokeCertificate{Ref: revoked.Ref}))
	forged := bytes.Clone(good.DER)
	forged[len(forged)-1] ^= 1
	huge := *parse(t, good.DER)
	huge.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 200)
	stranger := *parse(t, good.DER)
	stranger.SerialNumber = big.NewInt(7)
	signer, err := a.Signer(ctx, alpha, ca.Current)
	require.NoError(t, err)
	refused := func(name string, peer *x509.Certificate) {
		t.Helper()
		for _, signed := range []bool{false, true} {
			_, err := a.RenewDevice(ctx, alpha, ca.RenewDevice{Peer: peer, Signed: signed, CSR: csr(t, softKey(t))})
			require.ErrorIs(t, err, ca.ErrPeer, name)
			require.Equal(t, fault.Forbidden, fault.KindOf(err), name)
		}
	}
	for name, peer := range map[string]*x509.Certificate{
		"nobody": nil, "revoked": parse(t, revoked.DER), "other bytes": parse(t, forged), "huge serial": &huge,
		"unknown serial": &stranger, "a signer": parse(t, signer.Certificate), "the issuer": parse(t, b.chain[0]),
		"no serial": {Raw: good.DER},
	} {
		refused(name, peer)
	}
	peer := parse(t, good.DER)
	_, err = a.RenewDevice(ctx, beta, ca.RenewDevice{Peer: peer, CSR: csr(t, softKey(t))})
	require.ErrorIs(t, err, ca.ErrPeer, "another tenant")
	_, err = a.RenewDevice(ctx, alpha, ca.RenewDevice{Peer: peer})
	require.ErrorIs(t, err, ca.ErrRequest)

	at = peer.NotBefore.Add(-time.Second)
	refused("too early", peer)
	at = peer.NotAfter.Add(time.Hour) // within the grace
	_, err = a.RenewDevice(ctx, alpha, ca.RenewDevice{Peer: peer, CSR: csr(t, softKey(t))})
	require.NoError(t, err)
	at = peer.NotAfter.Add(time.Hour + time.Second)
	refused("too late", peer)

	at = time.Now()
	require.NoError(t, a.RevokeSigner(ctx, alpha, ca.RevokeSigner{Spec: signer.ID, Reason: revocation.KeyCompromise}))
	refused("revoked signer", peer)
	create(t, a)
	refused("revoked signer, new one", peer)
}

// A certificate that is revoked while its renewal is under way yields none.
func TestRenewDeviceRevokedMeanwhile(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	ctx := t.Context()
	create(t, a)
	revoke := func(c ca.Certificate) error {
		return a.RevokeCertificate(ctx, alpha, ca.RevokeCertificate{Ref: c.Ref, Reason: revocation.KeyCompromise})
	}
	old := issue(t, a, ctx)
	waiting := b.authority(t, nil)
	waiting.Inject(&ca.Faults{Sign: func(context.Context, hsm.Ref) error { return revoke(old) }}, issuerRef)
	_, err := waiting.RenewDevice(ctx, alpha, ca.RenewDevice{Peer: parse(t, old.DER), CSR: csr(t, softKey(t))})
	require.ErrorIs(t, err, ca.ErrRecord)
	b.settle(t, a)
	require.Equal(t, 1, b.count(t, `select count(*) from ca_certificate c join ca_revocation v on v.serial = c.serial
		where c.replaces = $1 and c.status = 'FAILED' and c.certificate is null`, old.Ref))

	old = issue(t, a, ctx)
	late := b.authority(t, func(c *ca.Config) {
		c.DB = &brokenDB{Pool: b.db, fail: func(sql string) error {
			if strings.HasPrefix(sql, "insert into ca_certificate") {
				return revoke(old)
			}
			return nil
		}}
	})
	_, err = late.RenewDevice(ctx, alpha, ca.RenewDevice{Peer: parse(t, old.DER), CSR: csr(t, softKey(t))})
	require.ErrorIs(t, err, ca.ErrPeer)
	require.Zero(t, b.count(t, `select count(*) from ca_certificate where replaces = $1`, old.Ref))
}

// Whoever has the key of a revoked certificate may have renewed it.
func TestRevokeCertificateWithItsRenewals(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	a.SetRevokeBatch(2)
	ctx := t.Context()
	create(t, a)
	renew := func(c ca.Certificate) ca.Certificate {
		t.Helper()
		next, err := a.RenewDevice(ctx, alpha, ca.RenewDevice{Peer: parse(t, c.DER), CSR: csr(t, softKey(t))})
		require.NoError(t, err)
		return next
	}
	first := issue(t, a, ctx)
	stolen := renew(first)
	other := renew(first)
	one, two, three := renew(stolen), renew(stolen), renew(stolen)
	create(t, a)
	gone := []string{stolen.Ref, one.Ref, two.Ref, three.Ref, renew(one).Ref, renew(renew(three)).Ref}
	require.NoError(t, a.RevokeCertificate(ctx, alpha, ca.RevokeCertificate{Ref: stolen.Ref, Reason: revocation.KeyCompromise, Actor: "op"}))
	require.Equal(t, len(gone), b.count(t, `select count(*) from ca_certificate c join ca_revocation v on v.serial = c.serial
		where c.cert_ref = any($1) and c.status = 'REVOKED' and v.reason = 1 and v.actor = 'op'`, gone))
	require.Equal(t, len(gone)+1, b.count(t, `select count(*) from audit_event where action = 'certificate.revoke' and actor = 'op'`))
	require.Equal(t, 2, b.count(t, `select count(*) from ca_certificate where cert_ref = any($1) and status = 'ISSUED'`, []string{first.Ref, other.Ref}))
}

// Renewing and revoking at once: nothing renewed stays good.
func TestRevokeCertificateMeetsRenewal(t *testing.T) {
	t.Parallel()
	b, one := bundle(t)
	two := b.authority(t, nil)
	ctx := t.Context()
	create(t, one)
	for range 10 {
		old := issue(t, one, ctx)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				next, err := two.RenewDevice(ctx, alpha, ca.RenewDevice{Peer: parse(t, old.DER), CSR: csr(t, softKey(t))})
				if err == nil {
					_, _ = two.RenewDevice(ctx, alpha, ca.RenewDevice{Peer: parse(t, next.DER), CSR: csr(t, softKey(t))})
				}
			})
		}
		wg.Go(func() {
			time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
			require.NoError(t, one.RevokeCertificate(ctx, alpha, ca.RevokeCertificate{Ref: old.Ref}))
		})
		wg.Wait()
	}
	require.Zero(t, b.count(t, `select count(*) from ca_certificate where status = 'ISSUED' and subject_signer_id is null`))
}
