package main

import "golang.org/x/sys/unix"

// harden keeps what is in memory out of core files and of debuggers of the same
// user: PINs and shares pass through it.
func harden() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
}
