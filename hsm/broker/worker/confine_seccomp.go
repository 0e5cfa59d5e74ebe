//go:build linux && (amd64 || arm64)

package worker

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxFiles bounds descriptors: SoftHSM opens one for each object now and then.
const maxFiles = 4096

// confine gives up what no module needs, for the whole process, and returns what
// could not be given up. Threads of the Go runtime run already, so everything
// here either belongs to the process or is spread to all its threads by the
// kernel (filterCalls); what belongs to a thread and can not be spread, such as
// capabilities, the parent has set before it started us.
func confine() (missing []string) {
	note := func(what string, err error) {
		if err != nil {
			missing = append(missing, fmt.Sprintf("%s: %v", what, err))
		}
	}
	// The kernel's out-of-memory killer shall take a worker before the service.
	// Before dumpable: then the file is no longer ours.
	note("oom_score_adj", os.WriteFile("/proc/self/oom_score_adj", []byte("500"), 0))
	note("core dumps", unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}))
	note("dumpable", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
	var files unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files)
	if err == nil {
		files.Max = min(files.Max, maxFiles)
		files.Cur = min(files.Cur, files.Max)
		err = unix.Setrlimit(unix.RLIMIT_NOFILE, &files)
	}
	note("open files", err)
	return missing
}

// filterCalls makes the kernel refuse the system calls in refused, forking, and
// sockets of families other than unix (and netlink, by which libusb hears of
// devices) unless network is granted; on all threads at once, which also spreads
// "no new privileges" to them. A call that is refused fails with EPERM: modules
// that try something odd go on without it.
func filterCalls(network bool) (missing []string) {
	runtime.LockOSThread() // both calls must come from one thread
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return []string{fmt.Sprintf("no_new_privs: %v", err)}
	}
	prog := program(network)
	p := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	if _, _, err := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&p))); err != 0 {
		return []string{fmt.Sprintf("seccomp: %v", err)}
	}
	return nil
}

// refused are calls with which a taken-over process would look for more.
var refused = []uint32{
	unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_KCMP,
	unix.SYS_PIDFD_GETFD, unix.SYS_PIDFD_OPEN, unix.SYS_IO_URING_SETUP, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
	unix.SYS_KEXEC_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE,
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_SETNS, unix.SYS_UNSHARE, unix.SYS_OPEN_TREE,
	unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL,
	unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_SETHOSTNAME,
}

// Offsets in struct seccomp_data, on little-endian machines.
const (
	dataNumber = 0
	dataArch   = 4
	dataArg0   = 16
)

const (
	allow = unix.SECCOMP_RET_ALLOW
	eperm = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
)

// program writes the filter. Every jump goes forward by the number of statements
// that stand between, so each test carries its own verdict behind it.
func program(network bool) []unix.SockFilter {
	load := func(off uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: off}
	}
	ret := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	// unless skips n statements unless the accumulator compares with k.
	unless := func(op uint16, k uint32, n uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, K: k, Jf: n}
	}
	p := []unix.SockFilter{
		load(dataArch),
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: auditArch, Jt: 1},
		ret(eperm),                                                        // another machine's call numbers
		load(dataNumber), unless(unix.BPF_JGE, 0x40000000, 1), ret(eperm), // x32
		// clone3 hides its flags in memory; the C library then uses clone.
		unless(unix.BPF_JEQ, unix.SYS_CLONE3, 1), ret(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)),
		// clone makes threads only.
		unless(unix.BPF_JEQ, unix.SYS_CLONE, 4), load(dataArg0), unless(unix.BPF_JSET, unix.CLONE_THREAD, 1), ret(allow), ret(eperm),
	}
	for _, nr := range append(forks, refused...) {
		p = append(p, unless(unix.BPF_JEQ, nr, 1), ret(eperm))
	}
	if !network {
		p = append(p, unless(unix.BPF_JEQ, unix.SYS_SOCKET, 6), load(dataArg0),
			unless(unix.BPF_JEQ, unix.AF_UNIX, 1), ret(allow),
			unless(unix.BPF_JEQ, unix.AF_NETLINK, 1), ret(allow), ret(unix.SECCOMP_RET_ERRNO|uint32(unix.EAFNOSUPPORT)))
	}
	return append(p, ret(allow))
}
