package ca_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
)

func TestIssueByProfile(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	create(t, a)
	for name, want := range map[string][]x509.ExtKeyUsage{
		"":           {x509.ExtKeyUsageClientAuth},
		"AST_DEVICE": {x509.ExtKeyUsageClientAuth},
		"SIGNATURE":  nil, // documentSigning, which crypto/x509 does not name
		"GATEWAY":    {x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	} {
		r := order(t)
		r.Profile = name
		if name == "GATEWAY" {
			r.User, r.AltNames.DNS = "", []string{"gw.example.com"}
		}
		c, err := a.Issue(t.Context(), alpha, r)
		require.NoError(t, err, name)
		require.ElementsMatch(t, want, parse(t, c.DER).ExtKeyUsage, name)
		require.NoError(t, issuance.VerifyChain(append([][]byte{c.DER}, c.Chain...), time.Now()))
		require.Equal(t, r.AltNames.DNS, parse(t, c.DER).DNSNames)
		_, err = a.RenewDevice(t.Context(), alpha, ca.RenewDevice{Peer: parse(t, c.DER), CSR: r.CSR})
		if name == "SIGNATURE" {
			require.ErrorIs(t, err, ca.ErrPeer, "not for TLS")
		} else {
			require.NoError(t, err)
		}
		again, err := a.RenewDevice(t.Context(), alpha, ca.RenewDevice{Peer: parse(t, c.DER), Signed: true, CSR: r.CSR})
		require.NoError(t, err)
		require.Equal(t, r.AltNames.DNS, parse(t, again.DER).DNSNames)
		if name == "" {
			name = "AST_DEVICE"
		}
		require.Equal(t, 1, b.count(t, `select count(*) from ca_certificate where cert_ref = $1 and profile = $2 and (user_id is null) = ($2 = 'GATEWAY')`, c.Ref, name))
	}
	for _, name := range []string{"SIGNER", "ROOT", "OCSP_SIGNING", "ast_device", "x"} {
		r := order(t)
		r.Profile = name
		_, err := a.Issue(t.Context(), alpha, r)
		require.ErrorIs(t, err, ca.ErrRequest, name)
	}
}

// Each item of a batch stands for itself.
func TestIssueBatch(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	create(t, a)
	requests := make([]ca.IssueRequest, 20)
	for i := range requests {
		requests[i] = order(t)
		requests[i].User = fmt.Sprintf("user-%d", i)
	}
	requests[3].CSR, requests[7].Client, requests[11].Profile = []byte("garbage"), "", "NONE"
	out, err := a.IssueBatch(t.Context(), alpha, requests)
	require.NoError(t, err)
	require.Len(t, out, len(requests))
	for i, r := range out {
		if want := map[int]error{3: issuance.ErrRequest, 7: ca.ErrRequest, 11: ca.ErrRequest}[i]; want != nil {
			require.ErrorIs(t, r.Err, want)
			require.Empty(t, r.Certificate.DER)
			continue
		}
		require.NoError(t, r.Err)
		require.Equal(t, 1, b.count(t, `select count(*) from ca_certificate where cert_ref = $1 and user_id = $2`, r.Certificate.Ref, fmt.Sprintf("user-%d", i)))
	}
	for _, n := range []int{0, 257} {
		_, err = a.IssueBatch(t.Context(), alpha, make([]ca.IssueRequest, n))
		require.ErrorIs(t, err, ca.ErrRequest)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	out, err = a.IssueBatch(ctx, alpha, requests[:2])
	require.NoError(t, err)
	require.Equal(t, fault.Unavailable, fault.KindOf(out[0].Err))
}

// Keys of every kind that can be configured really issue in the HSM, for clients
// with keys of every kind that is certified.
func TestEverySignerAlgorithmIssues(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	clients := []crypto.Signer{softKey(t), p384, rsaKey, edwards}
	b, _ := bundle(t)
	for algorithm, want := range map[hsm.Algorithm]x509.SignatureAlgorithm{
		hsm.P256: x509.ECDSAWithSHA256, hsm.P384: x509.ECDSAWithSHA384, hsm.RSA3072: x509.SHA256WithRSA, hsm.Ed25519: x509.PureEd25519,
	} {
		a := b.authority(t, func(c *ca.Config) { c.SignerAlgorithm = algorithm })
		s := create(t, a)
		for _, key := range clients {
			r := order(t)
			r.CSR = csr(t, key)
			c, err := a.IssueDevice(t.Context(), alpha, r)
			require.NoError(t, err, "%s for %T", algorithm, key)
			require.Equal(t, want, parse(t, c.DER).SignatureAlgorithm)
			require.NoError(t, issuance.VerifyChain(append([][]byte{c.DER}, c.Chain...), time.Now()))
		}
		_, err = a.RenewSigner(t.Context(), alpha, ca.RenewSigner{Spec: s.ID})
		require.NoError(t, err, algorithm)
	}
}

// Certificates say where they can be checked: a signer's at the issuer, a
// client's at the shard of its signer that its serial belongs to.
func TestLocations(t *testing.T) {
	t.Parallel()
	b, _ := bundle(t)
	const base = "http://pki.example.com"
	a := b.authority(t, func(c *ca.Config) { c.PKI, c.CRLShards = base, 8 })
	s := create(t, a)
	check := func(c, issuer *x509.Certificate, shard int) {
		t.Helper()
		id := fmt.Sprintf("%x", issuer.SubjectKeyId)
		require.Len(t, id, 40)
		require.Equal(t, []string{fmt.Sprintf("%s/crl/%s/%d.crl", base, id, shard)}, c.CRLDistributionPoints)
		require.Equal(t, []string{base + "/ocsp/" + id}, c.OCSPServer)
		require.Equal(t, []string{base + "/ca/" + id + ".cer"}, c.IssuingCertificateURL)
	}
	issuer, signer := parse(t, b.chain[0]), parse(t, s.Certificate)
	check(signer, issuer, 0)
	// The number of shards is the signer's, whatever the configuration says later.
	later := b.authority(t, func(c *ca.Config) { c.PKI, c.CRLShards = base, 2 })
	shards := map[int]bool{}
	for range 24 {
		c := issue(t, later, t.Context())
		shard := revocation.Shard(c.Serial, 8)
		check(parse(t, c.DER), signer, shard)
		shards[shard] = true
	}
	require.Greater(t, len(shards), 2)
	renewed, err := later.RenewSigner(t.Context(), alpha, ca.RenewSigner{Spec: s.ID})
	require.NoError(t, err)
	check(parse(t, renewed.Certificate), issuer, 0)
	for _, bad := range []string{"https://pki.example.com", "pki.example.com", "http://", base + "/", base + "?x", base + "#", "http://u@pki.example.com", "http://pki example"} {
		c := b.config(t)
		c.PKI = bad
		require.ErrorIs(t, c.Validate(), ca.ErrConfig, bad)
	}
}
