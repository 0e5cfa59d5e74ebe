package pgcluster_test

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// lockThread ends the goroutine's thread with the goroutine.
func lockThread() { runtime.LockOSThread() }

// asOwner runs a command as the user that path belongs to.
func asOwner(t *testing.T, path string) *syscall.SysProcAttr {
	t.Helper()
	st, err := os.Stat(path)
	require.NoError(t, err)
	sys := st.Sys().(*syscall.Stat_t)
	attr := &syscall.SysProcAttr{}
	if int(sys.Uid) != os.Geteuid() {
		attr.Credential = &syscall.Credential{Uid: sys.Uid, Gid: sys.Gid}
	}
	return attr
}

// sleeper is a program of the server's user that is no server.
func sleeper(t *testing.T, data string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	cmd.Dir = "/"
	cmd.SysProcAttr = asOwner(t, data)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}
