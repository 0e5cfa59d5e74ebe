package conf_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/conf"
)

// TestPromptChild is the process that is asked; it runs in a terminal of its own.
func TestPromptChild(t *testing.T) {
	if os.Getenv("SIGNET_PROMPT_CHILD") != "1" {
		return // it is the other test's
	}
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt)
	defer stop()
	source := conf.SecretSource{Prompt: "PIN of token root"}
	for range 2 { // the second time nobody is asked
		pin, err := source.Read(ctx)
		if err != nil {
			fmt.Println("failed:", err)
			os.Exit(3)
		}
		sum := sha256.Sum256(pin.Reveal())
		fmt.Println("read", hex.EncodeToString(sum[:8]))
		pin.Wipe()
	}
	conf.Forget()
	os.Exit(0)
}

func TestPrompt(t *testing.T) {
	t.Parallel()
	const pin = "correct horse 7731"
	sum := sha256.Sum256([]byte(pin))
	for name, c := range map[string]struct{ typed, want string }{
		"typed":       {pin + "\n", strings.Repeat("read "+hex.EncodeToString(sum[:8])+"\r\n", 2)},
		"interrupted": {"corr\x03", "failed: conf: secret: prompt: context canceled\r\n"},
		"nothing":     {"\n", "failed: conf: secret: prompt: nothing was typed\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPromptChild$")
			cmd.Env = append(os.Environ(), "SIGNET_PROMPT_CHILD=1")
			tty, err := pty.Start(cmd)
			require.NoError(t, err)
			defer tty.Close()
			var seen bytes.Buffer
			for !strings.HasSuffix(seen.String(), "PIN of token root: ") {
				_, err := io.CopyN(&seen, tty, 1)
				require.NoError(t, err, "%q", seen.String())
			}
			_, err = tty.WriteString(c.typed)
			require.NoError(t, err)
			_, _ = io.Copy(&seen, tty) // ends with EIO when the child has gone
			_ = cmd.Wait()
			require.Contains(t, seen.String(), c.want)
			require.NotContains(t, seen.String(), pin)
			require.NotContains(t, seen.String(), "corr", "what is typed is not echoed")
			require.Equal(t, 1, strings.Count(seen.String(), "PIN of"))
		})
	}
}

func TestPromptWithoutTerminal(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := conf.SecretSource{Prompt: "PIN"}.Read(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

func TestCredential(t *testing.T) {
	dir := t.TempDir()
	source := conf.SecretSource{Credential: "signet.pin"}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	_, err := source.Read(t.Context())
	require.ErrorContains(t, err, "LoadCredential=signet.pin")
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	_, err = source.Read(t.Context())
	require.ErrorIs(t, err, os.ErrNotExist)
	// systemd's files are 0440 of root with an ACL for the service.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "signet.pin"), []byte("1234\n"), 0o440))
	pin, err := source.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, "1234", string(pin.Reveal()))
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(dir, "link")))
	_, err = conf.SecretSource{Credential: "link"}.Read(t.Context())
	require.Error(t, err)
	_, err = conf.SecretSource{Credential: "."}.Read(t.Context())
	require.Error(t, err)
}

func TestSourcesExcludeEachOther(t *testing.T) {
	t.Parallel()
	fd := 3
	for _, bad := range []conf.SecretSource{
		{},
		{File: "a", FD: &fd},
		{File: "a", Credential: "b"},
		{Credential: "b", Prompt: "c"},
		{Credential: "../b"},
		{Credential: ".."},
		{Prompt: "a\nb"},
		{Prompt: "a\x1b[2J"},
	} {
		require.Error(t, bad.Validate(), "%+v", bad)
	}
	for _, good := range []conf.SecretSource{{File: "a"}, {FD: &fd}, {Credential: "b"}, {Prompt: "PIN of token \"root\""}} {
		require.NoError(t, good.Validate(), "%+v", good)
	}
}
