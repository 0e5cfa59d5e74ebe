package faultmodule_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/broker"
	"github.com/signet-hsm/signet/hsm/hsmtest/faultmodule"
	"github.com/signet-hsm/signet/softhsm"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

// rig is a token whose module can be harmed.
type rig struct {
	mode
	*faultmodule.Module
	st   *softhsm.Token
	reg  *prometheus.Registry
	tok  *hsm.Token
	seed uint64
	rand *rand.Rand
}

var ref = hsm.Ref{Tenant: "alpha", Role: hsm.RoleSigner, Name: "s"}

// seeds is how often each fault is tried: 20 times in the long form, else once in
// each mode.
func seeds() uint64 {
	if os.Getenv("SIGNET_LONG") != "" {
		return 20
	}
	return 1
}

// each runs a fault in every mode with every seed, each on a token of its own.
func each(t *testing.T, list []mode, run func(t *testing.T, r *rig)) {
	eachWith(t, list, nil, run)
}

func eachWith(t *testing.T, list []mode, change func(*broker.Config), run func(t *testing.T, r *rig)) {
	t.Parallel()
	for _, m := range list {
		for seed := range seeds() {
			t.Run(fmt.Sprint(m.name, " ", seed), func(t *testing.T) {
				run(t, newRig(t, m, seed, change))
			})
		}
	}
}

func newRig(t *testing.T, m mode, seed uint64, change func(*broker.Config)) *rig {
	t.Helper()
	r := &rig{mode: m, seed: seed, rand: rand.New(rand.NewPCG(seed, 0x51676e74))}
	r.st, r.Module = softhsmtest.Faulty(t)
	r.reg = prometheus.NewRegistry()
	c := broker.Config{HSM: r.st.HSM()}
	c.HSM.Lanes, c.HSM.Metrics = 4, r.reg
	if change != nil {
		change(&c)
	}
	var err error
	r.tok, err = r.open(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() {
		r.Clear() // first what hangs
		_ = r.tok.Close()
	})
	r.settle(t)
	return r
}

// settle waits until all engines serve.
func (r *rig) settle(t *testing.T) {
	t.Helper()
	if r.workers > 0 {
		require.Eventually(t, func() bool { return r.metric(t, "signet_hsm_workers_ready") == float64(r.workers) }, time.Minute, time.Millisecond)
	}
}

func (r *rig) metric(t *testing.T, name string) float64 {
	t.Helper()
	return gather(t, r.reg, name)
}

func (r *rig) signer(t *testing.T) *hsm.Signer {
	t.Helper()
	_, err := r.tok.Generate(t.Context(), ref, hsm.P256, [16]byte{})
	require.NoError(t, err)
	s, err := r.tok.Signer(t.Context(), ref)
	require.NoError(t, err)
	return s
}

var errBad = errors.New("a signature that does not verify")

// sign makes one signature and judges it.
func sign(ctx context.Context, s *hsm.Signer, text string) error {
	d := sha256.Sum256([]byte(text))
	sig, err := s.SignContext(ctx, d[:], crypto.SHA256)
	if err != nil {
		return err
	}
	if !ecdsa.VerifyASN1(s.Public().(*ecdsa.PublicKey), d[:], sig) {
		return errBad
	}
	return nil
}

// load signs from many goroutines until stop.
type load struct {
	done, failed atomic.Int64
	each         []atomic.Int64 // calls ended, by worker
	worst        atomic.Int64   // nanoseconds of one call
	first        atomic.Pointer[error]
	end          atomic.Bool
	wg           sync.WaitGroup
}

func (r *rig) load(t *testing.T, s *hsm.Signer, workers int, wait time.Duration) *load {
	t.Helper()
	l := &load{each: make([]atomic.Int64, workers)}
	for g := range workers {
		l.wg.Go(func() {
			for i := 0; !l.end.Load(); i++ {
				ctx, cancel := context.WithTimeout(context.Background(), wait)
				start := time.Now()
				err := sign(ctx, s, fmt.Sprint(g, i))
				cancel()
				for took, worst := int64(time.Since(start)), l.worst.Load(); took > worst && !l.worst.CompareAndSwap(worst, took); worst = l.worst.Load() {
				}
				if err != nil {
					l.failed.Add(1)
					l.first.CompareAndSwap(nil, &err)
				}
				l.done.Add(1)
				l.each[g].Add(1)
			}
		})
	}
	t.Cleanup(func() { l.end.Store(true); r.Clear(); l.wg.Wait() })
	return l
}

// advance waits until every worker has begun and ended a call, so that none is
// struck twice: the promise is one retry.
func (l *load) advance(t *testing.T) {
	t.Helper()
	from := make([]int64, len(l.each))
	for g := range l.each {
		from[g] = l.each[g].Load()
	}
	require.Eventually(t, func() bool {
		for g := range l.each {
			if l.each[g].Load() < from[g]+2 {
				return false
			}
		}
		return true
	}, time.Minute, time.Millisecond)
}

func (l *load) stop(t *testing.T) {
	t.Helper()
	l.end.Store(true)
	l.wg.Wait()
}

// noFailures says which the first one was.
func (l *load) noFailures(t *testing.T) {
	t.Helper()
	if p := l.first.Load(); p != nil {
		require.NoError(t, *p, "%d of %d", l.failed.Load(), l.done.Load())
	}
}

// recovers waits until signatures are good again, and returns how long that took.
// Until then each attempt must be an outage, never a bad signature.
func recovers(t *testing.T, s *hsm.Signer) time.Duration {
	t.Helper()
	start := time.Now()
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		err := sign(ctx, s, "again")
		if err != nil {
			require.ErrorIs(t, err, fault.ErrUnavailable)
		}
		return err == nil
	}, 30*time.Second, 5*time.Millisecond)
	return time.Since(start)
}

// gather sums a metric over its labels; 0 when there is none.
func gather(t *testing.T, reg *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, fam := range families {
		if fam.GetName() == name {
			for _, m := range fam.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

// softCopy is another instance of the rig's module, under the same rules.
func softCopy(t *testing.T, r *rig) string {
	t.Helper()
	lib, err := os.ReadFile(r.Path)
	require.NoError(t, err)
	path := r.Path + ".copy.so"
	require.NoError(t, os.WriteFile(path, lib, 0o700))
	return path
}
