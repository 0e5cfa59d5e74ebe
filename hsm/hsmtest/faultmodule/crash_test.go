package faultmodule_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/hsmtest/faultmodule"
	"github.com/signet-hsm/signet/softhsm"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

const (
	workDir    = "SIGNET_FAULT_WORK_DIR"
	workModule = "SIGNET_FAULT_WORK_LIBRARY"
	workDo     = "SIGNET_FAULT_WORK"
)

// 21, without isolation: the module crashes in the process that signs, and takes it
// along; that is what isolation is for. It ends at once and by the crash, never
// hangs and never answers wrongly, and a process in its place signs with the same
// key at its first try.
func TestFault21_CrashInProcess(t *testing.T) {
	t.Parallel()
	st, m := softhsmtest.Faulty(t)
	random := rand.New(rand.NewPCG(21, 21))
	before := ""
	var worst time.Duration
	rounds := int(seeds())
	for i := range rounds {
		start := time.Now()
		w := newChild(t, st, m, "sign")
		key := w.says(t, "key ")
		w.says(t, "good")
		worst = max(worst, time.Since(start))
		if before == "" {
			before = key
		}
		require.Equal(t, before, key)
		do := []faultmodule.Action{faultmodule.Segfault, faultmodule.Abort}[i%2]
		f := m.Inject(faultmodule.Rule{On: "C_Sign", After: random.IntN(50), Times: 1, Do: do, Late: random.IntN(2) == 0})
		for w.out.Scan() {
			require.Equal(t, "good", w.out.Text())
		}
		require.Error(t, w.cmd.Wait())
		require.NotContains(t, w.errors.String(), "--- FAIL", "it came to a verdict of its own")
		require.Equal(t, 1, f.Hits())
		f.Stop()
	}
	t.Logf("%d crashes; the slowest start to its first good signature took %v", rounds, worst)
}

// 33, without isolation: a module that loses memory makes the process grow by what
// it loses and by nothing else, and no call fails. Only isolation gives it back.
func TestFault33_LeakInProcess(t *testing.T) {
	t.Parallel()
	st, m := softhsmtest.Faulty(t)
	const lost = 8 << 10
	grown := func(rule bool) int {
		var f *faultmodule.Fault
		w := newChild(t, st, m, "grow")
		w.says(t, "key ")
		w.says(t, "warm")
		if rule {
			f = m.Inject(faultmodule.Rule{On: "C_Sign", Do: faultmodule.Leak, Value: lost})
		}
		_, _ = fmt.Fprintln(w.in, "go")
		kib, err := strconv.Atoi(w.says(t, "grown "))
		require.NoError(t, err)
		require.NoError(t, w.cmd.Wait(), w.errors.String())
		if f != nil {
			require.GreaterOrEqual(t, f.Hits(), growCalls)
			f.Stop()
		}
		return kib << 10
	}
	own, leaking := grown(false), grown(true)
	t.Logf("%d signatures: %d KiB grown with a sound module, %d KiB with one that loses %d KiB at each", growCalls, own>>10, leaking>>10, lost>>10)
	require.Less(t, own, growCalls*lost/4, "this package loses memory")
	require.Greater(t, leaking, growCalls*lost*8/10)
}

const growCalls = 2000

// child is this test binary as a process that uses the module.
type child struct {
	cmd    *exec.Cmd
	in     interface{ Write([]byte) (int, error) }
	out    *bufio.Scanner
	errors *strings.Builder
}

func newChild(t *testing.T, st *softhsm.Token, m *faultmodule.Module, do string) *child {
	t.Helper()
	w := &child{errors: &strings.Builder{}}
	w.cmd = exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWorker$")
	w.cmd.Env = append(os.Environ(), workDir+"="+st.Dir, workModule+"="+m.Path, workDo+"="+do)
	w.cmd.Stderr = w.errors
	out, err := w.cmd.StdoutPipe()
	require.NoError(t, err)
	w.out = bufio.NewScanner(out)
	w.in, err = w.cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, w.cmd.Start())
	return w
}

// says waits for a line that begins so, and returns the rest of it.
func (w *child) says(t *testing.T, prefix string) string {
	t.Helper()
	for w.out.Scan() {
		if rest, ok := strings.CutPrefix(w.out.Text(), prefix); ok {
			return rest
		}
	}
	require.Fail(t, "the child did not say "+prefix, w.errors.String())
	return ""
}

// TestWorker signs in a process of its own.
func TestWorker(t *testing.T) {
	if os.Getenv(workDo) == "" {
		return // not a child
	}
	st, err := softhsm.Load(os.Getenv(workDir))
	require.NoError(t, err)
	c := st.HSM()
	c.Module, c.Lanes = os.Getenv(workModule), 2
	tok, err := hsm.Open(context.Background(), c)
	require.NoError(t, err)
	defer tok.Close()
	s, err := tok.Signer(t.Context(), ref)
	if err != nil {
		require.ErrorIs(t, err, hsm.ErrKeyNotFound)
		_, err = tok.Generate(t.Context(), ref, hsm.P256, [16]byte{})
		require.NoError(t, err)
		s, err = tok.Signer(t.Context(), ref)
		require.NoError(t, err)
	}
	info := s.Info()
	fmt.Printf("key %x\n", info.ID)
	many := func(n int) {
		for i := range n {
			require.NoError(t, sign(t.Context(), s, fmt.Sprint(i)))
		}
	}
	if os.Getenv(workDo) == "sign" {
		for {
			many(1)
			fmt.Println("good")
		}
	}
	many(growCalls)
	fmt.Println("warm")
	_, _ = fmt.Scanln(new(string))
	before := resident(t)
	many(growCalls)
	fmt.Printf("grown %d\n", resident(t)-before)
}

// resident is the memory of this process in KiB, without Go's garbage.
func resident(t *testing.T) int {
	t.Helper()
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			require.NoError(t, err)
			return n
		}
	}
	t.Skip("SKIP: no VmRSS in /proc/self/status")
	return 0
}
