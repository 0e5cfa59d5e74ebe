package softhsmtest

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/hsmtest/faultmodule"
	"github.com/signet-hsm/signet/softhsm"
)

// New returns an open token of the test's own. It ends with the test.
func New(tb testing.TB) *hsm.Token {
	tb.Helper()
	return Open(tb, Create(tb).HSM())
}

// Create makes a token without opening it: in memory where there is a tmpfs (a
// key pair takes 2 ms there and 20 ms on a disk), with its own copy of the
// module. It is destroyed with the test.
func Create(tb testing.TB) *softhsm.Token {
	tb.Helper()
	base := ""
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		base = "/dev/shm"
	}
	dir, err := os.MkdirTemp(base, "signet-softhsm-")
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	label := tb.Name()
	if len(label) > 32 {
		label = label[len(label)-32:]
	}
	token, err := softhsm.Create(tb.Context(), dir, strings.TrimSpace(label))
	require.NoError(tb, err)
	require.NoError(tb, token.Isolate())
	return token
}

// Faulty is Create with the fault module before SoftHSM: set its rules while the
// token is in use.
func Faulty(tb testing.TB) (*softhsm.Token, *faultmodule.Module) {
	tb.Helper()
	token := Create(tb)
	m := faultmodule.New(tb, token.Dir, token.Module)
	token.Module = m.Path
	return token, m
}

// Open opens a token and closes it with the test.
func Open(tb testing.TB, c hsm.Config) *hsm.Token {
	tb.Helper()
	t, err := hsm.Open(tb.Context(), c)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, t.Close()) })
	return t
}
