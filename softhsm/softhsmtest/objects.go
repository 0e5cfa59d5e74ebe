package softhsmtest

import (
	"testing"

	p11 "github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/softhsm"
)

// Object is an object on a token with the eyes of another program than hsm.
type Object struct {
	Label string
	ID    [16]byte
}

// Objects lists what is on a token that this process has open, through the same
// library and so with its login; and counts what has no class or no label, which
// SoftHSM leaves of a file that it was writing: nobody can tell whose it is.
func Objects(tb testing.TB, token *softhsm.Token) (list []Object, stubs int) {
	tb.Helper()
	each(tb, token, nil, func(c *p11.Ctx, s p11.SessionHandle, found []p11.ObjectHandle) {
		for _, o := range found {
			v, err := c.GetAttributeValue(s, o, []*p11.Attribute{
				p11.NewAttribute(p11.CKA_CLASS, nil), p11.NewAttribute(p11.CKA_LABEL, nil), p11.NewAttribute(p11.CKA_ID, nil),
			})
			if err != nil || len(v[1].Value) == 0 {
				stubs++
				continue
			}
			object := Object{Label: string(v[1].Value)}
			copy(object.ID[:], v[2].Value)
			list = append(list, object)
		}
	})
	return list, stubs
}

// Halve destroys the private half of a key pair, as a process that was killed
// between the two would not have made it.
func Halve(tb testing.TB, token *softhsm.Token, label string) {
	tb.Helper()
	halved := 0
	each(tb, token, []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY), p11.NewAttribute(p11.CKA_LABEL, label),
	}, func(c *p11.Ctx, s p11.SessionHandle, found []p11.ObjectHandle) {
		for _, o := range found {
			require.NoError(tb, c.DestroyObject(s, o))
			halved++
		}
	})
	require.Equal(tb, 1, halved)
}

// each gives the objects of the token that match in a session.
func each(tb testing.TB, token *softhsm.Token, match []*p11.Attribute, do func(*p11.Ctx, p11.SessionHandle, []p11.ObjectHandle)) {
	tb.Helper()
	c := p11.New(token.Module)
	slots, err := c.GetSlotList(true)
	require.NoError(tb, err)
	for _, slot := range slots {
		if info, err := c.GetTokenInfo(slot); err != nil || info.Label != token.Label {
			continue
		}
		s, err := c.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
		require.NoError(tb, err)
		require.NoError(tb, c.FindObjectsInit(s, match))
		found, _, err := c.FindObjects(s, 10_000)
		require.NoError(tb, err)
		require.NoError(tb, c.FindObjectsFinal(s))
		do(c, s, found)
		require.NoError(tb, c.CloseSession(s))
	}
}
