package reqid_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/api/internal/reqid"
)

func TestPick(t *testing.T) {
	t.Parallel()
	for _, ok := range []string{"a", "0195f3a2-1.2_B", strings.Repeat("x", 64)} {
		require.Equal(t, ok, reqid.Pick(ok))
	}
	for _, bad := range []string{"", strings.Repeat("x", 65), "a b", "a\nb", "ä", "a\"b"} {
		got := reqid.Pick(bad)
		require.NotEqual(t, bad, got)
		require.Len(t, got, 26)
	}
	require.Equal(t, "x", reqid.From(reqid.With(t.Context(), "x")))
	require.Empty(t, reqid.From(t.Context()))
}
