package broker_test

import (
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/broker"
	"github.com/signet-hsm/signet/hsm/broker/worker"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

// side is one way to the module.
type side struct {
	do    func(context.Context) error
	took  time.Duration // wall, all rounds
	calls []time.Duration
}

// BenchmarkIsolation compares a module in worker processes with one in this
// process: both are open at once and take turns in short rounds, so that the
// machine's mood strikes both alike. The ratios are process / none.
func BenchmarkIsolation(b *testing.B) {
	for _, kind := range []string{"P-256", "HMAC"} {
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/callers=%d", kind, callers), func(b *testing.B) { isolation(b, kind, callers) })
		}
	}
}

func isolation(b *testing.B, kind string, callers int) {
	const rounds = 10
	sides := map[string]*side{"none": {}, "process": {}}
	for name, s := range sides {
		st := softhsmtest.Create(b)
		t, err := hsm.Open(b.Context(), st.HSM())
		if name == "process" {
			require.NoError(b, err)
			require.NoError(b, t.Close())
			var e *broker.Broker
			e, err = broker.Open(b.Context(), broker.Config{HSM: st.HSM(), Role: worker.RoleCeremony})
			require.NoError(b, err)
			t, err = hsm.New(b.Context(), e, hsm.Options{})
		}
		require.NoError(b, err)
		b.Cleanup(func() { require.NoError(b, t.Close()) })
		s.do = operation(b, t, kind)
		require.NoError(b, s.do(b.Context()))
	}
	n := max(b.N/rounds/callers, 1)
	b.ReportAllocs()
	b.ResetTimer()
	for range rounds {
		for _, name := range []string{"none", "process"} {
			s := sides[name]
			var mu sync.Mutex
			var wg sync.WaitGroup
			start := time.Now()
			for range callers {
				wg.Go(func() {
					took := make([]time.Duration, n)
					for i := range took {
						at := time.Now()
						if err := s.do(context.Background()); err != nil {
							b.Error(err)
						}
						took[i] = time.Since(at)
					}
					mu.Lock()
					s.calls = append(s.calls, took...)
					mu.Unlock()
				})
			}
			wg.Wait()
			s.took += time.Since(start)
		}
	}
	rate, p50 := map[string]float64{}, map[string]float64{}
	for name, s := range sides {
		slices.Sort(s.calls)
		p50[name] = float64(s.calls[len(s.calls)/2].Microseconds())
		rate[name] = float64(len(s.calls)) / s.took.Seconds()
		b.ReportMetric(p50[name], name+"-p50-us")
		b.ReportMetric(rate[name], name+"-op/s")
	}
	b.ReportMetric(rate["process"]/rate["none"], "rate-ratio")
	b.ReportMetric(p50["process"]/max(p50["none"], 1), "p50-ratio")
}

// operation makes a key and returns one use of it.
func operation(tb testing.TB, t *hsm.Token, kind string) func(context.Context) error {
	tb.Helper()
	ctx := tb.Context()
	if kind == "HMAC" {
		ref := hsm.Ref{Tenant: "alpha", Role: hsm.RoleMAC, Name: "m"}
		_, err := t.Generate(ctx, ref, hsm.HMACSHA256, [16]byte{})
		require.NoError(tb, err)
		m, err := t.MAC(ctx, ref)
		require.NoError(tb, err)
		msg := make([]byte, 64)
		return func(ctx context.Context) error { _, err := m.MAC(ctx, msg); return err }
	}
	_, err := t.Generate(ctx, signerRef, hsm.P256, [16]byte{})
	require.NoError(tb, err)
	s, err := t.Signer(ctx, signerRef)
	require.NoError(tb, err)
	d := sha256.Sum256([]byte("x"))
	return func(ctx context.Context) error {
		_, err := s.SignContext(ctx, d[:], crypto.SHA256)
		return err
	}
}

// BenchmarkEngine is the client's hot path by itself, for its allocations.
func BenchmarkEngine(b *testing.B) {
	st := softhsmtest.Create(b)
	e, err := broker.Open(b.Context(), broker.Config{HSM: st.HSM(), Role: worker.RoleCeremony})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, e.Close()) })
	ref := hsm.Ref{Tenant: "alpha", Role: hsm.RoleMAC, Name: "m"}
	info, err := e.Generate(b.Context(), ref, hsm.HMACSHA256, [16]byte{1})
	require.NoError(b, err)
	key, msg, dst, ctx := info.Key(), make([]byte, 64), make([]byte, 0, 64), b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.MAC(ctx, key, dst, msg); err != nil {
			b.Fatal(err)
		}
	}
}
