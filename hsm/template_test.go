package hsm_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	p11 "github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

// everyRole is one key of each role, and of each kind of signer.
var everyRole = []struct {
	role hsm.Role
	alg  hsm.Algorithm
	// may lists what the private or secret half can do; all else must be refused.
	may map[string]bool
}{
	{hsm.RoleRoot, hsm.P384, map[string]bool{"sign": true}},
	{hsm.RoleIssuer, hsm.P256, map[string]bool{"sign": true}},
	{hsm.RoleSigner, hsm.P256, map[string]bool{"sign": true}},
	{hsm.RoleSigner, hsm.RSA2048, map[string]bool{"sign": true}},
	{hsm.RoleSigner, hsm.Ed25519, map[string]bool{"sign": true}},
	{hsm.RoleMaster, hsm.P256, map[string]bool{"sign": true, "derive": true}},
	{hsm.RoleKEK, hsm.AES256, map[string]bool{"encrypt": true, "decrypt": true}},
	{hsm.RoleMAC, hsm.HMACSHA256, map[string]bool{"sign": true}},
	{hsm.RoleAudit, hsm.P256, map[string]bool{"sign": true}},
	{hsm.RoleOCSP, hsm.P256, map[string]bool{"sign": true}},
}

// A key does what its role says and nothing else, whatever somebody with the same
// login asks of the module.
func TestKeysRefuseWhatTheirRoleDoesNotSay(t *testing.T) {
	t.Parallel()
	st := softhsmtest.Create(t)
	tok := softhsmtest.Open(t, st.HSM())
	r := second(t, st)
	for _, k := range everyRole {
		t.Run(fmt.Sprint(k.role, " ", k.alg), func(t *testing.T) {
			ref := hsm.Ref{Tenant: "alpha", Role: k.role, Name: string(k.alg)}
			_, err := tok.Generate(t.Context(), ref, k.alg, [16]byte{})
			require.NoError(t, err)
			s := r.session(t)
			defer func() { _ = r.CloseSession(s) }()
			private, public := r.halves(t, s, ref)

			sign, decrypt, wrap := uint(p11.CKM_ECDSA), uint(p11.CKM_AES_GCM), uint(p11.CKM_AES_KEY_WRAP)
			switch k.alg {
			case hsm.RSA2048:
				sign, decrypt, wrap = p11.CKM_RSA_PKCS, p11.CKM_RSA_PKCS, p11.CKM_RSA_PKCS
			case hsm.Ed25519:
				sign = 0x1057
			case hsm.HMACSHA256, hsm.AES256:
				sign = p11.CKM_SHA256_HMAC
			}
			mech := func(m uint) []*p11.Mechanism {
				if m == p11.CKM_AES_GCM {
					return []*p11.Mechanism{p11.NewMechanism(m, p11.NewGCMParams(make([]byte, 12), []byte("a"), 128))}
				}
				return []*p11.Mechanism{p11.NewMechanism(m, nil)}
			}
			target := r.victim(t, s)
			ecdh := p11.NewMechanism(p11.CKM_ECDH1_DERIVE, p11.NewECDH1DeriveParams(p11.CKD_NULL, nil, r.somePoint(t, s)))
			session := []*p11.Attribute{p11.NewAttribute(p11.CKA_TOKEN, false)}
			uses := map[string]func(p11.SessionHandle) error{
				"sign":    func(s p11.SessionHandle) error { return r.SignInit(s, mech(sign), private) },
				"decrypt": func(s p11.SessionHandle) error { return r.DecryptInit(s, mech(decrypt), private) },
				"encrypt": func(s p11.SessionHandle) error { return r.EncryptInit(s, mech(decrypt), private) },
				"derive": func(s p11.SessionHandle) error {
					_, err := r.DeriveKey(s, []*p11.Mechanism{ecdh}, private, []*p11.Attribute{
						p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_GENERIC_SECRET),
						p11.NewAttribute(p11.CKA_VALUE_LEN, 32), p11.NewAttribute(p11.CKA_TOKEN, false),
					})
					return err
				},
				"wrap": func(s p11.SessionHandle) error {
					_, err := r.WrapKey(s, mech(wrap), private, target)
					return err
				},
				"wrap with the public half": func(s p11.SessionHandle) error {
					if public == 0 {
						return p11.Error(p11.CKR_KEY_HANDLE_INVALID)
					}
					_, err := r.WrapKey(s, mech(wrap), public, target)
					return err
				},
				"encrypt with the public half": func(s p11.SessionHandle) error { return r.EncryptInit(s, mech(decrypt), public) },
				"unwrap": func(s p11.SessionHandle) error {
					_, err := r.UnwrapKey(s, mech(wrap), private, make([]byte, 40), []*p11.Attribute{
						p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_AES), p11.NewAttribute(p11.CKA_TOKEN, false),
					})
					return err
				},
				"be wrapped": func(s p11.SessionHandle) error {
					_, err := r.WrapKey(s, mech(p11.CKM_AES_KEY_WRAP), r.wrapper(t, s), private)
					return err
				},
				"be copied": func(s p11.SessionHandle) error {
					_, err := r.CopyObject(s, private, session)
					return err
				},
				"be read": func(s p11.SessionHandle) error {
					_, err := r.GetAttributeValue(s, private, []*p11.Attribute{p11.NewAttribute(p11.CKA_VALUE, nil)})
					return err
				},
			}
			for _, bit := range []uint{
				p11.CKA_WRAP, p11.CKA_UNWRAP, p11.CKA_DECRYPT, p11.CKA_ENCRYPT, p11.CKA_DERIVE, p11.CKA_SIGN, p11.CKA_EXTRACTABLE, p11.CKA_MODIFIABLE, p11.CKA_COPYABLE,
			} {
				uses[fmt.Sprintf("gain attribute 0x%x", bit)] = func(s p11.SessionHandle) error {
					return r.SetAttributeValue(s, private, []*p11.Attribute{p11.NewAttribute(bit, true)})
				}
			}
			uses["lose SENSITIVE"] = func(s p11.SessionHandle) error {
				return r.SetAttributeValue(s, private, []*p11.Attribute{p11.NewAttribute(p11.CKA_SENSITIVE, false)})
			}
			for what, use := range uses {
				s := r.session(t)
				err := use(s)
				_ = r.CloseSession(s)
				if k.may[what] {
					require.NoError(t, err, what)
				} else {
					require.Error(t, err, what)
				}
			}
		})
	}
}

