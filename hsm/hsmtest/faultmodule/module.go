package faultmodule

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// Module is one copy of the shim before one real module.
type Module struct {
	Path string // the library to load

	tb  testing.TB
	ctl *control
	mu  sync.Mutex // rules are set one at a time
}

// build compiles the shim once per process and leaves no file behind.
var build = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "signet-fault-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	src, lib := filepath.Join(dir, "shim.c"), filepath.Join(dir, "shim.so")
	if err := os.WriteFile(src, source, 0o600); err != nil {
		return nil, err
	}
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "cc"
	}
	cmd := exec.Command(cc, "-shared", "-fPIC", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-fvisibility=hidden", "-o", lib, src, "-ldl", "-lpthread")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
	}
	return os.ReadFile(lib)
})

// New puts the shim into dir, before the real module. The rules end with the test,
// which releases what hangs; stop rules that hang before closing a token.
func New(tb testing.TB, dir, real string) *Module {
	tb.Helper()
	lib, err := build()
	require.NoError(tb, err)
	m := &Module{Path: filepath.Join(dir, "faultmodule.so"), tb: tb}
	const placeholder = "SIGNET FAULT CONTROL FILE"
	require.Equal(tb, 1, bytes.Count(lib, []byte(placeholder)))
	lib, name := bytes.Clone(lib), m.Path+".ctl"
	require.Less(tb, len(name), 1024)
	copy(lib[bytes.Index(lib, []byte(placeholder)):], append([]byte(name), 0))
	require.NoError(tb, os.WriteFile(m.Path, lib, 0o700))
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	require.NoError(tb, err)
	defer f.Close()
	const size = int(unsafe.Sizeof(control{}))
	require.NoError(tb, f.Truncate(int64(size)))
	mem, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	require.NoError(tb, err)
	m.ctl = (*control)(unsafe.Pointer(unsafe.SliceData(mem)))
	require.Less(tb, len(real), len(m.ctl.real))
	copy(m.ctl.real[:], real)
	m.ctl.size, m.ctl.magic = uint32(size), magic
	tb.Cleanup(func() { m.Clear() }) // the mapping stays: a late thread may still look at it
	return m
}

// Fault is a rule that is in force.
type Fault struct{ r *rule }

// Inject puts a rule in force.
func (m *Module) Inject(r Rule) *Fault {
	m.tb.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	var fn uint32
	if r.On != "" {
		i, ok := functions[r.On]
		require.True(m.tb, ok, "no PKCS#11 function %q", r.On)
		fn = i + 1
	}
	for i := range m.ctl.rules {
		slot := &m.ctl.rules[i]
		if slot.active.Load() != 0 {
			continue
		}
		slot.action, slot.function, slot.late = uint32(r.Do), fn, 0
		if r.Late {
			slot.late = 1
		}
		slot.after, slot.times, slot.seed = uint64(r.After), uint64(r.Times), r.Seed
		slot.chance = 0
		if r.Chance > 0 && r.Chance < 1 {
			slot.chance = uint64(r.Chance * math.MaxUint64)
		}
		slot.value, slot.extra = uint64(r.Value), uint64(r.Extra)
		if r.Do == Delay {
			slot.value = uint64(r.Wait / time.Microsecond)
		}
		slot.seen.Store(0)
		slot.hits.Store(0)
		slot.active.Store(1)
		return &Fault{slot}
	}
	require.FailNow(m.tb, "too many rules")
	return nil
}

// Hits is how many calls the rule struck.
func (f *Fault) Hits() int { return int(f.r.hits.Load()) }

// Stop ends the rule and releases the calls that hang in it. Its count stays
// until the next Inject.
func (f *Fault) Stop() { f.r.active.Store(0) }

// Clear ends all rules and puts the token back.
func (m *Module) Clear() {
	for i := range m.ctl.rules {
		m.ctl.rules[i].active.Store(0)
	}
	m.ctl.token.Store(0)
}

// Calls is how often a function was called, struck calls included.
func (m *Module) Calls(function string) int {
	i, ok := functions[function]
	require.True(m.tb, ok, "no PKCS#11 function %q", function)
	return int(m.ctl.calls[i].Load())
}

// Remove takes the token away, with all sessions; with sticky it does not come
// back before the next C_Initialize, as on modules that look for tokens once.
func (m *Module) Remove(sticky bool) {
	state := uint32(1)
	if sticky {
		state = 2
	}
	m.ctl.token.Store(state)
}

// Restore puts the token back.
func (m *Module) Restore() { m.ctl.token.Store(0) }
