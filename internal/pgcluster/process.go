package pgcluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// process is a child that ends with us.
type process struct {
	pid      int
	cmd      *exec.Cmd
	done     chan struct{} // closed after waitErr is set
	waitErr  error
	stopping atomic.Bool

	logFile string
	logFrom int64 // where this run's lines begin
}

// command prepares a server program: in a process group of its own, so that a
// Ctrl-C at the terminal reaches signet only, which then stops the server in
// order; from "/", because the server's user may not enter our directory.
func command(who *account, bin binaries, program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Env = serverEnv(bin.dir)
	cmd.Dir = "/"
	cmd.SysProcAttr = sysProcAttr(who)
	return cmd
}

// spawn starts cmd on a thread that lives as long as the child: the kernel sends
// the death signal when the thread that forked ends, not the process, and Go
// retires idle threads as it likes.
func spawn(cmd *exec.Cmd, death syscall.Signal) (*process, error) {
	setDeathSignal(cmd.SysProcAttr, death)
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err != nil {
			return
		}
		p.waitErr = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// launch starts the postmaster.
func launch(l *layout, bin binaries, c Config) (*process, error) {
	dataArg, dataFile, err := l.childPath(l.data(), 0)
	if err != nil {
		return nil, err
	}
	socketArg, socketFile, err := l.childPath(l.socketDir, 1)
	if err != nil {
		return nil, err
	}
	logFile, from, err := openLog(l.path("postgres.log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = logFile.Close() }() // the child has its own

	args := []string{"-D", dataArg}
	s := settings(c)
	s["unix_socket_directories"] = socketArg
	for _, k := range slices.Sorted(maps.Keys(s)) {
		args = append(args, "-c", k+"="+s[k])
	}
	cmd := command(l.who, bin, bin.postgres(), args...)
	if dataFile != nil {
		cmd.ExtraFiles = []*os.File{dataFile, socketFile}
	}
	cmd.Stdout, cmd.Stderr = logFile, logFile
	// A fast shutdown writes a checkpoint, so the next start needs no recovery;
	// throw-away clusters just vanish.
	death := syscall.SIGINT
	if !c.Durable {
		death = syscall.SIGQUIT
	}
	p, err := spawn(cmd, death)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", bin.postgres(), err)
	}
	p.logFile, p.logFrom = l.path("postgres.log"), from
	return p, nil
}

// settings go to the command line, where they win over postgresql.conf and
// ALTER SYSTEM: the cluster behaves the same whatever was done to its files.
func settings(c Config) map[string]string {
	s := map[string]string{
		"listen_addresses":        "",
		"port":                    strconv.Itoa(socketPort),
		"unix_socket_permissions": "0700",
		"ssl":                     "off",
		"max_connections":         "100",
		"shared_buffers":          "64MB",
		"timezone":                "UTC",
		"log_timezone":            "UTC",
		"lc_messages":             "C", // errors are matched by code, read by people everywhere
		"logging_collector":       "off",
		"log_destination":         "stderr",
		"log_line_prefix":         "%m [%p] %q%u@%d ",
		"jit":                     "off", // short statements only; compiling one costs more than running it
	}
	if !c.Durable {
		s["fsync"] = "off"
		s["full_page_writes"] = "off"
		s["synchronous_commit"] = "off"
		s["wal_level"] = "minimal"
		s["max_wal_senders"] = "0"
		// Files in data/ instead of names in /dev/shm, which a kill leaves there.
		s["dynamic_shared_memory_type"] = "mmap"
	}
	maps.Copy(s, c.Settings)
	return s
}

// waitReady returns when the postmaster has written "ready" under its own pid.
// It is the sign pg_ctl waits for, and costs no connection.
func (p *process) waitReady(ctx context.Context, l *layout) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.done:
			return fmt.Errorf("postgres did not start: %w: %s", p.waitErr, p.logTail())
		case <-ctx.Done():
			return fmt.Errorf("postgres is not ready: %w: %s", ctx.Err(), p.logTail())
		case <-tick.C:
			if pid, state := pidFile(l.data()); pid == p.pid && state == "ready" {
				return nil
			}
		}
	}
}

// pidFile reads postmaster.pid: line 1 the pid, line 8 the state (miscadmin.h).
func pidFile(data string) (pid int, state string) {
	b, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return 0, ""
	}
	lines := strings.Split(string(b), "\n")
	pid, _ = strconv.Atoi(strings.TrimSpace(lines[0]))
	if len(lines) >= 8 {
		state = strings.TrimSpace(lines[7])
	}
	return pid, state
}

// stop asks for a fast shutdown, and for an immediate one when ctx ends first or
// nothing is worth a checkpoint.
func (p *process) stop(ctx context.Context, checkpoint bool) error {
	select {
	case <-p.done:
		return nil // it ended by itself, and stays crashed
	default:
	}
	p.stopping.Store(true)
	if checkpoint {
		_ = p.cmd.Process.Signal(syscall.SIGINT)
		select {
		case <-p.done:
			return nil
		case <-ctx.Done():
		}
	}
	_ = p.cmd.Process.Signal(syscall.SIGQUIT)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		_ = syscall.Kill(-p.pid, syscall.SIGKILL)
		<-p.done
	}
	if checkpoint {
		return fmt.Errorf("pgcluster: stopped at once, without a checkpoint: %w", ctx.Err())
	}
	return nil
}

// endInit ends initdb. Asked, it lets its bootstrap server see the end of its
// input, which then cleans up; a killed one leaves shared memory in /dev/shm. done
// comes after both, because both hold the pipe that we read.
func (p *process) endInit() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(3 * time.Second):
		_ = syscall.Kill(-p.pid, syscall.SIGKILL) // initdb's children are in its group
		<-p.done
	}
}

// verdict explains an end; call it after done.
func (p *process) verdict() error {
	if p.stopping.Load() {
		return nil
	}
	cause := p.waitErr
	if cause == nil {
		cause = errors.New("exit status 0: somebody else stopped it")
	}
	return fmt.Errorf("pgcluster: %w: %w: %s", ErrCrashed, cause, p.logTail())
}

const maxLog = 8 << 20

// openLog appends to file, setting a large one aside first.
func openLog(file string) (*os.File, int64, error) {
	if st, err := os.Stat(file); err == nil && st.Size() > maxLog {
		if err := os.Rename(file, file+".1"); err != nil {
			return nil, 0, err
		}
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// logTail is the end of what this run logged, and where to read the rest.
func (p *process) logTail() string {
	f, err := os.Open(p.logFile)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Seek(p.logFrom, io.SeekStart); err != nil {
		return err.Error()
	}
	b, _ := io.ReadAll(io.LimitReader(f, 1<<20))
	return fmt.Sprintf("%s (%s)", tail(b), p.logFile)
}

// tail is the last three lines of an output, on one line.
func tail(out []byte) string {
	lines := strings.Split(string(bytes.TrimSpace(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], " | ")
}
