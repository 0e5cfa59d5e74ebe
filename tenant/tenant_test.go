package tenant_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/tenant"
)

func TestParse(t *testing.T) {
	for _, ok := range []string{"abc", "master", "a-b_c.9", "000", strings.Repeat("a", 64)} {
		id, err := tenant.Parse(ok)
		require.NoError(t, err, ok)
		require.Equal(t, ok, id.String())
	}
	for _, bad := range []string{
		"", "ab", "Master", "-ab", "_system", "a b", "a/b", "ä-tenant", "a\x00b", "abc\n", strings.Repeat("a", 65),
	} {
		_, err := tenant.Parse(bad)
		require.ErrorIs(t, err, tenant.ErrInvalid, "%q", bad)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("master")
	f.Add("_system")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := tenant.Parse(s)
		if err != nil {
			require.True(t, id.IsZero())
			return
		}
		require.Equal(t, s, id.String())
		require.NotEqual(t, tenant.System, id)
	})
}
