package hsm_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	p11 "github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/softhsm"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

// plant makes a P-256 pair by hand. Halves with a nil list are destroyed again.
func (r raw) plant(t *testing.T, s p11.SessionHandle, label string, id []byte, public, private bool, extra ...*p11.Attribute) {
	t.Helper()
	common := []*p11.Attribute{
		p11.NewAttribute(p11.CKA_LABEL, label), p11.NewAttribute(p11.CKA_ID, id),
		p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_MODIFIABLE, false),
	}
	no := func(list []*p11.Attribute, types ...uint) []*p11.Attribute {
		for _, typ := range types {
			list = append(list, p11.NewAttribute(typ, false))
		}
		return list
	}
	pub := no(append(common[:4:4], p11.NewAttribute(p11.CKA_EC_PARAMS, p256OID), p11.NewAttribute(p11.CKA_VERIFY, true)),
		p11.CKA_PRIVATE, p11.CKA_VERIFY_RECOVER, p11.CKA_ENCRYPT, p11.CKA_WRAP, p11.CKA_DERIVE)
	priv := no(append(common[:4:4], p11.NewAttribute(p11.CKA_PRIVATE, true), p11.NewAttribute(p11.CKA_SENSITIVE, true), p11.NewAttribute(p11.CKA_SIGN, true)),
		p11.CKA_EXTRACTABLE, p11.CKA_DERIVE, p11.CKA_SIGN_RECOVER, p11.CKA_DECRYPT, p11.CKA_UNWRAP, p11.CKA_ALWAYS_AUTHENTICATE)
	for _, x := range extra {
		for i := range priv {
			if priv[i].Type == x.Type {
				priv[i] = x
			}
		}
	}
	a, b, err := r.GenerateKeyPair(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_EC_KEY_PAIR_GEN, nil)}, pub, priv)
	require.NoError(t, err)
	if !public {
		require.NoError(t, r.DestroyObject(s, a))
	}
	if !private {
		require.NoError(t, r.DestroyObject(s, b))
	}
}

