package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/hsm/hsmtest/faultmodule"
)

// The real service, its HSM's module in workers behind the fault module: workers are
// killed under load and nobody notices, and phones are verified through an outage.
// SIGNET_LONG makes it 50 kills and ten outages.
func TestHSMFailsUnderTheService(t *testing.T) {
	t.Parallel()
	kills, outages := 3, 2
	if os.Getenv("SIGNET_LONG") != "" {
		kills, outages = 50, 10
	}
	s := newSite(t)
	raw, err := os.ReadFile(s.config)
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(raw), "hsm: {workers: 1, module: ")
	module, _, _ := strings.Cut(rest, ",")
	faults := faultmodule.New(t, s.dir, module)
	s.write(t, "signet.yaml", strings.NewReplacer("workers: 1", "workers: 2", module, faults.Path).Replace(string(raw)))
	n := s.serve(t)
	phones := make([]*powerauth.Device, 4)
	for i := range phones {
		phones[i] = s.activeDevice(t, fmt.Sprintf("phone-%d", i), n, n)
	}
	t.Run("workers are killed", func(t *testing.T) { n.surviveKills(t, kills) })
	t.Run("the HSM is out", func(t *testing.T) { n.surviveOutages(t, faults, phones, outages) })

	require.NoError(t, n.proc.cmd.Process.Signal(os.Interrupt))
	require.Zero(t, n.proc.wait(t), n.proc.out)
	require.Empty(t, n.workers(t))
}

var users atomic.Int64

// register needs one signature of the HSM: that of the activation code.
func (n *siteNode) register(ctx context.Context) (int, error) {
	user := fmt.Sprint("user-", users.Add(1))
	return n.call(ctx, "POST", "/v2/registrations", map[string]any{"userId": user, "appId": "bank"}, nil)
}

// workers are the processes that the node has started for its HSM and that live.
func (n *siteNode) workers(t *testing.T) (pids []int) {
	t.Helper()
	list, err := filepath.Glob("/proc/[0-9]*/status")
	require.NoError(t, err)
	for _, path := range list {
		status, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(status, fmt.Appendf(nil, "\nPPid:\t%d\n", n.proc.cmd.Process.Pid)) || bytes.Contains(status, []byte("State:\tZ")) {
			continue
		}
		args, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if err == nil && strings.HasSuffix(string(args), "\x00hsm-worker\x00use\x00") {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			require.NoError(t, err)
			pids = append(pids, pid)
		}
	}
	return pids
}

// surviveKills kills all workers at once, again and again, under signing requests.
func (n *siteNode) surviveKills(t *testing.T, kills int) {
	var made atomic.Int64
	var killed atomic.Int64 // Unix nanoseconds of the last kill
	var after atomic.Int64  // the first good answer to a request that came later
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				start := time.Now().UnixNano()
				status, err := n.register(context.WithoutCancel(ctx))
				if err != nil || status != 200 {
					t.Errorf("status %d: %v", status, err)
					return
				}
				made.Add(1)
				if start > killed.Load() {
					after.CompareAndSwap(0, time.Now().UnixNano())
				}
			}
		})
	}
	var took []time.Duration
	for kill := range kills {
		// Ready, and for longer than a worker must live to be replaced at once.
		ready := regexp.MustCompile(`"msg":"hsm: worker ready"`)
		require.Eventually(t, func() bool {
			return len(ready.FindAllString(n.proc.out.String(), -1)) >= 2*(kill+1)
		}, time.Minute, 5*time.Millisecond)
		time.Sleep(300 * time.Millisecond)
		pids := n.workers(t)
		require.Len(t, pids, 2)
		for _, pid := range pids {
			require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		}
		killed.Store(time.Now().UnixNano())
		after.Store(0)
		require.Eventually(t, func() bool { return after.Load() != 0 }, time.Minute, time.Millisecond)
		took = append(took, time.Duration(after.Load()-killed.Load()))
	}
	stop()
	wg.Wait()
	require.NoError(t, n.proc.cmd.Process.Signal(syscall.Signal(0)), "the service is the same process")
	slices.Sort(took)
	t.Logf("all workers killed %d times, %d registrations, none failed; answer to a request after the kill: p50 %v, worst %v", kills, made.Load(), took[len(took)/2], took[len(took)-1])
}

// surviveOutages verifies phones' signatures in turns with the HSM and without it.
func (n *siteNode) surviveOutages(t *testing.T, faults *faultmodule.Module, phones []*powerauth.Device, outages int) {
	var mu sync.Mutex
	took := map[bool][]time.Duration{}
	verify := func(out bool, wait time.Duration) {
		var wg sync.WaitGroup
		end := time.Now().Add(wait)
		for _, d := range phones {
			wg.Go(func() {
				for time.Now().Before(end) {
					body := signed(t, d)
					var res verifyResult
					start := time.Now()
					status, err := n.call(t.Context(), "POST", "/v2/signature/verify", body, &res)
					mu.Lock()
					took[out] = append(took[out], time.Since(start))
					mu.Unlock()
					if err != nil || status != 200 || !res.SignatureValid {
						t.Errorf("HSM out %v: status %d, %+v: %v", out, status, res, err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	verify(false, 200*time.Millisecond) // warm
	clear(took)
	for range outages {
		verify(false, time.Second)
		f := faults.Inject(faultmodule.Rule{Do: faultmodule.Return, Value: p11.CKR_DEVICE_ERROR})
		status, err := n.register(t.Context())
		require.NoError(t, err)
		require.Equal(t, 500, status, "what needs the HSM is refused; this dialect has no 503")
		verify(true, time.Second)
		f.Stop()
		require.Eventually(t, func() bool {
			status, err := n.register(t.Context())
			return err == nil && status == 200
		}, time.Minute, 10*time.Millisecond)
	}
	p99 := func(list []time.Duration) time.Duration {
		slices.Sort(list)
		return list[len(list)*99/100]
	}
	with, without := p99(took[false]), p99(took[true])
	t.Logf("%d verdicts with the HSM, p99 %v; %d without, p99 %v; all good", len(took[false]), with, len(took[true]), without)
	require.Less(t, without, 3*with+200*time.Millisecond, "no verdict waits for the HSM") // loose: the machine is shared
}