// A module that does not do as it is told: every attribute that is read back
// differently destroys the key, both halves.
func TestMismatchDestroysTheKey(t *testing.T) {
	t.Parallel()
	st, f := wrapped(t)
	tok := softhsmtest.Open(t, st.HSM())
	r := second(t, st)
	s := r.session(t)
	for _, k := range everyRole {
		for _, lie := range []struct {
			typ   uint
			value byte
		}{
			{p11.CKA_LOCAL, 0},
			{p11.CKA_ALWAYS_SENSITIVE, 0},
			{p11.CKA_NEVER_EXTRACTABLE, 0},
			{p11.CKA_SENSITIVE, 0},
			{p11.CKA_EXTRACTABLE, 1},
			{p11.CKA_MODIFIABLE, 1},
			{p11.CKA_COPYABLE, 1},
			{p11.CKA_TOKEN, 0},
			{p11.CKA_DERIVE, 2},
			{p11.CKA_SIGN, 2},
			{p11.CKA_ALLOWED_MECHANISMS, 0},
		} {
			if k.alg == hsm.RSA2048 && lie.typ != p11.CKA_EXTRACTABLE {
				continue // slow to generate, and the same code
			}
			f.set(func(f *faults) {
				f.onRead = func(a *p11.Attribute) {
					if a.Type == lie.typ && len(a.Value) > 0 {
						a.Value = append([]byte{lie.value}, a.Value[1:]...)
					}
				}
			})
			ref := hsm.Ref{Tenant: "alpha", Role: k.role, Name: "liar"}
			_, err := tok.Generate(t.Context(), ref, k.alg, [16]byte{})
			require.ErrorIs(t, err, hsm.ErrTemplate, "%s %s 0x%x", k.role, k.alg, lie.typ)
			f.set(func(f *faults) { f.onRead = nil })
			require.Zero(t, r.count(t, s, ref.String()), "%s %s 0x%x", k.role, k.alg, lie.typ)
			_, err = tok.Lookup(t.Context(), ref)
			require.ErrorIs(t, err, hsm.ErrKeyNotFound)
		}
	}
}

