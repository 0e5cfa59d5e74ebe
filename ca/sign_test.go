package ca_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
)

func statement() ca.Statement {
	return ca.Statement{Type: ca.SDKConfig, Claims: []byte(`{"a":"ä"}`), Actor: "op", Detail: map[string]any{"x": "y"}}
}

// open verifies a statement by its own chain up to the root, with a library that
// is not ours.
func open(tb testing.TB, b *bench, jws string) (signer string, alg string) {
	tb.Helper()
	parsed, err := jose.ParseSignedCompact(jws, []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.RS256, jose.EdDSA})
	require.NoError(tb, err)
	require.Len(tb, parsed.Signatures, 1)
	h := parsed.Signatures[0].Protected
	require.Equal(tb, "sdk-config+jwt", h.ExtraHeaders[jose.HeaderType])
	roots := x509.NewCertPool()
	root, err := x509.ParseCertificate(b.chain[len(b.chain)-1])
	require.NoError(tb, err)
	roots.AddCert(root)
	chains, err := h.Certificates(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	require.NoError(tb, err)
	require.Len(tb, chains[0], 3, "signer, issuer, root")
	payload, err := parsed.Verify(chains[0][0].PublicKey)
	require.NoError(tb, err)
	require.Equal(tb, `{"a":"ä"}`, string(payload))
	require.Equal(tb, h.KeyID, chains[0][0].Subject.SerialNumber)
	return h.KeyID, h.Algorithm
}

func TestCA14_SignWithCurrent(t *testing.T) {
	t.Parallel()
	b, _ := bundle(t)
	for algorithm, want := range map[hsm.Algorithm]string{hsm.P256: "ES256", hsm.P384: "ES384", hsm.RSA3072: "RS256", hsm.Ed25519: "EdDSA"} {
		a := b.authority(t, func(c *ca.Config) { c.SignerAlgorithm = algorithm })
		s, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
		require.NoError(t, err)
		jws, err := a.SignWithCurrent(t.Context(), alpha, statement())
		require.NoError(t, err)
		signer, alg := open(t, b, jws)
		require.Equal(t, s.ID, signer)
		require.Equal(t, want, alg)

		log, err := audit.New(audit.Config{DB: b.db})
		require.NoError(t, err)
		events, err := log.List(t.Context(), alpha, audit.Filter{})
		require.NoError(t, err)
		sum := sha256.Sum256([]byte(jws))
		var found int
		for _, e := range events {
			if e.Action == "sdkconfig.sign" && e.Subject == s.ID {
				found++
				require.Equal(t, "op", e.Actor)
				require.Equal(t, "ok", e.Outcome)
				require.Equal(t, map[string]any{"x": "y", "alg": want, "sha256": hex.EncodeToString(sum[:])}, e.Detail)
			}
		}
		require.Equal(t, 1, found)
	}
}

// A node whose memory is out of date finds out when it wants to record.
func TestCA14_SignerOfTheMoment(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	other := b.authority(t, nil)
	first, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
	require.NoError(t, err)
	jws, err := a.SignWithCurrent(t.Context(), alpha, statement())
	require.NoError(t, err)
	signer, _ := open(t, b, jws)
	require.Equal(t, first.ID, signer)

	second, err := other.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
	require.NoError(t, err)
	jws, err = a.SignWithCurrent(t.Context(), alpha, statement())
	require.NoError(t, err)
	signer, _ = open(t, b, jws)
	require.Equal(t, second.ID, signer)
	require.Equal(t, 2, b.count(t, `select count(*) from audit_event where action = 'sdkconfig.sign'`))
}

func TestCA14_WhatIsNotSigned(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	_, err := a.SignWithCurrent(t.Context(), alpha, statement())
	require.ErrorIs(t, err, ca.ErrNoSigner)
	s, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
	require.NoError(t, err)
	for name, claims := range map[string]string{
		"nothing": "", "null": "null", "array": "[]", "text": `"x"`, "two": "{}{}", "junk behind": "{}x", "DER": "\x30\x03\x02\x01\x00", "huge": `{"a":"` + strings.Repeat("x", 1<<20) + `"}`,
	} {
		st := statement()
		st.Claims = []byte(claims)
		_, err := a.SignWithCurrent(t.Context(), alpha, st)
		require.ErrorIs(t, err, ca.ErrRequest, name)
	}
	st := statement()
	st.Type = "JWT"
	_, err = a.SignWithCurrent(t.Context(), alpha, st)
	require.ErrorIs(t, err, ca.ErrRequest)

	// Without its event nothing is answered.
	broken := &brokenDB{Pool: b.db, fail: func(sql string) error {
		if strings.Contains(sql, "audit_event") {
			return errCut
		}
		return nil
	}}
	cut := b.authority(t, func(c *ca.Config) { c.DB = broken })
	jws, err := cut.SignWithCurrent(t.Context(), alpha, statement())
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	require.Empty(t, jws)
	require.Zero(t, b.count(t, `select count(*) from audit_event where action = 'sdkconfig.sign'`))

	// Nor by a signer whose certificate has ended, or was revoked meanwhile.
	end := parseCert(t, s.Certificate).NotAfter
	now := time.Now
	late := b.authority(t, func(c *ca.Config) { c.Now = func() time.Time { return now() } })
	now = func() time.Time { return end.Add(time.Second) }
	_, err = late.SignWithCurrent(t.Context(), alpha, statement())
	require.ErrorIs(t, err, issuance.ErrIssuerExpired)
	_, err = a.SignWithCurrent(t.Context(), alpha, statement()) // now in the node's memory
	require.NoError(t, err)
	b.exec(t, `update ca_signer set state = 'REVOKED', certificate = null, revoked_at = now(), revocation_reason = 1 where id = $1`, s.ID)
	_, err = a.SignWithCurrent(t.Context(), alpha, statement())
	require.ErrorIs(t, err, ca.ErrNoSigner)
}

func parseCert(tb testing.TB, der []byte) *x509.Certificate {
	tb.Helper()
	c, err := x509.ParseCertificate(der)
	require.NoError(tb, err)
	return c
}

// Signers that come and go while statements are made: each is by a signer that
// was ACTIVE when it was recorded.
func TestCA14_SigningUnderRotation(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	_, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	rotated := make(chan error, 1)
	other := b.authority(t, nil)
	go func() {
		for range 10 {
			if _, err := other.CreateSigner(t.Context(), alpha, ca.CreateSigner{}); err != nil {
				stop()
				rotated <- err
				return
			}
		}
		stop()
		rotated <- nil
	}()
	for ctx.Err() == nil {
		jws, err := a.SignWithCurrent(t.Context(), alpha, statement())
		require.NoError(t, err)
		open(t, b, jws)
	}
	require.NoError(t, <-rotated)
}
