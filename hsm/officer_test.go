package hsm_test

import (
	"crypto/rand"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

func officer(t *testing.T, token *hsm.Token) *hsm.Officer {
	t.Helper()
	o, err := token.Officer()
	require.NoError(t, err)
	return o
}

// A key with a backup is as locked up as any other, is its own backup's proof, and
// comes back on a second token as the same key.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	first, second := softhsmtest.New(t), softhsmtest.New(t)
	wrapKey := make([]byte, hsm.WrapKeyLen)
	_, _ = rand.Read(wrapKey)
	for i, c := range []struct {
		role hsm.Role
		alg  hsm.Algorithm
	}{{hsm.RoleIssuer, hsm.P256}, {hsm.RoleRoot, hsm.P384}, {hsm.RoleSigner, hsm.RSA2048}, {hsm.RoleKEK, hsm.AES256}, {hsm.RoleMAC, hsm.HMACSHA256}} {
		t.Run(string(c.alg), func(t *testing.T) {
			ref := hsm.Ref{Tenant: "_system", Role: c.role, Name: "backed", Generation: i}
			key := func() secret.Bytes { return secret.New(slices.Clone(wrapKey)) }
			made, wrapped, err := officer(t, first).GenerateBacked(t.Context(), ref, c.alg, [16]byte{1, byte(i)}, key())
			require.NoError(t, err)
			found, err := first.Lookup(t.Context(), ref)
			require.NoError(t, err)
			require.Equal(t, made, found)
			objects, err := officer(t, first).Attributes(t.Context(), ref)
			require.NoError(t, err)
			require.Equal(t, "false", objects[0].Attributes["CKA_EXTRACTABLE"])
			require.Equal(t, "true", objects[0].Attributes["CKA_SENSITIVE"])
			require.Equal(t, "false", objects[0].Attributes["CKA_NEVER_EXTRACTABLE"], "it says how it was born")
			require.Empty(t, objects[0].Fault)
			all, err := officer(t, first).Inventory(t.Context())
			require.NoError(t, err)
			for _, o := range all {
				require.True(t, o.Ours, "no session object stays: %+v", o)
			}

			_, _, err = officer(t, first).GenerateBacked(t.Context(), ref, c.alg, [16]byte{9}, key())
			require.ErrorIs(t, err, hsm.ErrExists)
			wrong := slices.Clone(wrapped)
			wrong[len(wrong)-1] ^= 1
			_, err = officer(t, second).Restore(t.Context(), made, key(), wrong)
			require.Error(t, err)
			_, err = officer(t, second).Restore(t.Context(), made, secret.New(make([]byte, 32)), wrapped)
			require.Error(t, err)
			left, err := officer(t, second).Attributes(t.Context(), ref)
			require.NoError(t, err)
			require.Empty(t, left, "nothing half made")
			again, err := officer(t, second).Restore(t.Context(), made, key(), wrapped)
			require.NoError(t, err)
			require.Equal(t, made, again)
		})
	}
	_, _, err := officer(t, first).GenerateBacked(t.Context(), hsm.Ref{Tenant: "_system", Role: hsm.RoleRoot, Name: "ed"}, hsm.Ed25519, [16]byte{3}, secret.New(wrapKey))
	require.ErrorIs(t, err, hsm.ErrUnsupported, "SoftHSM wraps no Edwards key, and says so before anything stays")
	// A key without a backup has no way out.
	other := hsm.Ref{Tenant: "_system", Role: hsm.RoleIssuer, Name: "plain"}
	_, err = first.Generate(t.Context(), other, hsm.P256, [16]byte{7})
	require.NoError(t, err)
	_, _, err = officer(t, first).GenerateBacked(t.Context(), other, hsm.P256, [16]byte{8}, secret.New(wrapKey))
	require.ErrorIs(t, err, hsm.ErrExists)
}

