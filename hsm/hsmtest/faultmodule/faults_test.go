package faultmodule_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/broker"
	"github.com/signet-hsm/signet/hsm/hsmtest/faultmodule"
	"github.com/signet-hsm/signet/internal/secret"
)

// The faults 21 to 36 of the reliability plan. Each says what is harmed, what the
// caller may notice, and asserts the counter that proves it.

// 23: a slow HSM. Callers leave at their deadlines, nobody waits longer, and what
// waits is bounded by the callers there are.
func TestFault23_Slow(t *testing.T) {
	each(t, modes, func(t *testing.T, r *rig) {
		s := r.signer(t)
		slow := r.Inject(faultmodule.Rule{On: "C_SignInit", Do: faultmodule.Delay, Wait: 20 * time.Millisecond})
		const patience = 60 * time.Millisecond
		var good, late atomic.Int64
		var wg sync.WaitGroup
		start := time.Now()
		for range 32 {
			wg.Go(func() {
				for range 3 {
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					err := sign(ctx, s, "x")
					cancel()
					switch {
					case err == nil:
						good.Add(1)
					case errors.Is(err, fault.ErrUnavailable):
						late.Add(1)
					default:
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		// In the module one call can not be cut off, so a deadline is met up to the
		// slowness itself; a wide margin is for a busy machine.
		require.Less(t, time.Since(start), 3*(patience+20*time.Millisecond)+5*time.Second)
		require.Positive(t, good.Load())
		require.EqualValues(t, 96, good.Load()+late.Load())
		require.Positive(t, slow.Hits())
		slow.Stop()
		recovers(t, s)
		require.Zero(t, r.metric(t, "signet_hsm_lanes_waiting"))
	})
}

// 24: sessions that are gone, one by one and all at once. No caller notices.
func TestFault24_SessionLost(t *testing.T) {
	each(t, modes, func(t *testing.T, r *rig) {
		s := r.signer(t)
		l := r.load(t, s, 8, 30*time.Second)
		for _, rv := range []uint{p11.CKR_SESSION_HANDLE_INVALID, p11.CKR_SESSION_CLOSED} {
			f := r.Inject(faultmodule.Rule{On: "C_SignInit", After: r.rand.IntN(20), Times: 1, Do: faultmodule.Return, Value: rv})
			require.Eventually(t, func() bool { return f.Hits() == 1 }, time.Minute, time.Millisecond)
			f.Stop()
			l.advance(t)
		}
		f := r.Inject(faultmodule.Rule{On: "C_SignInit", After: r.rand.IntN(20), Times: 1, Do: faultmodule.CloseAll})
		require.Eventually(t, func() bool { return f.Hits() == 1 }, time.Minute, time.Millisecond)
		f.Stop()
		l.advance(t)
		l.stop(t)
		l.noFailures(t)
	})
}

// 25: somebody else in the process logs out. No caller notices, and one login
// heals all who lost it.
func TestFault25_LoginLost(t *testing.T) {
	each(t, modes, func(t *testing.T, r *rig) {
		s := r.signer(t)
		l := r.load(t, s, 8, 30*time.Second)
		const strikes = 3
		before := r.Calls("C_Login")
		for range strikes {
			f := r.Inject(faultmodule.Rule{On: "C_SignInit", After: r.rand.IntN(20), Times: 1, Do: faultmodule.Logout})
			require.Eventually(t, func() bool { return f.Hits() == 1 }, time.Minute, time.Millisecond)
			f.Stop()
			l.advance(t)
		}
		l.stop(t)
		t.Logf("%d logins, %d initialised, heals %v, repairs %v", r.Calls("C_Login")-before, r.Calls("C_Initialize"), r.metric(t, "signet_hsm_heals_total"), r.metric(t, "signet_hsm_repairs_total"))
		l.noFailures(t)
		require.Equal(t, strikes, r.Calls("C_Login")-before, "one login per loss, whoever noticed it first")
	})
}

// 26: a call fails between its two halves and its operation stays active in the
// session. Nobody gets that session again.
func TestFault26_OperationActive(t *testing.T) {
	each(t, modes, func(t *testing.T, r *rig) {
		s := r.signer(t)
		f := r.Inject(faultmodule.Rule{On: "C_Sign", Do: faultmodule.Return, Value: p11.CKR_DATA_LEN_RANGE})
		for range 6 { // more often than there are lanes
			require.Error(t, sign(t.Context(), s, "x"))
		}
		f.Stop()
		inits := r.Calls("C_SignInit")
		const calls = 40
		for range calls {
			require.NoError(t, sign(t.Context(), s, "x"))
		}
		require.Equal(t, calls, r.Calls("C_SignInit")-inits, "nobody had to try twice")
	})
}

// 30: a wrong PIN is tried once, and so is one that is locked while we run,
// however many callers lose their login.
func TestFault30_PIN(t *testing.T) {
	each(t, []mode{none, single}, func(t *testing.T, r *rig) { // of two workers the other would go on
		s := r.signer(t)
		before := r.Calls("C_Login")
		rv := []uint{p11.CKR_PIN_INCORRECT, p11.CKR_PIN_LOCKED}[r.seed%2]
		r.Inject(faultmodule.Rule{On: "C_Login", Do: faultmodule.Return, Value: rv})
		r.Inject(faultmodule.Rule{On: "C_SignInit", Times: 1, Do: faultmodule.Logout})
		var refused atomic.Int64
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				if err := sign(context.Background(), s, "x"); errors.Is(err, hsm.ErrPIN) {
					refused.Add(1)
				}
			})
		}
		wg.Wait()
		require.Positive(t, refused.Load())
		for range 10 {
			_ = r.tok.Check(t.Context())
			_ = sign(t.Context(), s, "x")
		}
		require.Equal(t, 1, r.Calls("C_Login")-before)
		r.Clear()

		// At start, with a PIN that is wrong for real.
		before = r.Calls("C_Login")
		c := broker.Config{HSM: r.st.HSM()}
		c.HSM.Module = softCopy(t, r)
		c.HSM.PIN = func(context.Context) (secret.Bytes, error) { return secret.New([]byte("not-the-pin")), nil }
		_, err := r.open(t.Context(), c)
		require.ErrorIs(t, err, hsm.ErrPIN)
		require.NotContains(t, err.Error(), "not-the-pin")
		require.Equal(t, 1, r.Calls("C_Login")-before)
	})
}

// 32: the token is full. The caller hears of it, nothing half made stays, the keys
// there are go on, and the next attempt may succeed.
func TestFault32_StorageFull(t *testing.T) {
	each(t, modes, func(t *testing.T, r *rig) {
		s := r.signer(t)
		next := hsm.Ref{Tenant: "alpha", Role: hsm.RoleSigner, Name: "next"}
		for _, rule := range []faultmodule.Rule{
			{Do: faultmodule.Return, Value: p11.CKR_DEVICE_MEMORY},
			{Do: faultmodule.Half, Value: p11.CKR_DEVICE_MEMORY},
			{Do: faultmodule.Half, Value: p11.CKR_FUNCTION_FAILED}, // what SoftHSM answers
		} {
			rule.On, rule.Times = "C_GenerateKeyPair", 1
			f := r.Inject(rule)
			_, err := r.tok.Generate(t.Context(), next, hsm.P256, [16]byte{7})
			require.ErrorIs(t, err, fault.ErrUnavailable)
			require.Equal(t, rule.Value == p11.CKR_DEVICE_MEMORY, errors.Is(err, hsm.ErrFull))
			require.ErrorContains(t, err, map[bool]string{true: "no room", false: "full"}[errors.Is(err, hsm.ErrFull)])
			require.Equal(t, 1, f.Hits())
			f.Stop()
			require.NoError(t, sign(t.Context(), s, "x"))
			// The same label and id: debris of either half would be ErrExists.
			_, err = r.tok.Generate(t.Context(), next, hsm.P256, [16]byte{7})
			require.NoError(t, err, "%+v", rule)
			require.NoError(t, r.tok.Destroy(t.Context(), next))
		}
	})
}

// 35: the generator of the HSM fails. Nothing is random by another way.
func TestFault35_NoRandom(t *testing.T) {
	each(t, modes, func(t *testing.T, r *rig) {
		kek := hsm.Ref{Tenant: "alpha", Role: hsm.RoleKEK, Name: "k"}
		_, err := r.tok.Generate(t.Context(), kek, hsm.AES256, [16]byte{})
		require.NoError(t, err)
		a, err := r.tok.AEAD(t.Context(), kek)
		require.NoError(t, err)
		f := r.Inject(faultmodule.Rule{On: "C_GenerateRandom", Do: faultmodule.Return, Value: p11.CKR_RANDOM_NO_RNG})
		p := make([]byte, 32)
		require.ErrorIs(t, r.tok.Random(t.Context(), p), fault.ErrUnavailable)
		require.Equal(t, make([]byte, 32), p)
		_, err = a.Seal(t.Context(), []byte("secret"), []byte("aad"))
		require.ErrorIs(t, err, fault.ErrUnavailable, "the nonce is the HSM's")
		require.Positive(t, f.Hits())
		f.Stop()
		require.Eventually(t, func() bool { return r.tok.Random(t.Context(), p) == nil }, 30*time.Second, 5*time.Millisecond)
		require.NotEqual(t, make([]byte, 32), p)
	})
}

// 33: the module leaks. Its worker is replaced when it has grown above its limit,
// and no call is dropped.
func TestFault33_Leak(t *testing.T) {
	eachWith(t, isolated, func(c *broker.Config) { c.MemoryLimit, c.HSM.Hang = 300<<20, 2*time.Second }, func(t *testing.T, r *rig) {
		s := r.signer(t)
		l := r.load(t, s, 4, 30*time.Second)
		f := r.Inject(faultmodule.Rule{On: "C_SignInit", Times: 1000, Do: faultmodule.Leak, Value: 1 << 20})
		require.Eventually(t, func() bool { return f.Hits() == 1000 }, time.Minute, time.Millisecond)
		require.Eventually(t, func() bool { return r.metric(t, "signet_hsm_worker_ends_total") >= 1 }, time.Minute, 5*time.Millisecond)
		require.Eventually(t, func() bool { return r.metric(t, "signet_hsm_worker_resident_bytes") < 2*300<<20 }, time.Minute, 5*time.Millisecond)
		r.settle(t)
		l.advance(t)
		l.stop(t)
		l.noFailures(t)
	})
}
