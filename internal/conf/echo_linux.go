package conf

import "golang.org/x/sys/unix"

// hideEcho turns the echo off before the question is seen: ReadPassword does it
// after, and who types at once would see what was typed. The caller puts the old
// state back.
func hideEcho(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Lflag &^= unix.ECHO
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}
