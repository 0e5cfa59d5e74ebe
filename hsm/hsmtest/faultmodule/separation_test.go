package faultmodule_test

import (
	"log/slog"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/broker"
	"github.com/signet-hsm/signet/hsm/hsmtest/faultmodule"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

// A module that lets one of the attempts pass is not opened, in no mode; nothing
// of the proof stays on the token.
func TestSeparationIsProvedAtStart(t *testing.T) {
	t.Parallel()
	const ok = p11.CKR_OK
	for name, rules := range map[string][]faultmodule.Rule{
		"be wrapped":       {{On: "C_WrapKey", Do: faultmodule.Return, Value: ok}},
		"unwrap":           {{On: "C_UnwrapKey", Do: faultmodule.Return, Value: p11.CKR_WRAPPED_KEY_INVALID}},
		"encrypt":          {{On: "C_EncryptInit", Do: faultmodule.Return, Value: ok}},
		"decrypt":          {{On: "C_DecryptInit", Do: faultmodule.Return, Value: ok}},
		"sign":             {{On: "C_SignInit", Do: faultmodule.Return, Value: ok}},
		"derive":           {{On: "C_DeriveKey", Do: faultmodule.Return, Value: ok}},
		"gain EXTRACTABLE": {{On: "C_SetAttributeValue", Do: faultmodule.Return, Value: ok}, {On: "C_GetAttributeValue", Do: faultmodule.Lie, Value: p11.CKA_EXTRACTABLE, Extra: 1}},
		"lose SENSITIVE":   {{On: "C_SetAttributeValue", Do: faultmodule.Return, Value: ok}, {On: "C_GetAttributeValue", Do: faultmodule.Lie, Value: p11.CKA_SENSITIVE, Extra: 0}},
		"gain MODIFIABLE":  {{On: "C_SetAttributeValue", Do: faultmodule.Return, Value: ok}, {On: "C_GetAttributeValue", Do: faultmodule.Lie, Value: p11.CKA_MODIFIABLE, Extra: 1}},
	} {
		for _, m := range modes {
			t.Run(name+" "+m.name, func(t *testing.T) {
				t.Parallel()
				st, f := softhsmtest.Faulty(t)
				for _, rule := range rules {
					f.Inject(rule)
				}
				_, err := m.open(t.Context(), broker.Config{HSM: st.HSM()})
				require.ErrorIs(t, err, hsm.ErrSeparation)
				require.ErrorContains(t, err, "can "+name)
				require.LessOrEqual(t, f.Calls("C_Login"), 1)
			})
		}
	}
}

// Refusals are not proof when the module refuses because it is out of order.
func TestSeparationIsNotProvedByAnOutage(t *testing.T) {
	t.Parallel()
	st, f := softhsmtest.Faulty(t)
	f.Inject(faultmodule.Rule{On: "C_WrapKey", Do: faultmodule.Return, Value: p11.CKR_USER_NOT_LOGGED_IN})
	_, err := hsm.Open(t.Context(), st.HSM())
	require.Error(t, err)
	require.NotErrorIs(t, err, hsm.ErrSeparation)
}

// A module that makes no session keys is told apart from one that is proved.
func TestSeparationUnproven(t *testing.T) {
	t.Parallel()
	st, f := softhsmtest.Faulty(t)
	rule := f.Inject(faultmodule.Rule{On: "C_GenerateKeyPair", Do: faultmodule.Return, Value: p11.CKR_TEMPLATE_INCONSISTENT})
	var text strings.Builder
	c := st.HSM()
	c.Logger = slog.New(slog.NewTextHandler(&text, nil))
	tok := softhsmtest.Open(t, c)
	require.Contains(t, text.String(), "separation of keys is not proved")
	require.Contains(t, text.String(), "signer")
	rule.Stop()
	keys, err := tok.Keys(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, keys)
}