// What other hands left on the token: found late (Lookup) and found early (the
// enumeration of a second Open) it gets the same verdict.
func TestForeignAndBrokenObjects(t *testing.T) {
	t.Parallel()
	st := softhsmtest.Create(t)
	tok := softhsmtest.Open(t, st.HSM())
	r := second(t, st)
	s := r.session(t)
	id := func(b byte) []byte { return append(make([]byte, 15), b) }
	name := func(n string) hsm.Ref { return hsm.Ref{Tenant: "alpha", Role: hsm.RoleSigner, Name: n} }

	r.plant(t, s, name("good").String(), id(1), true, true)
	r.plant(t, s, name("twice").String(), id(2), true, true)
	r.plant(t, s, name("twice").String(), id(3), true, true)
	r.plant(t, s, name("twins").String(), id(4), true, true)
	r.plant(t, s, name("twins").String(), id(4), true, true)
	r.plant(t, s, name("one-id-a").String(), id(5), true, true)
	r.plant(t, s, name("one-id-b").String(), id(5), true, true)
	r.plant(t, s, name("private-half").String(), id(6), false, true)
	r.plant(t, s, name("public-half").String(), id(7), true, false)
	r.plant(t, s, name("mixed").String(), id(8), true, false)
	r.plant(t, s, name("mixed").String(), id(9), false, true)
	r.plant(t, s, name("extractable").String(), id(10), true, true, p11.NewAttribute(p11.CKA_EXTRACTABLE, true))
	r.plant(t, s, name("decrypts").String(), id(11), true, true, p11.NewAttribute(p11.CKA_DECRYPT, true))
	r.plant(t, s, name("modifiable").String(), id(12), true, true, p11.NewAttribute(p11.CKA_MODIFIABLE, true))
	r.plant(t, s, name("short-id").String(), []byte("short"), true, true)
	r.plant(t, s, "somebody else's key", id(1), true, true)
	r.plant(t, s, "signet/2/alpha/signer/good/0", id(1), true, true)
	r.plant(t, s, "signet/1/alpha/signer/good/00", id(1), true, true)
	r.plant(t, s, hsm.Ref{Tenant: "alpha", Role: hsm.RoleKEK, Name: "wrong-kind"}.String(), id(13), true, true)

	want := map[hsm.Ref]error{
		name("good"): nil, name("twice"): hsm.ErrAmbiguous, name("twins"): hsm.ErrAmbiguous,
		name("one-id-a"): hsm.ErrAmbiguous, name("one-id-b"): hsm.ErrAmbiguous,
		name("private-half"): hsm.ErrKeyNotFound, name("public-half"): hsm.ErrKeyNotFound, name("mixed"): hsm.ErrAmbiguous,
		name("extractable"): hsm.ErrTemplate, name("decrypts"): hsm.ErrTemplate, name("modifiable"): hsm.ErrTemplate,
		name("short-id"): hsm.ErrTemplate,
		{Tenant: "alpha", Role: hsm.RoleKEK, Name: "wrong-kind"}: hsm.ErrTemplate,
	}
	again := softhsmtest.Open(t, st.HSM())
	for _, tk := range []*hsm.Token{tok, again} {
		for ref, verdict := range want {
			_, err := tk.Lookup(t.Context(), ref)
			if verdict == nil {
				require.NoError(t, err, ref.String())
				continue
			}
			require.ErrorIs(t, err, verdict, ref.String())
			_, err = tk.Signer(t.Context(), ref)
			require.ErrorIs(t, err, verdict, ref.String())
			_, err = tk.Generate(t.Context(), name(ref.Name), hsm.P256, [16]byte{})
			if ref.Role == hsm.RoleSigner {
				require.ErrorIs(t, err, hsm.ErrExists, "debris keeps its name: %s", ref)
			}
		}
	}
	keys, err := again.Keys(t.Context(), func(ref hsm.Ref) bool { return ref.Name != "wrong-kind" })
	require.NoError(t, err)
	require.Len(t, keys, 1)
	require.Equal(t, name("good"), keys[0].Ref)

	require.ErrorIs(t, tok.Destroy(t.Context(), name("twice")), hsm.ErrAmbiguous)
	require.Equal(t, 4, r.count(t, s, name("twice").String()))
	require.NoError(t, tok.Destroy(t.Context(), name("private-half")), "debris can be cleared")
	require.Zero(t, r.count(t, s, name("private-half").String()))
	_, err = tok.Generate(t.Context(), name("private-half"), hsm.P256, [16]byte{})
	require.NoError(t, err)
	require.Equal(t, 2, r.count(t, s, "somebody else's key"))
}

// Two nodes, two modules, one token: a key made by one is found by the other,
// without being told, and a key that one destroys is gone for the other.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	st := softhsmtest.Create(t)
	one := softhsmtest.Open(t, st.HSM())
	other := *st
	installed, err := softhsm.FindModule()
	require.NoError(t, err)
	other.Dir, other.Module = t.TempDir(), installed
	require.NoError(t, other.Isolate())
	two := softhsmtest.Open(t, other.HSM())

	_, err = two.Lookup(t.Context(), signerRef)
	require.ErrorIs(t, err, hsm.ErrKeyNotFound)
	s1 := p256(t, one)
	s2, err := two.Signer(t.Context(), signerRef)
	require.NoError(t, err)
	require.Equal(t, s1.Public(), s2.Public())
	require.NoError(t, signOnce(t.Context(), s2, "x"))
	_, err = two.Generate(t.Context(), signerRef, hsm.P256, [16]byte{})
	require.ErrorIs(t, err, hsm.ErrExists)

	require.NoError(t, one.Destroy(t.Context(), signerRef))
	require.ErrorIs(t, signOnce(t.Context(), s1, "x"), hsm.ErrKeyNotFound)
	require.ErrorIs(t, signOnce(t.Context(), s2, "x"), hsm.ErrKeyNotFound)
	_, err = two.Lookup(t.Context(), signerRef)
	require.ErrorIs(t, err, hsm.ErrKeyNotFound)

	// A new key under the old name is another key: the old handle must not
	// sign with it.
	_, err = one.Generate(t.Context(), signerRef, hsm.P256, [16]byte{})
	require.NoError(t, err)
	require.ErrorIs(t, signOnce(t.Context(), s1, "x"), hsm.ErrKeyNotFound)
	require.ErrorIs(t, signOnce(t.Context(), s2, "x"), hsm.ErrKeyNotFound)
	s2, err = two.Signer(t.Context(), signerRef)
	require.NoError(t, err)
	require.NoError(t, signOnce(t.Context(), s2, "x"))
}