// A key that signs wrongly does not survive its creation.
func TestSelfTestDestroysTheKey(t *testing.T) {
	t.Parallel()
	st, f := wrapped(t)
	tok := softhsmtest.Open(t, st.HSM())
	r := second(t, st)
	s := r.session(t)
	f.set(func(f *faults) {
		f.onSign = func(sig []byte, err error) ([]byte, error) {
			if err == nil {
				sig[len(sig)-1] ^= 1
			}
			return sig, err
		}
	})
	for _, a := range []hsm.Algorithm{hsm.P256, hsm.RSA2048, hsm.Ed25519} {
		_, err := tok.Generate(t.Context(), signerRef, a, [16]byte{})
		require.ErrorIs(t, err, hsm.ErrSelfTest, a)
	}
	require.Zero(t, r.count(t, s, ""))
}

// Creation is never repeated, whatever the error; what a failed creation left is
// swept, and nothing else.
func TestCreationIsNeverRetried(t *testing.T) {
	t.Parallel()
	st, f := wrapped(t)
	tok := softhsmtest.Open(t, st.HSM())
	keep := p256(t, tok)
	r := second(t, st)
	s := r.session(t)
	for _, rv := range []p11.Error{
		p11.CKR_SESSION_HANDLE_INVALID, p11.CKR_USER_NOT_LOGGED_IN, p11.CKR_DEVICE_ERROR, p11.CKR_FUNCTION_FAILED, p11.CKR_OPERATION_ACTIVE,
	} {
		for _, after := range []bool{false, true} {
			fail := func() error { return rv }
			f.set(func(f *faults) {
				if after { // the key is made, the answer is lost
					f.created = fail
				} else {
					f.onCreate = func([]*p11.Attribute) error { return rv }
				}
			})
			before := f.pairs.Load()
			ref := hsm.Ref{Tenant: "alpha", Role: hsm.RoleSigner, Name: "once"}
			_, err := tok.Generate(t.Context(), ref, hsm.P256, [16]byte{})
			require.ErrorIs(t, err, rv)
			require.EqualValues(t, 1, f.pairs.Load()-before, "%v", rv)
			f.set(func(f *faults) { f.created, f.onCreate = nil, nil })
			require.Zero(t, r.count(t, s, ref.String()), "%v after=%v", rv, after)
			require.NoError(t, signOnce(t.Context(), keep, "x"))
		}
	}
}

// A module of version 2.20 does not know COPYABLE or ALLOWED_MECHANISMS: the key
// is made without them, and everything else is still compared.
func TestModuleWithoutOptionalAttributes(t *testing.T) {
	t.Parallel()
	st, f := wrapped(t)
	tok := softhsmtest.Open(t, st.HSM())
	var refused atomic.Int64
	f.set(func(f *faults) {
		f.onCreate = func(tpl []*p11.Attribute) error {
			for _, a := range tpl {
				if a.Type == p11.CKA_COPYABLE || a.Type == p11.CKA_ALLOWED_MECHANISMS {
					refused.Add(1)
					return p11.Error(p11.CKR_ATTRIBUTE_TYPE_INVALID)
				}
			}
			return nil
		}
	})
	for _, k := range everyRole {
		ref := hsm.Ref{Tenant: "alpha", Role: k.role, Name: string(k.alg)}
		_, err := tok.Generate(t.Context(), ref, k.alg, [16]byte{})
		require.NoError(t, err, "%s %s", k.role, k.alg)
		_, err = tok.Lookup(t.Context(), ref)
		require.NoError(t, err)
	}
	require.EqualValues(t, 1, refused.Load(), "the module is asked once")
}
