//go:build !linux

package broker

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// On machines other than Linux a worker is a process of its own and no more.

func giveUp(*Config) []string { return []string{"confinement: not known on this system"} }

func (c *Config) confine(cmd *exec.Cmd, _ *launcher) (func(error) bool, error) {
	if c.User != "" {
		return nil, errors.New("hsm.worker.user: not known on this system")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return func(error) bool { return false }, nil
}

func socketpair() (ours, theirs *os.File, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, err
	}
	for _, fd := range fds {
		syscall.CloseOnExec(fd)
		_ = syscall.SetNonblock(fd, true)
	}
	return os.NewFile(uintptr(fds[0]), "worker"), os.NewFile(uintptr(fds[1]), "signet"), nil
}
