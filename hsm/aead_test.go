package hsm_test

import (
	"testing"

	p11 "github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

// SoftHSM answers a wrong tag with the same value as a dead token. A dead token
// must not make a sealed row look damaged.
func TestOutageIsNoVerdictOnASealedValue(t *testing.T) {
	t.Parallel()
	st, f := wrapped(t)
	tok := softhsmtest.Open(t, st.HSM())
	ref := hsm.Ref{Tenant: "alpha", Role: hsm.RoleKEK, Name: "k"}
	_, err := tok.Generate(t.Context(), ref, hsm.AES256, [16]byte{})
	require.NoError(t, err)
	k, err := tok.AEAD(t.Context(), ref)
	require.NoError(t, err)
	blob, err := k.Seal(t.Context(), []byte("secret"), []byte("aad"))
	require.NoError(t, err)
	_, err = k.Open(t.Context(), blob, []byte("another"))
	require.ErrorIs(t, err, hsm.ErrTag)
	require.NotErrorIs(t, err, fault.ErrUnavailable)
	require.Equal(t, fault.Internal, fault.KindOf(err))
	for _, rv := range []p11.Error{p11.CKR_GENERAL_ERROR, p11.CKR_DEVICE_ERROR, p11.CKR_FUNCTION_FAILED, p11.CKR_HOST_MEMORY} {
		f.set(func(f *faults) { f.onGCM = func() error { return rv } })
		_, err = k.Open(t.Context(), blob, []byte("aad"))
		require.ErrorIs(t, err, fault.ErrUnavailable, "%v", rv)
		require.NotErrorIs(t, err, hsm.ErrTag, "%v", rv)
		require.Equal(t, fault.Unavailable, fault.KindOf(err))
	}
	f.set(func(f *faults) { f.onGCM = nil })
	plain, err := k.Open(t.Context(), blob, []byte("aad"))
	require.NoError(t, err)
	require.Equal(t, "secret", string(plain))
}
