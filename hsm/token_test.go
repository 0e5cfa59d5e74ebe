package hsm_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

func TestSmoke(t *testing.T) {
	tok := softhsmtest.New(t)
	ctx := t.Context()
	for _, c := range []struct {
		r hsm.Role
		a hsm.Algorithm
	}{{hsm.RoleSigner, hsm.P256}, {hsm.RoleSigner, hsm.P384}, {hsm.RoleSigner, hsm.RSA2048}, {hsm.RoleIssuer, hsm.Ed25519}, {hsm.RoleMaster, hsm.P256}, {hsm.RoleKEK, hsm.AES256}, {hsm.RoleMAC, hsm.HMACSHA256}} {
		ref := hsm.Ref{Tenant: "alpha", Role: c.r, Name: string(c.a)}
		_, err := tok.Generate(ctx, ref, c.a, [16]byte{})
		require.NoError(t, err, "%v", ref)
	}
	ref := hsm.Ref{Tenant: "alpha", Role: hsm.RoleSigner, Name: "P-256"}
	s, err := tok.Signer(ctx, ref)
	require.NoError(t, err)
	d := sha256.Sum256([]byte("x"))
	sig, err := s.Sign(nil, d[:], crypto.SHA256)
	require.NoError(t, err)
	require.True(t, ecdsa.VerifyASN1(s.Public().(*ecdsa.PublicKey), d[:], sig))
	a, err := tok.AEAD(ctx, hsm.Ref{Tenant: "alpha", Role: hsm.RoleKEK, Name: "AES-256"})
	require.NoError(t, err)
	b, err := a.Seal(ctx, nil, []byte("aad"))
	require.NoError(t, err)
	p, err := a.Open(ctx, b, []byte("aad"))
	require.NoError(t, err)
	require.Empty(t, p)
	_, err = a.Open(ctx, b, []byte("aaX"))
	t.Log(err)
	require.ErrorIs(t, err, hsm.ErrTag)
}
