package softhsm_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/softhsm"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

func TestCreateLoadDestroy(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "deep", "token")
	_, err := softhsm.Load(dir)
	require.ErrorIs(t, err, softhsm.ErrNoToken)
	made, err := softhsm.Create(t.Context(), dir, "dev")
	require.NoError(t, err)
	_, err = softhsm.Create(t.Context(), dir, "dev")
	require.ErrorIs(t, err, softhsm.ErrExists)

	for name, mode := range map[string]os.FileMode{".": 0o700, "pin": 0o600, "so-pin": 0o600, "softhsm2.conf": 0o600, "tokens": 0o700} {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode().Perm(), name)
	}
	require.Greater(t, made.PIN.Len(), 20)
	require.False(t, made.PIN.Equal(made.SOPIN.Reveal()))
	conf, err := os.ReadFile(made.Conf)
	require.NoError(t, err)
	require.Contains(t, string(conf), "log.level = ERROR")

	require.NoError(t, made.Isolate())
	found, err := softhsm.Load(dir)
	require.NoError(t, err)
	require.Equal(t, made.HSM().TokenLabel, found.HSM().TokenLabel)
	require.Equal(t, filepath.Join(dir, "libsofthsm2.so"), found.Module)
	require.True(t, found.PIN.Equal(made.PIN.Reveal()))
	tok, err := hsm.Open(t.Context(), found.HSM())
	require.NoError(t, err)
	ref := hsm.Ref{Tenant: "alpha", Role: hsm.RoleSigner, Name: "s"}
	_, err = tok.Generate(t.Context(), ref, hsm.P256, [16]byte{})
	require.NoError(t, err)
	require.NoError(t, tok.Close())
	tok, err = hsm.Open(t.Context(), found.HSM()) // keys stay
	require.NoError(t, err)
	_, err = tok.Lookup(t.Context(), ref)
	require.NoError(t, err)
	require.NoError(t, tok.Close())

	require.NoError(t, os.Chmod(filepath.Join(dir, "pin"), 0o640))
	_, err = softhsm.Load(dir)
	require.ErrorIs(t, err, softhsm.ErrExposed)
	require.NoError(t, os.Chmod(filepath.Join(dir, "pin"), 0o600))

	keep := filepath.Join(dir, "mine.txt")
	require.NoError(t, os.WriteFile(keep, nil, 0o600))
	require.NoError(t, found.Destroy())
	require.FileExists(t, keep, "what others put there stays")
	_, err = softhsm.Load(dir)
	require.ErrorIs(t, err, softhsm.ErrNoToken)
	require.ErrorIs(t, found.Destroy(), softhsm.ErrNoToken)
}

// kill -9 in the middle of Create: the next Create starts afresh.
func TestInterruptedCreate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	made, err := softhsm.Create(t.Context(), dir, "dev")
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(dir, "label")))
	_, err = softhsm.Load(dir)
	require.ErrorIs(t, err, softhsm.ErrNoToken)
	again, err := softhsm.Create(t.Context(), dir, "dev")
	require.NoError(t, err)
	require.False(t, again.PIN.Equal(made.PIN.Reveal()))
	entries, err := os.ReadDir(filepath.Join(dir, "tokens"))
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.NoFileExists(t, filepath.Join(dir, "libsofthsm2.so"))

	done, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = softhsm.Create(done, filepath.Join(t.TempDir(), "x"), "dev")
	require.ErrorIs(t, err, context.Canceled)
	_, err = softhsm.Create(t.Context(), t.TempDir(), strings.Repeat("x", 33))
	require.ErrorIs(t, err, hsm.ErrConfig)
}

// Parallel tokens never meet: each sees its own keys only.
func TestTokensDoNotMeet(t *testing.T) {
	t.Parallel()
	ref := hsm.Ref{Tenant: "alpha", Role: hsm.RoleSigner, Name: "s"}
	for range 4 {
		t.Run("token", func(t *testing.T) {
			t.Parallel()
			tok := softhsmtest.New(t)
			keys, err := tok.Keys(t.Context(), nil)
			require.NoError(t, err)
			require.Empty(t, keys)
			_, err = tok.Generate(t.Context(), ref, hsm.P256, [16]byte{})
			require.NoError(t, err)
		})
	}
}

func TestNotInstalled(t *testing.T) {
	t.Setenv("SOFTHSM2_MODULE", filepath.Join(t.TempDir(), "none.so"))
	_, err := softhsm.FindModule()
	require.ErrorIs(t, err, softhsm.ErrNotInstalled)
	require.Contains(t, err.Error(), "apt-get install softhsm2")
	_, err = softhsm.Create(t.Context(), t.TempDir(), "dev")
	require.ErrorIs(t, err, softhsm.ErrNotInstalled)
}

// The environment of the process is as before once a token is open.
func TestEnvironmentIsPutBack(t *testing.T) {
	t.Setenv("SOFTHSM2_CONF", "/somewhere/else")
	_ = softhsmtest.New(t)
	require.Equal(t, "/somewhere/else", os.Getenv("SOFTHSM2_CONF"))
}

// What the scripts make by hand, the package loads, and the other way round.
func TestScripts(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "by-hand")
	run := func(script string, args ...string) string {
		out, err := exec.CommandContext(t.Context(), filepath.Join("scripts", script), args...).CombinedOutput()
		require.NoError(t, err, "%s: %s", script, out)
		return string(out)
	}
	run("create.sh", dir, "by-hand")
	token, err := softhsm.Load(dir)
	require.NoError(t, err)
	require.Equal(t, "by-hand", token.Label)
	require.NoError(t, token.Isolate())
	tok := softhsmtest.Open(t, token.HSM())
	_, err = tok.Generate(t.Context(), hsm.Ref{Tenant: "alpha", Role: hsm.RoleSigner, Name: "s"}, hsm.P256, [16]byte{})
	require.NoError(t, err)
	out := run("inspect.sh", dir)
	require.Contains(t, out, "by-hand")
	require.NotContains(t, out, string(token.PIN.Reveal()))
	run("destroy.sh", dir)
	require.NoDirExists(t, dir)
}
