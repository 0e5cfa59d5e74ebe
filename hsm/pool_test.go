package hsm_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	p11 "github.com/miekg/pkcs11"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

// jam makes every signature wait in the module until the returned function.
func jam(f *faulty) (entered <-chan struct{}, free func()) {
	in, gate := make(chan struct{}, 1000), make(chan struct{})
	f.set(func(f *faults) {
		f.onInit = func() error {
			in <- struct{}{}
			<-gate
			return nil
		}
	})
	return in, sync.OnceFunc(func() {
		f.set(func(f *faults) { f.onInit = nil })
		close(gate)
	})
}

func TestWaitEndsWithTheContext(t *testing.T) {
	t.Parallel()
	st, f := wrapped(t)
	reg := prometheus.NewRegistry()
	c := st.HSM()
	c.Lanes, c.Metrics = 2, reg
	tok := softhsmtest.Open(t, c)
	s := p256(t, tok)
	entered, free := jam(f)
	defer free()
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if err := signOnce(context.Background(), s, "x"); err != nil {
				t.Error(err)
			}
		})
	}
	<-entered
	<-entered
	require.EqualValues(t, 2, gather(t, reg, "signet_hsm_lanes_in_use"))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	err := signOnce(ctx, s, "x")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, fault.ErrUnavailable)
	require.Zero(t, gather(t, reg, "signet_hsm_lanes_waiting"))
	_, err = tok.Lookup(t.Context(), signerRef)
	require.NoError(t, err, "the index needs no lane")
	free()
	wg.Wait()
	require.NoError(t, signOnce(t.Context(), s, "x"))
	require.Zero(t, gather(t, reg, "signet_hsm_lanes_in_use"))
	require.Positive(t, gather(t, reg, "signet_hsm_operation_seconds"))
}

// First come, first served: with one lane free, callers enter the module in the
// order in which they began to wait. The length they ask for tells who is who.
// synctest knows when a caller waits; a clock or a gauge would only guess.
func TestLanesAreFair(t *testing.T) {
	t.Parallel()
	st, f := wrapped(t)
	synctest.Test(t, func(t *testing.T) {
		c := st.HSM()
		c.Lanes = 2
		tok := softhsmtest.Open(t, c)
		s := p256(t, tok)
		gate := make(chan struct{})
		var order []int // only one lane moves: no two calls at once
		f.set(func(f *faults) {
			f.onInit = func() error { <-gate; return nil }
			f.onRandom = func(n int) { order = append(order, n) }
		})
		var wg sync.WaitGroup
		defer wg.Wait()
		defer close(gate)
		for range 2 {
			go func() { _ = signOnce(context.Background(), s, "hold") }()
			synctest.Wait()
		}
		var want []int
		for n := 1; n <= 20; n++ {
			want = append(want, n)
			wg.Go(func() { _ = tok.Random(context.Background(), make([]byte, n)) })
			synctest.Wait()
		}
		require.Empty(t, order)
		gate <- struct{}{}
		wg.Wait()
		require.Equal(t, want, order)
	})
}

