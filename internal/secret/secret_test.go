package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/secret"
)

func TestNothingPrintsTheContent(t *testing.T) {
	const pin = "hunter2-1234"
	s := secret.New([]byte(pin))
	holder := struct{ PIN, hidden secret.Bytes }{s, s}
	js, err := json.Marshal(holder)
	require.NoError(t, err)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "pin", s, "holder", holder)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "pin", s, "holder", holder)
	out := string(js) + log.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		out += fmt.Sprintf(verb, s) + fmt.Sprintf(verb, holder) + fmt.Sprintf(verb, &s)
	}
	require.NotContains(t, out, pin)
	require.NotContains(t, out, fmt.Sprintf("%x", pin))
	require.NotContains(t, out, "104 117 110") // decimal bytes of "hun"
}

func TestEqualAndWipe(t *testing.T) {
	s := secret.New([]byte("abc"))
	require.True(t, s.Equal([]byte("abc")))
	require.False(t, s.Equal([]byte("abd")))
	require.False(t, s.Equal([]byte("ab")))
	s.Wipe()
	require.Equal(t, []byte{0, 0, 0}, s.Reveal())
	require.Error(t, s.UnmarshalText([]byte("x")))
}