// The public key of another pair is refused, and nothing stays.
func TestRestoreComparesThePublicKey(t *testing.T) {
	t.Parallel()
	first, second := softhsmtest.New(t), softhsmtest.New(t)
	ref := hsm.Ref{Tenant: "_system", Role: hsm.RoleIssuer, Name: "a"}
	wrapKey := secret.New(make([]byte, 32))
	made, wrapped, err := officer(t, first).GenerateBacked(t.Context(), ref, hsm.P256, [16]byte{1}, wrapKey)
	require.NoError(t, err)
	stranger, err := first.Generate(t.Context(), hsm.Ref{Tenant: "_system", Role: hsm.RoleIssuer, Name: "b"}, hsm.P256, [16]byte{2})
	require.NoError(t, err)
	made.Public = stranger.Public
	_, err = officer(t, second).Restore(t.Context(), made, wrapKey, wrapped)
	require.ErrorIs(t, err, hsm.ErrSelfTest)
	left, err := officer(t, second).Inventory(t.Context())
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestPINs(t *testing.T) {
	t.Parallel()
	soft := softhsmtest.Create(t)
	var calls []hsm.Call
	stop, err := hsm.Witness(soft.Module, func(c hsm.Call) { calls = append(calls, c) })
	require.NoError(t, err)
	defer stop()
	text := func(s string) secret.Bytes { return secret.New([]byte(s)) }
	token, err := hsm.Open(t.Context(), soft.HSM())
	require.NoError(t, err)
	require.ErrorIs(t, officer(t, token).ChangePIN(t.Context(), text("wrong"), text("23456789")), hsm.ErrPIN)
	require.NoError(t, officer(t, token).ChangePIN(t.Context(), soft.PIN, text("23456789")))
	condition, err := officer(t, token).Condition(t.Context())
	require.NoError(t, err)
	require.True(t, condition.Login)
	_, err = token.Generate(t.Context(), hsm.Ref{Tenant: "_system", Role: hsm.RoleRoot, Name: "r"}, hsm.P256, [16]byte{1})
	require.NoError(t, err)
	require.NoError(t, token.Close())
	_, err = hsm.Open(t.Context(), soft.HSM())
	require.ErrorIs(t, err, hsm.ErrPIN)

	reset := hsm.ResetConfig{Module: soft.Module, Env: soft.HSM().Env, Label: soft.Label, SOPIN: text("nope"), PIN: soft.PIN}
	require.ErrorIs(t, hsm.ResetPIN(t.Context(), reset), hsm.ErrPIN)
	reset.SOPIN, reset.NewSOPIN = soft.SOPIN, text("87654321")
	require.NoError(t, hsm.ResetPIN(t.Context(), reset))
	reset.SOPIN, reset.NewSOPIN = text("87654321"), secret.Bytes{}
	require.NoError(t, hsm.ResetPIN(t.Context(), reset))
	token, err = hsm.Open(t.Context(), soft.HSM())
	require.NoError(t, err)
	require.NoError(t, token.Close())
	_, err = hsm.Witness(soft.Module, nil)
	require.ErrorIs(t, err, hsm.ErrConfig)

	require.Equal(t, []hsm.Call{
		{Function: "C_Login(USER)", Result: "CKR_OK"},
		{Function: "C_SetPIN", Result: "CKR_PIN_INCORRECT"},
		{Function: "C_SetPIN", Result: "CKR_OK"},
		{Function: "C_GenerateKeyPair", Result: "CKR_OK", Label: "signet/1/_system/root/r/0"},
		{Function: "C_Login(USER)", Result: "CKR_PIN_INCORRECT"},
		{Function: "C_Login(SO)", Result: "CKR_PIN_INCORRECT"},
		{Function: "C_Login(SO)", Result: "CKR_OK"},
		{Function: "C_InitPIN", Result: "CKR_OK"},
		{Function: "C_SetPIN", Result: "CKR_OK"},
		{Function: "C_Login(SO)", Result: "CKR_OK"},
		{Function: "C_InitPIN", Result: "CKR_OK"},
		{Function: "C_Login(USER)", Result: "CKR_OK"},
	}, calls)
}