// SoftHSM makes a file for a new object before it fills it. A process that is
// killed in between must not keep the others from opening the token.
func TestOpenPassesOverAHalfWrittenObject(t *testing.T) {
	t.Parallel()
	soft := softhsmtest.Create(t)
	ref := hsm.Ref{Tenant: "alpha", Role: hsm.RoleSigner, Name: "signer"}
	first := softhsmtest.Open(t, soft.HSM())
	_, err := first.Generate(t.Context(), ref, hsm.P256, [16]byte{1})
	require.NoError(t, err)
	folders, err := filepath.Glob(filepath.Join(soft.Dir, "tokens", "*"))
	require.NoError(t, err)
	require.Len(t, folders, 1)
	generation := make([]byte, 8) // and no attribute
	name := filepath.Join(folders[0], "11111111-2222-3333-4444-555555555555.object")
	require.NoError(t, os.WriteFile(name, generation, 0o600))
	keys, err := first.Keys(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, keys, 1)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOpenHalfWrittenChild$")
	cmd.Env = append(os.Environ(), "HSM_CHILD_TOKEN="+soft.Dir)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// TestOpenHalfWrittenChild is another process, which reads the folder anew.
func TestOpenHalfWrittenChild(t *testing.T) {
	dir := os.Getenv("HSM_CHILD_TOKEN")
	if dir == "" {
		return
	}
	soft, err := softhsm.Load(dir)
	require.NoError(t, err)
	keys, err := softhsmtest.Open(t, soft.HSM()).Keys(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, keys, 1)
}

// A key that can do more than its role is refused by name, whatever else is there.
func TestSelfTestRefusesAKeyThatCanDoMore(t *testing.T) {
	t.Parallel()
	st := softhsmtest.Create(t)
	tok := softhsmtest.Open(t, st.HSM())
	require.NoError(t, tok.SelfTest(t.Context()))
	for _, k := range everyRole {
		_, err := tok.Generate(t.Context(), hsm.Ref{Tenant: "alpha", Role: k.role, Name: string(k.alg)}, k.alg, [16]byte{})
		require.NoError(t, err)
	}
	require.NoError(t, tok.SelfTest(t.Context()))
	r := second(t, st)
	s := r.session(t)
	ref := hsm.Ref{Tenant: "alpha", Role: hsm.RoleSigner, Name: "more"}
	r.plant(t, s, ref.String(), append(make([]byte, 15), 9), true, true, p11.NewAttribute(p11.CKA_DECRYPT, true))
	err := tok.SelfTest(t.Context())
	require.ErrorIs(t, err, hsm.ErrTemplate)
	require.ErrorContains(t, err, ref.String())
	require.ErrorContains(t, err, "0x105")
	r.plant(t, s, "signet/1/alpha/signer/half/0", append(make([]byte, 15), 10), true, false) // debris is no danger
	require.NoError(t, tok.Destroy(t.Context(), ref))
	require.NoError(t, tok.SelfTest(t.Context()))
}
