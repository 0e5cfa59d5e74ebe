package broker

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// giveUp makes this goroutine's thread a poor one, for good: no new privileges,
// and as root no capability that a program started from it could have. The
// goroutine never unlocks it, so the thread ends with it.
func giveUp(*Config) (missing []string) {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		missing = append(missing, fmt.Sprintf("no_new_privs: %v", err))
	}
	if os.Geteuid() != 0 {
		return missing
	}
	for c := uintptr(0); c < 64; c++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			if !errors.Is(err, unix.EINVAL) { // EINVAL: the last one was before
				missing = append(missing, fmt.Sprintf("capabilities: %v", err))
			}
			break
		}
	}
	return missing
}

// confine says how the process starts: in a session of its own (an interrupt at
// the terminal is not for it), as the configured user, and as root without network
// interfaces. It is not killed with us: it ends by itself when our end of the
// socket is closed, and lets a login end before, which SoftHSM's token may not
// survive otherwise. What it returns says after a failed start whether
// there is a lesser way to try.
func (c *Config) confine(cmd *exec.Cmd, n *launcher) (fallback func(error) bool, err error) {
	fallback = func(error) bool { return false }
	attr := &syscall.SysProcAttr{Setsid: true}
	cmd.SysProcAttr = attr
	if c.User != "" {
		if attr.Credential, err = credential(c.User); err != nil {
			return fallback, err
		}
	}
	if c.Network || os.Geteuid() != 0 || n.noNamespace.Load() {
		return fallback, nil // without root, the worker's own filter is what there is
	}
	attr.Cloneflags = syscall.CLONE_NEWNET
	return func(err error) bool {
		if !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EINVAL) {
			return false
		}
		n.warn(fmt.Sprintf("a network namespace: %v", err))
		return n.noNamespace.CompareAndSwap(false, true)
	}, nil
}

func credential(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("hsm.worker.user: %w", err)
	}
	uid, uerr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
	groups, err := u.GroupIds()
	if err = errors.Join(err, uerr, gerr); err != nil {
		return nil, fmt.Errorf("hsm.worker.user: %w", err)
	}
	cred := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	for _, g := range groups {
		id, err := strconv.ParseUint(g, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("hsm.worker.user: %w", err)
		}
		cred.Groups = append(cred.Groups, uint32(id))
	}
	return cred, nil
}

// socketpair returns two ends that no other program inherits by accident.
func socketpair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "worker"), os.NewFile(uintptr(fds[1]), "signet"), nil
}
