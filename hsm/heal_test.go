package hsm_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

var signerRef = hsm.Ref{Tenant: "alpha", Role: hsm.RoleSigner, Name: "s"}

func p256(t *testing.T, tok *hsm.Token) *hsm.Signer {
	t.Helper()
	_, err := tok.Generate(t.Context(), signerRef, hsm.P256, [16]byte{})
	require.NoError(t, err)
	s, err := tok.Signer(t.Context(), signerRef)
	require.NoError(t, err)
	return s
}

func signOnce(ctx context.Context, s *hsm.Signer, text string) error {
	d := sha256.Sum256([]byte(text))
	sig, err := s.SignContext(ctx, d[:], crypto.SHA256)
	if err != nil {
		return err
	}
	if !ecdsa.VerifyASN1(s.Public().(*ecdsa.PublicKey), d[:], sig) {
		return errors.New("the signature does not verify")
	}
	return nil
}

// For real: something else in the process logs out, or closes all sessions, ten
// times while 3,000 signatures are made. None may fail.
func TestHealsRealLossUnderLoad(t *testing.T) {
	for name, strike := range map[string]func(f *faulty, r raw, s p11.SessionHandle) error{
		"C_Logout in the middle of calls": func(f *faulty, r raw, s p11.SessionHandle) error {
			f.door.Lock()
			defer f.door.Unlock()
			return r.Logout(s)
		},
		"C_CloseAllSessions between calls": func(f *faulty, r raw, _ p11.SessionHandle) error {
			f.gate.Lock()
			defer f.gate.Unlock()
			return r.CloseAllSessions(r.slot)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st, f := wrapped(t)
			reg := prometheus.NewRegistry()
			c := st.HSM()
			c.Lanes, c.Metrics = 8, reg
			tok := softhsmtest.Open(t, c)
			s := p256(t, tok)
			other := second(t, st)

			const workers, strikes, total = 16, 10, 3000
			var failed atomic.Int64
			var done [workers]atomic.Int64
			var stop atomic.Bool
			var wg sync.WaitGroup
			for g := range workers {
				wg.Go(func() {
					for i := 0; !stop.Load(); i++ {
						if err := signOnce(t.Context(), s, fmt.Sprint(g, i)); err != nil {
							failed.Add(1)
							t.Errorf("worker %d, signature %d: %v", g, i, err)
						}
						done[g].Add(1)
					}
				})
			}
			// The promise is one retry, so no signature may be struck twice: every
			// worker begins and ends one between two strikes.
			advance := func(n int64) {
				var from [workers]int64
				for g := range workers {
					from[g] = done[g].Load()
				}
				for g := range workers {
					for done[g].Load() < from[g]+n {
						time.Sleep(200 * time.Microsecond)
					}
				}
			}
			for range strikes {
				advance(2)
				session := other.session(t)
				if err := strike(f, other, session); err != nil {
					t.Errorf("strike: %v", err)
				}
				_ = other.CloseSession(session)
			}
			advance(total/workers + 1)
			stop.Store(true)
			wg.Wait()
			require.Zero(t, failed.Load())
			var made int64
			for g := range workers {
				made += done[g].Load()
			}
			require.GreaterOrEqual(t, made, int64(total))
			t.Logf("%d signatures, none failed", made)
			require.EqualValues(t, strikes+1, f.logins.Load(), "one login per loss, whoever noticed it first")
			require.Positive(t, gather(t, reg, "signet_hsm_heals_total"))
			require.EqualValues(t, strikes+1, gather(t, reg, "signet_hsm_logins_total"))
			require.LessOrEqual(t, gather(t, reg, "signet_hsm_sessions"), 8.0)
			require.Zero(t, gather(t, reg, "signet_hsm_lanes_in_use"))
		})
	}
}

// gather sums a metric over its labels.
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

