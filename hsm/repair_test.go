package hsm_test

import (
	"context"
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
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

// eventually repeats check until it is true.
func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	require.Eventually(t, check, 20*time.Second, 2*time.Millisecond, what)
}

// die makes the module answer DEVICE_ERROR to everything that a dead worker
// process behind it would, until it is initialised anew after alive said so.
func die(f *faulty, alive func() bool) (initialised *atomic.Int64) {
	initialised = &atomic.Int64{}
	var dead atomic.Bool
	dead.Store(true)
	fail := func() error {
		if dead.Load() {
			return p11.Error(p11.CKR_DEVICE_ERROR)
		}
		return nil
	}
	f.set(func(f *faults) {
		f.onInit, f.onOpen = fail, fail
		f.onInitialize = func() error {
			initialised.Add(1)
			if !alive() {
				return p11.Error(p11.CKR_DEVICE_ERROR)
			}
			dead.Store(false)
			return nil
		}
	})
	return initialised
}

// The process behind the module dies under load: new sessions do not help, only
// C_Finalize and C_Initialize do. No signature of 3,000 may fail.
func TestInitialisesTheModuleAnewUnderLoad(t *testing.T) {
	t.Parallel()
	st, f := wrapped(t)
	reg := prometheus.NewRegistry()
	c := st.HSM()
	c.Metrics = reg
	tok := softhsmtest.Open(t, c)
	s := p256(t, tok)
	const workers, total = 16, 3000
	var made atomic.Int64
	var failed atomic.Int64
	var wg sync.WaitGroup
	for g := range workers {
		wg.Go(func() {
			for i := 0; made.Add(1) <= total; i++ {
				if err := signOnce(t.Context(), s, fmt.Sprint(g, i)); err != nil {
					failed.Add(1)
					t.Errorf("worker %d, signature %d: %v", g, i, err)
				}
			}
		})
	}
	var anew int64
	for strike := range 3 {
		eventually(t, "progress", func() bool { return made.Load() > int64(strike+1)*500 })
		n := die(f, func() bool { return true })
		eventually(t, "repair", func() bool { return n.Load() > 0 })
		anew += n.Load()
	}
	wg.Wait()
	require.Zero(t, failed.Load())
	require.EqualValues(t, 3, anew, "once per death, whoever noticed it")
	require.EqualValues(t, 3, gather(t, reg, "signet_hsm_repairs_total"))
	require.Zero(t, gather(t, reg, "signet_hsm_instances_down"))
	require.Zero(t, gather(t, reg, "signet_hsm_breaker_open"))
}

// While the module can not be had at all, callers are refused at once instead of
// at their deadlines, attempts to repair grow rare, and when it is back it serves
// again without anybody's help.
func TestBreaker(t *testing.T) {
	t.Parallel()
	st, f := wrapped(t)
	reg := prometheus.NewRegistry()
	c := st.HSM()
	c.Metrics = reg
	tok := softhsmtest.Open(t, c)
	s := p256(t, tok)
	var back atomic.Bool
	attempts := die(f, back.Load)
	err := signOnce(t.Context(), s, "x")
	require.ErrorIs(t, err, fault.ErrUnavailable)
	require.ErrorIs(t, err, p11.Error(p11.CKR_DEVICE_ERROR))
	eventually(t, "breaker", func() bool { return gather(t, reg, "signet_hsm_breaker_open") == 1 })
	require.EqualValues(t, 1, gather(t, reg, "signet_hsm_instances_down"))
	start := time.Now()
	for range 200 {
		require.ErrorIs(t, signOnce(t.Context(), s, "x"), fault.ErrUnavailable)
	}
	require.Less(t, time.Since(start), 10*time.Second, "nobody waits")
	require.Less(t, attempts.Load(), int64(20), "callers do not drive the repair")
	_, err = tok.Lookup(t.Context(), signerRef)
	require.NoError(t, err, "what is known needs no module")
	back.Store(true)
	eventually(t, "service", func() bool { return signOnce(t.Context(), s, "x") == nil })
	require.Zero(t, gather(t, reg, "signet_hsm_breaker_open"))
}

