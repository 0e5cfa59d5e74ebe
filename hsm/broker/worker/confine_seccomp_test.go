//go:build linux && (amd64 || arm64)

package worker

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// The filter is run as the kernel would, over what stands in struct seccomp_data.
func TestFilter(t *testing.T) {
	t.Parallel()
	errno := func(e unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(e) }
	for _, c := range []struct {
		name        string
		arch        uint32
		number, arg uint32
		local       uint32 // without network
		network     uint32
	}{
		{"read", auditArch, unix.SYS_READ, 0, allow, allow},
		{"open", auditArch, unix.SYS_OPENAT, 0, allow, allow},
		{"a thread", auditArch, unix.SYS_CLONE, unix.CLONE_THREAD | unix.CLONE_VM, allow, allow},
		{"a process", auditArch, unix.SYS_CLONE, uint32(unix.SIGCHLD), eperm, eperm},
		{"clone3", auditArch, unix.SYS_CLONE3, 0, errno(unix.ENOSYS), errno(unix.ENOSYS)},
		{"a program", auditArch, unix.SYS_EXECVE, 0, eperm, eperm},
		{"tracing", auditArch, unix.SYS_PTRACE, 0, eperm, eperm},
		{"mounting", auditArch, unix.SYS_MOUNT, 0, eperm, eperm},
		{"a unix socket", auditArch, unix.SYS_SOCKET, unix.AF_UNIX, allow, allow},
		{"netlink", auditArch, unix.SYS_SOCKET, unix.AF_NETLINK, allow, allow},
		{"an IPv4 socket", auditArch, unix.SYS_SOCKET, unix.AF_INET, errno(unix.EAFNOSUPPORT), allow},
		{"an IPv6 socket", auditArch, unix.SYS_SOCKET, unix.AF_INET6, errno(unix.EAFNOSUPPORT), allow},
		{"a packet socket", auditArch, unix.SYS_SOCKET, unix.AF_PACKET, errno(unix.EAFNOSUPPORT), allow},
		{"another machine", unix.AUDIT_ARCH_I386, unix.SYS_READ, 0, eperm, eperm},
		{"x32", auditArch, 0x40000000 | unix.SYS_READ, 0, eperm, eperm},
	} {
		// The interpreter reads big-endian, the kernel in the machine's order.
		data := make([]byte, 64)
		binary.BigEndian.PutUint32(data[dataNumber:], c.number)
		binary.BigEndian.PutUint32(data[dataArch:], c.arch)
		binary.BigEndian.PutUint32(data[dataArg0:], c.arg)
		require.Equal(t, c.local, verdict(t, program(false), data), c.name)
		require.Equal(t, c.network, verdict(t, program(true), data), "%s, with network", c.name)
	}
	for _, nr := range append(forks, refused...) {
		data := make([]byte, 64)
		binary.BigEndian.PutUint32(data[dataNumber:], nr)
		binary.BigEndian.PutUint32(data[dataArch:], auditArch)
		require.Equal(t, uint32(eperm), verdict(t, program(true), data), nr)
	}
}

func verdict(t *testing.T, p []unix.SockFilter, data []byte) uint32 {
	t.Helper()
	raw := make([]bpf.RawInstruction, len(p))
	for i, f := range p {
		raw[i] = bpf.RawInstruction{Op: f.Code, Jt: f.Jt, Jf: f.Jf, K: f.K}
	}
	list, whole := bpf.Disassemble(raw)
	require.True(t, whole)
	vm, err := bpf.NewVM(list)
	require.NoError(t, err)
	n, err := vm.Run(data)
	require.NoError(t, err)
	return uint32(n)
}
