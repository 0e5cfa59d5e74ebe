package ca_test

import (
	"bytes"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/fault"
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
		_, err := a.RenewDevice(ctx, alpha, ca.RenewDevice{Peer: peer, CSR: csr(t, softKey(t))})
		require.ErrorIs(t, err, ca.ErrPeer, name)
		require.Equal(t, fault.Forbidden, fault.KindOf(err), name)
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