// One instance is dead, the other serves: nobody notices.
func TestOtherInstancesServe(t *testing.T) {
	t.Parallel()
	st, f := wrapped(t)
	reg := prometheus.NewRegistry()
	c := st.HSM()
	c.Metrics, c.Instances, c.Lanes = reg, 2, 4
	tok := softhsmtest.Open(t, c)
	s := p256(t, tok)
	var first, back atomic.Bool
	var victim atomic.Pointer[p11.Ctx]
	f.set(func(f *faults) {
		f.onSignAt = func(at *p11.Ctx) error {
			if first.CompareAndSwap(false, true) {
				victim.Store(at)
			}
			if victim.Load() == at && !back.Load() {
				return p11.Error(p11.CKR_DEVICE_REMOVED)
			}
			return nil
		}
		f.onOpenAt = func(at *p11.Ctx) error {
			if victim.Load() == at && !back.Load() {
				return p11.Error(p11.CKR_DEVICE_REMOVED)
			}
			return nil
		}
	})
	for i := range 300 {
		require.NoError(t, signOnce(t.Context(), s, fmt.Sprint(i)))
	}
	require.EqualValues(t, 1, gather(t, reg, "signet_hsm_instances_down"))
	require.Zero(t, gather(t, reg, "signet_hsm_breaker_open"), "one instance is left")
	back.Store(true)
	eventually(t, "repair", func() bool { return gather(t, reg, "signet_hsm_instances_down") == 0 })
	for i := range 20 {
		require.NoError(t, signOnce(t.Context(), s, fmt.Sprint(i)))
	}
}

// A call that never ends: its caller leaves at its deadline, and a copy of the
// module takes the place of the one that holds it, with as many lanes.
func TestHangingCall(t *testing.T) {
	t.Parallel()
	st, f := wrapped(t)
	reg := prometheus.NewRegistry()
	c := st.HSM()
	c.Lanes, c.Hang, c.Metrics = 2, 300*time.Millisecond, reg
	tok := softhsmtest.Open(t, c)
	s := p256(t, tok)
	entered, free := jam(f)
	defer free()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	err := signOnce(ctx, s, "x")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, fault.ErrUnavailable)
	require.Less(t, time.Since(start), 5*time.Second)
	<-entered
	require.EqualValues(t, 1, gather(t, reg, "signet_hsm_calls_abandoned"))
	f.set(func(f *faults) { f.onInit = nil })
	require.NoError(t, signOnce(t.Context(), s, "x"), "the other lane serves")
	eventually(t, "replacement", func() bool { return gather(t, reg, "signet_hsm_instances_replaced_total") == 1 })
	eventually(t, "service", func() bool { return gather(t, reg, "signet_hsm_instances_down") == 0 })
	again, freeAgain := jam(f) // both lanes can be in the module at once
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if err := signOnce(t.Context(), s, "x"); err != nil {
				t.Error(err)
			}
		})
	}
	<-again
	<-again
	freeAgain()
	wg.Wait()
	free() // the lost call comes home, and takes its module along
	eventually(t, "return", func() bool { return gather(t, reg, "signet_hsm_calls_abandoned") == 0 })
	for range 10 {
		require.NoError(t, signOnce(t.Context(), s, "x"))
	}
}

// A call that is late, but ends: its lane comes back, nothing is replaced.
func TestLateCall(t *testing.T) {
	t.Parallel()
	st, f := wrapped(t)
	reg := prometheus.NewRegistry()
	c := st.HSM()
	c.Lanes, c.Metrics = 2, reg
	tok := softhsmtest.Open(t, c)
	s := p256(t, tok)
	entered, free := jam(f)
	defer free()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, signOnce(ctx, s, "x"), context.DeadlineExceeded)
	<-entered
	free()
	eventually(t, "return", func() bool { return gather(t, reg, "signet_hsm_lanes_in_use") == 0 })
	for range 6 {
		require.NoError(t, signOnce(t.Context(), s, "x"))
	}
	require.EqualValues(t, 1, gather(t, reg, "signet_hsm_calls_left_total"))
	require.Zero(t, gather(t, reg, "signet_hsm_instances_replaced_total"))
	require.Zero(t, gather(t, reg, "signet_hsm_calls_abandoned"))
}

// A PIN that is refused while the module is repaired is tried once, and the
// repair stops for good.
func TestRepairNeverLoopsOverThePIN(t *testing.T) {
	t.Parallel()
	st, f := wrapped(t)
	tok := softhsmtest.Open(t, st.HSM())
	s := p256(t, tok)
	logins := f.logins.Load()
	n := die(f, func() bool { return true })
	f.set(func(f *faults) { f.onLogin = func() error { return p11.Error(p11.CKR_PIN_INCORRECT) } })
	eventually(t, "refusal", func() bool { return errors.Is(signOnce(t.Context(), s, "x"), hsm.ErrPIN) })
	for range 50 {
		require.ErrorIs(t, signOnce(t.Context(), s, "x"), hsm.ErrPIN)
	}
	time.Sleep(300 * time.Millisecond)
	require.EqualValues(t, 1, f.logins.Load()-logins)
	require.EqualValues(t, 1, n.Load())
}

// Sessions that are lost while nobody calls are healed before anybody does.
func TestKeepAlive(t *testing.T) {
	t.Parallel()
	st, f := wrapped(t)
	c := st.HSM()
	c.Lanes, c.KeepAlive = 2, 40*time.Millisecond
	tok := softhsmtest.Open(t, c)
	s := p256(t, tok)
	other := second(t, st)
	f.gate.Lock()
	err := other.CloseAllSessions(other.slot)
	f.gate.Unlock()
	require.NoError(t, err)
	eventually(t, "login", func() bool { return f.logins.Load() == 2 })
	require.NoError(t, signOnce(t.Context(), s, "x"))
	require.EqualValues(t, 2, f.logins.Load())
}

