package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// run is one signet process with its output.
type proc struct {
	cmd *exec.Cmd
	out *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func start(t *testing.T, args ...string) *proc {
	t.Helper()
	p := &proc{cmd: exec.Command("signet", args...), out: &lockedBuffer{}}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
		if t.Failed() {
			t.Logf("signet %s:\n%s", strings.Join(args, " "), p.out)
		}
	})
	return p
}

// wait waits for the process's own end.
func (p *proc) wait(t *testing.T) int {
	t.Helper()
	done := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		_ = p.cmd.Process.Kill()
		<-done
		require.Fail(t, "signet did not end", p.out.String())
	}
	return p.cmd.ProcessState.ExitCode()
}

// until waits for a line and returns the submatches.
func (p *proc) until(t *testing.T, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if m := re.FindStringSubmatch(p.out.String()); m != nil {
			return m
		}
	}
	require.Fail(t, "no line "+pattern, p.out.String())
	return nil
}

func devArgs(dir string, more ...string) []string {
	return append([]string{"dev", "--data", dir, "--rest", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--pki", "127.0.0.1:0"}, more...)
}

func requireGoodTour(t *testing.T, out string) {
	t.Helper()
	require.Contains(t, out, "every line good")
	require.NotContains(t, out, "BAD")
	require.Equal(t, 21, strings.Count(out, "\n  good "), out)
}

// postmaster is the pid of the private cluster's server, 0 when there is none.
func postmaster(dir string) int {
	found, _ := filepath.Glob(filepath.Join(dir, "pg", "*", "postmaster.pid"))
	more, _ := filepath.Glob(filepath.Join(dir, "pg", "postmaster.pid"))
	for _, f := range append(found, more...) {
		raw, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		first, _, _ := strings.Cut(string(raw), "\n")
		pid, err := strconv.Atoi(strings.TrimSpace(first))
		if err == nil && syscall.Kill(pid, 0) == nil {
			return pid
		}
	}
	return 0
}

func TestDevTourOnEveryStart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")

	first := start(t, devArgs(dir, "--exit-after-tour")...)
	require.Zero(t, first.wait(t), first.out)
	requireGoodTour(t, first.out.String())
	require.Zero(t, postmaster(dir), "PostgreSQL outlived signet")
	env, err := readEnv(filepath.Join(dir, "dev.env"))
	require.NoError(t, err)
	for _, key := range []string{
		"SIGNET_REST", "SIGNET_GRPC", "SIGNET_TENANT", "SIGNET_TOKEN_ADMIN_READ", "SIGNET_TOKEN_ADMIN_WRITE",
		"SIGNET_PA_ADMIN", "SIGNET_PA_APP", "SIGNET_PA_APP_ID",
	} {
		require.NotEmpty(t, env[key], key)
	}
	for _, f := range []string{"dev.env", "softhsm/pin", "softhsm/so-pin", "idp-key.json"} {
		st, err := os.Stat(filepath.Join(dir, f))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), st.Mode().Perm(), f)
	}

	// The second start finds everything again, credentials included.
	second := start(t, devArgs(dir, "--exit-after-tour")...)
	require.Zero(t, second.wait(t), second.out)
	requireGoodTour(t, second.out.String())
	again, err := readEnv(filepath.Join(dir, "dev.env"))
	require.NoError(t, err)
	for _, key := range []string{"SIGNET_PA_ADMIN", "SIGNET_PA_APP", "SIGNET_PA_APP_KEY", "SIGNET_PA_MASTER_PUBLIC_KEY"} {
		require.Equal(t, env[key], again[key], key)
	}

	// kill -9, and the next start is none the worse for it.
	killed := start(t, devArgs(dir, "--no-tour")...)
	killed.until(t, `Ctrl-C stops`)
	other := start(t, devArgs(dir)...)
	require.Equal(t, 1, other.wait(t))
	require.Contains(t, other.out.String(), "another signet dev uses")
	require.NoError(t, killed.cmd.Process.Kill())
	killed.wait(t)
	after := start(t, devArgs(dir, "--exit-after-tour")...)
	require.Zero(t, after.wait(t), after.out)
	requireGoodTour(t, after.out.String())
}

func TestDevKilledInItsFirstStart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	for _, delay := range []time.Duration{100 * time.Millisecond, 700 * time.Millisecond, 1500 * time.Millisecond} {
		p := start(t, devArgs(dir)...)
		time.Sleep(delay)
		require.NoError(t, p.cmd.Process.Kill())
		p.wait(t)
	}
	p := start(t, devArgs(dir, "--exit-after-tour")...)
	require.Zero(t, p.wait(t), p.out)
	requireGoodTour(t, p.out.String())
}

// Two instances run beside each other, the printed lines work when pasted, and
// Ctrl-C leaves nothing behind.
func TestDevBesideAnotherAndCtrlC(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"curl", "sh"} {
		_, err := exec.LookPath(tool)
		require.NoError(t, err, "this test pastes the printed lines: install "+tool)
	}
	base := t.TempDir()
	a := start(t, devArgs(filepath.Join(base, "a"), "--no-tour")...)
	b := start(t, devArgs(filepath.Join(base, "b"), "--no-tour")...)
	for _, p := range []*proc{a, b} {
		p.until(t, `Ctrl-C stops`)
		lines := regexp.MustCompile(`(?m)^  (\(\. '.*)$`).FindAllStringSubmatch(p.out.String(), -1)
		require.Len(t, lines, 3)
		for _, l := range lines {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			cmd := exec.CommandContext(ctx, "sh", "-c", strings.Replace(l[1], "curl -s", "curl -sS -f", 1))
			out, err := cmd.CombinedOutput()
			cancel()
			require.NoError(t, err, "%s: %s", l[1], out)
			require.NotEmpty(t, out)
		}
	}
	for name, p := range map[string]*proc{"a": a, "b": b} {
		dir := filepath.Join(base, name)
		require.NotZero(t, postmaster(dir))
		require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
		require.Zero(t, p.wait(t), p.out)
		require.Zero(t, postmaster(dir))
	}
}