// Each class once and twice: what is retried, how often, and what the caller sees.
func TestErrorClasses(t *testing.T) {
	t.Parallel()
	st, f := wrapped(t)
	config := st.HSM()
	config.Lanes = 2
	tok := softhsmtest.Open(t, config)
	s := p256(t, tok)
	for _, c := range []struct {
		rv       p11.Error
		attempts int64 // when the error stays
		want     error
	}{
		{p11.CKR_SESSION_HANDLE_INVALID, 2, fault.ErrUnavailable},
		{p11.CKR_SESSION_CLOSED, 2, fault.ErrUnavailable},
		{p11.CKR_OPERATION_ACTIVE, 2, fault.ErrUnavailable},
		{p11.CKR_USER_NOT_LOGGED_IN, 2, fault.ErrUnavailable},
		{p11.CKR_OBJECT_HANDLE_INVALID, 2, fault.ErrUnavailable},
		{p11.CKR_KEY_HANDLE_INVALID, 2, fault.ErrUnavailable},
		{p11.CKR_DEVICE_ERROR, 2, fault.ErrUnavailable},
		{p11.CKR_DEVICE_REMOVED, 2, fault.ErrUnavailable},
		{p11.CKR_TOKEN_NOT_PRESENT, 2, fault.ErrUnavailable},
		{p11.CKR_GENERAL_ERROR, 2, fault.ErrUnavailable},
		{p11.CKR_CRYPTOKI_NOT_INITIALIZED, 2, fault.ErrUnavailable},
		{p11.CKR_HOST_MEMORY, 1, fault.ErrUnavailable},
		{p11.Error(0x80000042), 1, fault.ErrUnavailable}, // a vendor's own
		{p11.CKR_PIN_LOCKED, 1, hsm.ErrPIN},
		{p11.CKR_KEY_FUNCTION_NOT_PERMITTED, 1, hsm.ErrRefused},
		{p11.CKR_DATA_LEN_RANGE, 1, hsm.ErrRefused},
		{p11.CKR_MECHANISM_INVALID, 1, hsm.ErrUnsupported},
	} {
		for _, times := range []int64{1, 1000} {
			var inits atomic.Int64
			f.set(func(f *faults) {
				f.onInit = func() error {
					if inits.Add(1) <= times {
						return c.rv
					}
					return nil
				}
			})
			opened, closed := f.opened.Load(), f.closed.Load()
			err := signOnce(t.Context(), s, "x")
			if times == 1 && c.attempts == 2 {
				require.NoError(t, err, "%v once", c.rv)
			} else {
				require.ErrorIs(t, err, c.want, "%v", c.rv)
				require.ErrorIs(t, err, c.rv)
			}
			if times > 1 {
				require.Equal(t, c.attempts, inits.Load(), "%v", c.rv)
			}
			f.set(func(f *faults) { f.onInit = nil })
			require.NoError(t, signOnce(t.Context(), s, "after"), "%v", c.rv)
			require.Greater(t, f.closed.Load(), closed, "%v: the session must go", c.rv)
			for range 4 { // both lanes come round and have a session again
				require.NoError(t, signOnce(t.Context(), s, "round"))
			}
			require.Equal(t, f.opened.Load()-opened, f.closed.Load()-closed, "%v: as many sessions as before", c.rv)
		}
	}
	require.EqualValues(t, 1, f.logins.Load(), "the login was never lost")
}

// An operation that fails between SignInit and Sign stays active in its session:
// the next user of that session would get OPERATION_ACTIVE for ever.
func TestFailedOperationPoisonsNoSession(t *testing.T) {
	t.Parallel()
	st, f := wrapped(t)
	c := st.HSM()
	c.Lanes = 2
	tok := softhsmtest.Open(t, c)
	s := p256(t, tok)
	f.set(func(f *faults) {
		f.insteadOfSign = func() error { return p11.Error(p11.CKR_DEVICE_ERROR) } // C_SignInit was real
	})
	for range 4 { // more often than there are lanes
		require.ErrorIs(t, signOnce(t.Context(), s, "x"), fault.ErrUnavailable)
	}
	f.set(func(f *faults) { f.insteadOfSign = nil })
	inits := f.inits.Load()
	for range 20 {
		require.NoError(t, signOnce(t.Context(), s, "x"))
	}
	require.EqualValues(t, 20, f.inits.Load()-inits, "nobody had to try twice")
}

// A wrong PIN is tried once, at Open.
func TestWrongPINIsTriedOnce(t *testing.T) {
	t.Parallel()
	st, f := wrapped(t)
	c := st.HSM()
	c.PIN = func(context.Context) (secret.Bytes, error) { return secret.New([]byte("not-the-pin")), nil }
	_, err := hsm.Open(t.Context(), c)
	require.ErrorIs(t, err, hsm.ErrPIN)
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	require.NotContains(t, err.Error(), "not-the-pin")
	require.EqualValues(t, 1, f.logins.Load())
	require.EqualValues(t, f.opened.Load(), f.closed.Load())
	tok := softhsmtest.Open(t, st.HSM()) // the operator's next try is free
	require.NoError(t, tok.Check(t.Context()))
}

// A PIN that is locked while we run: 64 callers lose the login, one tries, all
// stop, and nobody ever tries again.
func TestLockedPINStopsForGood(t *testing.T) {
	t.Parallel()
	st, f := wrapped(t)
	tok := softhsmtest.Open(t, st.HSM())
	s := p256(t, tok)
	f.set(func(f *faults) { f.onLogin = func() error { return p11.Error(p11.CKR_PIN_LOCKED) } })
	other := second(t, st)
	session := other.session(t)
	require.NoError(t, other.Logout(session))
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			if err := signOnce(t.Context(), s, "x"); !errors.Is(err, hsm.ErrPIN) {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	for range 10 {
		require.ErrorIs(t, signOnce(t.Context(), s, "x"), hsm.ErrPIN)
		require.ErrorIs(t, tok.Check(t.Context()), hsm.ErrPIN)
	}
	require.EqualValues(t, 2, f.logins.Load(), "Open's and one more")
}
