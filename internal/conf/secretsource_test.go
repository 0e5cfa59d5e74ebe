package conf_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/conf"
)

func TestSecretFile(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"1234":       "1234",
		"1234\n":     "1234",
		"1234\r\n":   "1234",
		"1234\n\n":   "1234\n", // one newline only: the rest may belong to the secret
		" 12 34 \n":  " 12 34 ",
		"\x00\xff\n": "\x00\xff",
	} {
		for _, mode := range []os.FileMode{0o600, 0o400} {
			got, err := conf.SecretSource{File: write(t, "pin", mode, in)}.Read(t.Context())
			require.NoError(t, err)
			require.Equal(t, want, string(got.Reveal()))
		}
	}
}

func TestSecretFileRefused(t *testing.T) {
	t.Parallel()
	for _, mode := range []os.FileMode{0o640, 0o604, 0o644, 0o660, 0o610, 0o666} {
		_, err := conf.SecretSource{File: write(t, "pin", mode, "hunter2")}.Read(t.Context())
		require.ErrorContains(t, err, "open to others")
		require.NotContains(t, err.Error(), "hunter2")
	}
	for name, content := range map[string]string{"is empty": "\n", "holds more than": strings.Repeat("x", 64<<10+1)} {
		_, err := conf.SecretSource{File: write(t, "pin", 0o600, content)}.Read(t.Context())
		require.ErrorContains(t, err, name)
	}
	dir := t.TempDir()
	_, err := conf.SecretSource{File: dir}.Read(t.Context())
	require.ErrorContains(t, err, "not a regular file")
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	_, err = conf.SecretSource{File: fifo}.Read(t.Context())
	require.ErrorContains(t, err, "not a regular file")
	_, err = conf.SecretSource{File: filepath.Join(dir, "none")}.Read(t.Context())
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = conf.SecretSource{}.Read(t.Context())
	require.ErrorContains(t, err, "needs file, fd")
	if os.Geteuid() == 0 {
		alien := write(t, "pin", 0o600, "x")
		require.NoError(t, os.Chown(alien, 12345, 12345))
		_, err = conf.SecretSource{File: alien}.Read(t.Context())
		require.ErrorContains(t, err, "belongs to uid 12345")
	}
}

// A second read asks no descriptor, and one caller's Wipe is not another's.
func TestSecretDescriptorIsReadOnce(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	_, err = w.WriteString("1234\n")
	require.NoError(t, err)
	require.NoError(t, w.Close())
	src := conf.SecretSource{FD: handOver(t, r)}
	for range 3 {
		got, err := src.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, "1234", string(got.Reveal()))
		got.Wipe()
	}
}

var nextFD atomic.Int64

// handOver returns a descriptor that no os.File owns, as an inherited one is.
func handOver(t *testing.T, f *os.File) *int {
	t.Helper()
	fd, err := syscall.Dup(int(f.Fd()))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	// Numbers are reused within this process, which a drained one never is in
	// production: take one that no other test gets.
	high := 300 + int(nextFD.Add(1))
	require.NoError(t, syscall.Dup3(fd, high, syscall.O_CLOEXEC))
	require.NoError(t, syscall.Close(fd))
	return &high
}

func TestSecretDescriptorEndsWithTheContext(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer func() { _ = w.Close() }() // a parent that never writes
	src := conf.SecretSource{FD: handOver(t, r)}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = src.Read(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	// Closed by now; the number could be anybody's.
	_, err = src.Read(t.Context())
	require.Error(t, err)
}

func TestSecretDescriptorRefused(t *testing.T) {
	t.Parallel()
	null, err := os.Open("/dev/null")
	require.NoError(t, err)
	_, err = conf.SecretSource{FD: handOver(t, null)}.Read(t.Context())
	require.ErrorContains(t, err, "not a pipe, socket or file")
	closed := 19999
	_, err = conf.SecretSource{FD: &closed}.Read(t.Context())
	require.ErrorIs(t, err, syscall.EBADF)
}
