package obs_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/obs"
)

func TestOneEventIsOneLine(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "text"} {
		var b bytes.Buffer
		l, err := obs.NewLogger(&b, obs.Log{Format: format})
		require.NoError(t, err)
		l.Info("request", "user", "a\r\nlevel=ERROR forged\x1b[31m\u2028")
		l.Debug("hidden at info")
		require.Equal(t, 1, strings.Count(b.String(), "\n"), b.String())
		require.NotContains(t, b.String(), "\x1b")
		require.NotContains(t, b.String(), "\r")
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	require.NoError(t, obs.Log{Level: "warn", Format: "text"}.Validate())
	require.ErrorContains(t, obs.Log{Level: "loud"}.Validate(), "log.level")
	require.ErrorContains(t, obs.Log{Format: "xml"}.Validate(), "log.format")
}

func TestRegistriesAreIndependent(t *testing.T) {
	t.Parallel()
	for range 2 {
		families, err := obs.NewRegistry("v1").Gather()
		require.NoError(t, err)
		require.NotEmpty(t, families)
	}
}
