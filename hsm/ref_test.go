package hsm_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/hsm"
)

func TestParseRef(t *testing.T) {
	t.Parallel()
	for label, want := range map[string]hsm.Ref{
		"signet/1/alpha/signer/ast/0":                   {Tenant: "alpha", Role: hsm.RoleSigner, Name: "ast"},
		"signet/1/_system/kek/data/12":                  {Tenant: "_system", Role: hsm.RoleKEK, Name: "data", Generation: 12},
		"signet/1/a-b_c.9/master/01HZX@x:y+z=~/0":       {Tenant: "a-b_c.9", Role: hsm.RoleMaster, Name: "01HZX@x:y+z=~"},
		"signet/1/alpha/mac/pepper/9223372036854775807": {Tenant: "alpha", Role: hsm.RoleMAC, Name: "pepper", Generation: 1<<63 - 1},
	} {
		got, err := hsm.ParseRef(label)
		require.NoError(t, err, label)
		require.Equal(t, want, got)
		require.Equal(t, label, got.String())
	}
	for _, bad := range []string{
		"", "signet/1/", "signet/1/alpha/signer/ast", "signet/1/alpha/signer/ast/0/", "signet/1/alpha/signer/ast/0/1",
		"signet/2/alpha/signer/ast/0", "Signet/1/alpha/signer/ast/0", "signet/1//signer/ast/0", "signet/1/alpha//ast/0",
		"signet/1/alpha/signer//0", "signet/1/alpha/signer/ast/", "signet/1/alpha/signer/ast/00", "signet/1/alpha/signer/ast/01",
		"signet/1/alpha/signer/ast/+1", "signet/1/alpha/signer/ast/-1", "signet/1/alpha/signer/ast/1e3", "signet/1/alpha/signer/ast/ 1",
		"signet/1/alpha/wizard/ast/0", "signet/1/alpha/signer/a st/0", "signet/1/alpha/signer/a\x00/0", "signet/1/älpha/signer/a/0",
		"signet/1/alpha/signer/ast/9223372036854775808", "signet/1/alpha/signer/" + strings.Repeat("a", 255) + "/0",
	} {
		_, err := hsm.ParseRef(bad)
		require.ErrorIs(t, err, hsm.ErrRef, "%q", bad)
	}
}

// What parses is valid and formats to itself: two labels never name one key.
func FuzzParseRef(f *testing.F) {
	f.Add("signet/1/alpha/signer/ast/0")
	f.Add("signet/1/_system/kek/data/12")
	f.Add("signet/1/alpha/signer/ast/00")
	f.Add("signet/1/a/b/c/d/e")
	f.Fuzz(func(t *testing.T, label string) {
		r, err := hsm.ParseRef(label)
		if err != nil {
			require.ErrorIs(t, err, hsm.ErrRef)
			require.Zero(t, r)
			return
		}
		require.NoError(t, r.Validate())
		require.Equal(t, label, r.String())
	})
}
