package apitest

import (
	"go/parser"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSentinelsAreFound(t *testing.T) {
	t.Parallel()
	require.Equal(t, map[string]string{"ErrUnavailable": "UNAVAILABLE"}, Sentinels(t, "fault"))
	for expr, want := range map[string]string{
		`fault.New(fault.Invalid, "REASON", "text")`: "REASON",
		`invalid("REASON", "text")`:                  "REASON",
		`other`:                                      "",
	} {
		e, err := parser.ParseExpr(expr)
		require.NoError(t, err)
		require.Equal(t, want, firstText(e))
	}
}
