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
// library and so with its login; and counts what has no class, which SoftHSM
// leaves of a file that it was writing.
func Objects(tb testing.TB, token *softhsm.Token) (list []Object, stubs int) {
	tb.Helper()
	c := p11.New(token.Module)
	slots, err := c.GetSlotList(true)
	require.NoError(tb, err)
	for _, slot := range slots {
		if info, err := c.GetTokenInfo(slot); err != nil || info.Label != token.Label {
			continue
		}
		s, err := c.OpenSession(slot, p11.CKF_SERIAL_SESSION)
		require.NoError(tb, err)
		require.NoError(tb, c.FindObjectsInit(s, nil))
		found, _, err := c.FindObjects(s, 10_000)
		require.NoError(tb, err)
		require.NoError(tb, c.FindObjectsFinal(s))
		for _, o := range found {
			v, err := c.GetAttributeValue(s, o, []*p11.Attribute{
				p11.NewAttribute(p11.CKA_CLASS, nil), p11.NewAttribute(p11.CKA_LABEL, nil), p11.NewAttribute(p11.CKA_ID, nil),
			})
			if err != nil {
				stubs++
				continue
			}
			object := Object{Label: string(v[1].Value)}
			copy(object.ID[:], v[2].Value)
			list = append(list, object)
		}
		require.NoError(tb, c.CloseSession(s))
	}
	return list, stubs
}