// The keys of all instances are one set, whichever instance a call runs on.
func TestInstancesShareKeys(t *testing.T) {
	t.Parallel()
	st, f := wrapped(t)
	c := st.HSM()
	c.Instances, c.Lanes = 2, 2
	tok := softhsmtest.Open(t, c)
	s := p256(t, tok)
	require.EqualValues(t, 2, f.logins.Load(), "one per instance")
	for range 8 {
		require.NoError(t, signOnce(t.Context(), s, "x"))
	}
	ref := hsm.Ref{Tenant: "alpha", Role: hsm.RoleKEK, Name: "k"}
	_, err := tok.Generate(t.Context(), ref, hsm.AES256, [16]byte{})
	require.NoError(t, err)
	k, err := tok.AEAD(t.Context(), ref)
	require.NoError(t, err)
	for range 8 { // sealed by one, opened by the other
		blob, err := k.Seal(t.Context(), []byte("secret"), []byte("aad"))
		require.NoError(t, err)
		plain, err := k.Open(t.Context(), blob, []byte("aad"))
		require.NoError(t, err)
		require.Equal(t, "secret", string(plain))
	}
	require.NoError(t, tok.Destroy(t.Context(), signerRef))
	for range 4 {
		require.ErrorIs(t, signOnce(t.Context(), s, "x"), hsm.ErrKeyNotFound)
		_, err := tok.Lookup(t.Context(), signerRef)
		require.ErrorIs(t, err, hsm.ErrKeyNotFound)
	}
}

// With session copies the keys of three roles are made so that they can be copied,
// and are watched: what gained a usage bit is not used.
func TestSessionCopies(t *testing.T) {
	t.Parallel()
	st, _ := wrapped(t)
	c := st.HSM()
	c.SessionCopies, c.Lanes, c.Instances = true, 4, 2
	tok := softhsmtest.Open(t, c)
	s := p256(t, tok)
	for range 20 {
		require.NoError(t, signOnce(t.Context(), s, "x"))
	}
	r := second(t, st)
	session := r.session(t)
	private, _ := r.halves(t, session, signerRef)
	kek := hsm.Ref{Tenant: "alpha", Role: hsm.RoleKEK, Name: "k"}
	_, err := tok.Generate(t.Context(), kek, hsm.AES256, [16]byte{})
	require.NoError(t, err)
	secret, _ := r.halves(t, session, kek)
	for _, bit := range []uint{p11.CKA_MODIFIABLE, p11.CKA_COPYABLE} {
		v, err := r.GetAttributeValue(session, secret, []*p11.Attribute{p11.NewAttribute(bit, nil)})
		require.NoError(t, err)
		require.Equal(t, []byte{0}, v[0].Value, "keys that encrypt are never copied")
	}

	strict := softhsmtest.Open(t, st.HSM())
	_, err = strict.Signer(t.Context(), signerRef)
	require.ErrorIs(t, err, hsm.ErrTemplate, "without the option such a key is refused")

	require.NoError(t, r.SetAttributeValue(session, private, []*p11.Attribute{p11.NewAttribute(p11.CKA_DERIVE, true)}))
	keys, err := tok.Keys(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, keys, 1, "the key that may derive now is not among the usable ones")
	_, err = tok.Lookup(t.Context(), signerRef)
	require.ErrorIs(t, err, hsm.ErrTemplate)
}

// Lost sessions and logins take the copies along; a key that somebody else
// destroyed is not used longer than a copy is trusted.
func TestSessionCopiesFollowTheirKey(t *testing.T) {
	st, f := wrapped(t)
	c := st.HSM()
	c.SessionCopies, c.Lanes = true, 2
	tok := softhsmtest.Open(t, c)
	s := p256(t, tok)
	r := second(t, st)
	for i := range 5 {
		require.NoError(t, signOnce(t.Context(), s, "x"))
		session := r.session(t)
		f.gate.Lock()
		if i%2 == 0 {
			require.NoError(t, r.Logout(session))
		} else {
			require.NoError(t, r.CloseAllSessions(r.slot))
		}
		f.gate.Unlock()
		for range 6 {
			require.NoError(t, signOnce(t.Context(), s, "x"))
		}
	}
	restore := hsm.SetCopyLife(0)
	defer restore()
	session := r.session(t)
	private, public := r.halves(t, session, signerRef)
	require.NoError(t, errors.Join(r.DestroyObject(session, private), r.DestroyObject(session, public)))
	require.ErrorIs(t, signOnce(t.Context(), s, "x"), hsm.ErrKeyNotFound)
}
