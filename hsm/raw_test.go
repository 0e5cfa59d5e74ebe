package hsm_test

import (
	"testing"

	p11 "github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/softhsm"
)

// raw is a second handle on a loaded module: what another library in the process
// could do to us.
type raw struct {
	*p11.Ctx
	slot uint
}

func second(t *testing.T, st *softhsm.Token) raw {
	t.Helper()
	c := p11.New(st.Module)
	require.NotNil(t, c)
	slots, err := c.GetSlotList(true)
	require.NoError(t, err)
	for _, id := range slots {
		if info, err := c.GetTokenInfo(id); err == nil && info.Label == st.Label {
			return raw{c, id}
		}
	}
	t.Fatal("no such token")
	return raw{}
}

func (r raw) session(t *testing.T) p11.SessionHandle {
	t.Helper()
	s, err := r.OpenSession(r.slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	require.NoError(t, err)
	return s
}

// count returns how many token objects have the label; "" counts all.
func (r raw) count(t *testing.T, s p11.SessionHandle, label string) int {
	t.Helper()
	return len(r.all(t, s, label))
}

func (r raw) all(t *testing.T, s p11.SessionHandle, label string) []p11.ObjectHandle {
	t.Helper()
	tpl := []*p11.Attribute{p11.NewAttribute(p11.CKA_TOKEN, true)} // not the session copies
	if label != "" {
		tpl = append(tpl, p11.NewAttribute(p11.CKA_LABEL, label))
	}
	require.NoError(t, r.FindObjectsInit(s, tpl))
	list, _, err := r.FindObjects(s, 1000)
	require.NoError(t, err)
	require.NoError(t, r.FindObjectsFinal(s))
	return list
}

// halves returns the key's objects; public is 0 for a secret key.
func (r raw) halves(t *testing.T, s p11.SessionHandle, ref hsm.Ref) (private, public p11.ObjectHandle) {
	t.Helper()
	for _, h := range r.all(t, s, ref.String()) {
		v, err := r.GetAttributeValue(s, h, []*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, nil)})
		require.NoError(t, err)
		if v[0].Value[0] == p11.CKO_PUBLIC_KEY {
			public = h
		} else {
			private = h
		}
	}
	require.NotZero(t, private)
	return private, public
}

// victim is a session key that may be wrapped, wrapper one that can wrap: with
// them a refusal can only come from the key under test.
func (r raw) victim(t *testing.T, s p11.SessionHandle) p11.ObjectHandle {
	return r.sessionKey(t, s, p11.CKA_EXTRACTABLE)
}

func (r raw) wrapper(t *testing.T, s p11.SessionHandle) p11.ObjectHandle {
	return r.sessionKey(t, s, p11.CKA_WRAP)
}

func (r raw) sessionKey(t *testing.T, s p11.SessionHandle, bit uint) p11.ObjectHandle {
	t.Helper()
	h, err := r.GenerateKey(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_GEN, nil)}, []*p11.Attribute{
		p11.NewAttribute(p11.CKA_TOKEN, false), p11.NewAttribute(p11.CKA_VALUE_LEN, 32), p11.NewAttribute(bit, true),
	})
	require.NoError(t, err)
	return h
}

// somePoint is a P-256 point, DER encoded.
func (r raw) somePoint(t *testing.T, s p11.SessionHandle) []byte {
	t.Helper()
	pub, _, err := r.GenerateKeyPair(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_EC_KEY_PAIR_GEN, nil)},
		[]*p11.Attribute{p11.NewAttribute(p11.CKA_EC_PARAMS, p256OID), p11.NewAttribute(p11.CKA_TOKEN, false)},
		[]*p11.Attribute{p11.NewAttribute(p11.CKA_TOKEN, false)})
	require.NoError(t, err)
	v, err := r.GetAttributeValue(s, pub, []*p11.Attribute{p11.NewAttribute(p11.CKA_EC_POINT, nil)})
	require.NoError(t, err)
	return v[0].Value
}

var p256OID = []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}
