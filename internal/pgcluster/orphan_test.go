package pgcluster_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/pgcluster"
)

// child is signet in small: this test binary again, told by its environment to
// start a cluster, say its pid and wait to be killed.
func child() {
	cl, err := pgcluster.Start(context.Background(), pgcluster.Config{Dir: os.Getenv("PGCLUSTER_TEST_CHILD"), Durable: true})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(cl.PID())
	<-cl.Done()
	fmt.Println("done", cl.Err())
}

type signet struct {
	cmd        *exec.Cmd
	out        *bufio.Scanner
	postmaster int
}

func runSignet(t *testing.T, dir string) *signet {
	t.Helper()
	s := &signet{cmd: exec.Command(os.Args[0], "-test.run=^$")}
	s.cmd.Env = append(os.Environ(), "PGCLUSTER_TEST_CHILD="+dir)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's foreground group
	stdout, err := s.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, s.cmd.Start())
	t.Cleanup(func() { _ = s.cmd.Process.Kill(); _ = s.cmd.Wait() })
	s.out = bufio.NewScanner(stdout)
	require.True(t, s.out.Scan())
	s.postmaster, err = strconv.Atoi(s.out.Text())
	require.NoError(t, err, s.out.Text())
	return s
}

func alive(pid int) bool {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err == nil && !strings.Contains(string(b), ") Z ")
}

// kill -9 of signet takes the server along, which shuts down in order.
func TestStartAfterSignetWasKilled(t *testing.T) {
	t.Parallel()
	dir := used(t)
	s := runSignet(t, dir)
	require.NoError(t, s.cmd.Process.Kill())
	_ = s.cmd.Wait()
	require.Eventually(t, func() bool { return !alive(s.postmaster) }, 10*time.Second, 5*time.Millisecond)
	cl := start(t, pgcluster.Config{Dir: dir, Durable: true})
	require.Equal(t, "1", ask(t, cl, "select '1'"))
	log, err := os.ReadFile(filepath.Join(dir, "postgres.log"))
	require.NoError(t, err)
	require.Contains(t, string(log), "received fast shutdown request")
	require.NotContains(t, string(log), "not properly shut down")
}

// The next start need not wait for that.
func TestStartRightAfterSignetWasKilled(t *testing.T) {
	t.Parallel()
	dir := used(t)
	for range 2 {
		s := runSignet(t, dir)
		require.NoError(t, s.cmd.Process.Kill())
		_ = s.cmd.Wait()
	}
	require.Equal(t, "1", ask(t, start(t, pgcluster.Config{Dir: dir, Durable: true}), "select '1'"))
}

// An orphan that goes on running, as it would without the death signal: started
// here by hand on the cluster's folder.
func TestStartEndsAnOrphan(t *testing.T) {
	t.Parallel()
	dir := used(t)
	c := pgcluster.Config{Dir: dir, Durable: true}
	cl := start(t, c)
	program := readLink(t, cl.PID(), "exe")
	stop(t, cl)

	orphan := exec.Command(program, "-D", filepath.Join(dir, "data"), "-c", "listen_addresses=", "-c", "unix_socket_directories="+filepath.Join(dir, "data"))
	orphan.Dir = "/"
	orphan.SysProcAttr = asOwner(t, filepath.Join(dir, "data"))
	if orphan.SysProcAttr.Credential != nil {
		require.NoError(t, os.Chmod(dir, 0o711)) // by hand the way leads through the folder
	}
	require.NoError(t, orphan.Start())
	ended := make(chan error, 1)
	go func() { ended <- orphan.Wait() }()
	require.Eventually(t, func() bool {
		b, _ := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
		return strings.Contains(string(b), "ready")
	}, 20*time.Second, 10*time.Millisecond)

	// Another cluster's server must not be touched by any of this.
	stranger := start(t, pgcluster.Config{Dir: used(t)})
	again := start(t, c)
	require.NoError(t, <-ended) // a fast shutdown is an exit with 0
	require.Equal(t, "1", ask(t, again, "select '1'"))
	require.Equal(t, "1", ask(t, stranger, "select '1'"))
}

func readLink(t *testing.T, pid int, name string) string {
	t.Helper()
	s, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), name))
	require.NoError(t, err)
	return s
}

// Ctrl-C at a terminal goes to the whole foreground group. The server must not
// be in it.
func TestTerminalInterruptDoesNotReachTheServer(t *testing.T) {
	t.Parallel()
	s := runSignet(t, used(t))
	pgid, err := syscall.Getpgid(s.postmaster)
	require.NoError(t, err)
	require.NotEqual(t, s.cmd.Process.Pid, pgid)
	require.Equal(t, s.postmaster, pgid)
}

// The thread that forked must live as long as the server: the kernel sends the
// death signal when that thread ends, and Go ends idle ones.
func TestServerOutlivesItsStarter(t *testing.T) {
	t.Parallel()
	var cl *pgcluster.Cluster
	started := make(chan struct{})
	dir := used(t)
	go func() {
		defer close(started)
		// A goroutine that ends while locked takes its thread along.
		lockThread()
		cl, _ = pgcluster.Start(context.Background(), pgcluster.Config{Dir: dir})
	}()
	<-started
	require.NotNil(t, cl)
	defer stop(t, cl)
	time.Sleep(200 * time.Millisecond)
	require.NoError(t, cl.Err())
	require.Equal(t, "1", ask(t, cl, "select '1'"))
}