func TestCloseUnderLoad(t *testing.T) {
	t.Parallel()
	st, f := wrapped(t)
	tok, err := hsm.Open(t.Context(), st.HSM())
	require.NoError(t, err)
	s := p256(t, tok)
	var wg sync.WaitGroup
	started := make(chan struct{}, 32)
	for range 32 {
		wg.Go(func() {
			for first := true; ; first = false {
				err := signOnce(context.Background(), s, "x")
				if first {
					started <- struct{}{}
				}
				if err != nil {
					if !errors.Is(err, hsm.ErrClosed) {
						t.Errorf("got %v", err)
					}
					return
				}
			}
		})
	}
	for range 32 {
		<-started
	}
	var closers sync.WaitGroup
	for range 4 {
		closers.Go(func() {
			if err := tok.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	closers.Wait()
	wg.Wait()
	require.EqualValues(t, f.opened.Load(), f.closed.Load(), "every session was closed")
}

// Two Tokens share a slot: one login, and the first Close leaves the other alone.
func TestTokensShareAModule(t *testing.T) {
	t.Parallel()
	st, f := wrapped(t)
	one, err := hsm.Open(t.Context(), st.HSM())
	require.NoError(t, err)
	two, err := hsm.Open(t.Context(), st.HSM())
	require.NoError(t, err)
	require.EqualValues(t, 1, f.logins.Load())
	s1 := p256(t, one)
	s2, err := two.Signer(t.Context(), signerRef)
	require.NoError(t, err)
	require.NoError(t, one.Close())
	require.ErrorIs(t, signOnce(t.Context(), s1, "x"), hsm.ErrClosed)
	require.NoError(t, signOnce(t.Context(), s2, "x"))

	other := st.HSM()
	other.Env = map[string]string{"SOFTHSM2_CONF": "/elsewhere"}
	_, err = hsm.Open(t.Context(), other)
	require.ErrorIs(t, err, hsm.ErrConfig, "one module, one environment")
	wrong := st.HSM()
	wrong.TokenLabel = "no such token"
	_, err = hsm.Open(t.Context(), wrong)
	require.ErrorIs(t, err, hsm.ErrTokenNotFound)
	require.NoError(t, signOnce(t.Context(), s2, "x"))

	require.NoError(t, two.Close())
	require.NoError(t, two.Close())
	require.EqualValues(t, f.opened.Load(), f.closed.Load())
	three := softhsmtest.Open(t, st.HSM()) // initialised anew
	require.EqualValues(t, 2, f.logins.Load())
	_, err = three.Lookup(t.Context(), signerRef)
	require.NoError(t, err)
}

// An Open that fails half way leaves nothing behind, and the next one works.
func TestFailedOpenLeavesNothing(t *testing.T) {
	t.Parallel()
	st, f := wrapped(t)
	reg := prometheus.NewRegistry()
	for _, after := range []int64{0, 1, 2, 3} {
		n := after + f.opened.Load()
		f.set(func(h *faults) {
			h.onOpen = func() error {
				if f.opened.Load() >= n {
					return p11.Error(p11.CKR_SESSION_COUNT)
				}
				return nil
			}
		})
		c := st.HSM()
		c.Lanes, c.Metrics = 4, reg
		_, err := hsm.Open(t.Context(), c)
		require.ErrorIs(t, err, fault.ErrUnavailable)
		require.EqualValues(t, f.opened.Load(), f.closed.Load())
		f.set(func(h *faults) { h.onOpen = nil })
		tok, err := hsm.Open(t.Context(), c)
		require.NoError(t, err)
		require.NoError(t, tok.Close())
	}
	c := st.HSM()
	c.PIN = func(context.Context) (secret.Bytes, error) { return secret.Bytes{}, errors.New("no such file") }
	_, err := hsm.Open(t.Context(), c)
	require.ErrorIs(t, err, fault.ErrUnavailable)
	done, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = hsm.Open(done, st.HSM())
	require.ErrorIs(t, err, context.Canceled)
	require.EqualValues(t, f.opened.Load(), f.closed.Load())
}

func TestConfig(t *testing.T) {
	t.Parallel()
	pin := func(context.Context) (secret.Bytes, error) { return secret.New([]byte("1234")), nil }
	good := hsm.Config{Module: "/no/such/module.so", TokenLabel: "x", PIN: pin}
	require.NoError(t, good.Validate())
	for name, spoil := range map[string]func(*hsm.Config){
		"relative module": func(c *hsm.Config) { c.Module = "libsofthsm2.so" },
		"no token":        func(c *hsm.Config) { c.TokenLabel = "" },
		"no PIN":          func(c *hsm.Config) { c.PIN = nil },
		"negative lanes":  func(c *hsm.Config) { c.Lanes = -1 },
		"too many lanes":  func(c *hsm.Config) { c.Lanes = 100_000 },
	} {
		c := good
		spoil(&c)
		require.ErrorIs(t, c.Validate(), hsm.ErrConfig, name)
		_, err := hsm.Open(t.Context(), c)
		require.ErrorIs(t, err, hsm.ErrConfig, name)
	}
	_, err := hsm.Open(t.Context(), good)
	require.ErrorIs(t, err, hsm.ErrConfig, "a module that is not there")
	good.Module = "/etc/passwd"
	_, err = hsm.Open(t.Context(), good)
	require.ErrorIs(t, err, hsm.ErrConfig, "a module that is none")
}
