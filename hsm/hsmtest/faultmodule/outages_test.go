package faultmodule_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/broker"
	"github.com/signet-hsm/signet/hsm/hsmtest/faultmodule"
)

// 21: the module crashes, in whatever way. Its worker dies and is replaced, calls
// under way are made again, no caller notices, and the service is the same process.
func TestFault21_Crash(t *testing.T) {
	each(t, isolated, func(t *testing.T, r *rig) {
		s := r.signer(t)
		l := r.load(t, s, 8, 30*time.Second)
		for i, do := range []faultmodule.Action{faultmodule.Segfault, faultmodule.Abort, faultmodule.Kill} {
			f := r.Inject(faultmodule.Rule{On: "C_SignInit", After: r.rand.IntN(20), Times: 1, Late: r.rand.IntN(2) == 0, Do: do})
			require.Eventually(t, func() bool { return f.Hits() == 1 }, time.Minute, time.Millisecond)
			f.Stop()
			require.Eventually(t, func() bool { return r.metric(t, "signet_hsm_worker_ends_total") == float64(i+1) }, time.Minute, time.Millisecond)
			r.settle(t)
			l.advance(t)
		}
		l.stop(t)
		l.noFailures(t)
		require.Positive(t, r.metric(t, "signet_hsm_worker_repeats_total"))
	})
}

// 22: a call that never ends. In this process its caller leaves at its deadline,
// the others go on, and another instance takes the place. A worker is killed, and
// the call made again within the same deadline.
func TestFault22_Hang(t *testing.T) {
	eachWith(t, modes, func(c *broker.Config) { c.HSM.Hang = 500 * time.Millisecond }, func(t *testing.T, r *rig) {
		patience, count := time.Second, "signet_hsm_instances_replaced_total"
		if r.workers > 0 {
			patience, count = 30*time.Second, "signet_hsm_worker_ends_total"
		}
		s := r.signer(t)
		l := r.load(t, s, 6, patience)
		f := r.Inject(faultmodule.Rule{On: "C_SignInit", After: r.rand.IntN(20), Times: 1, Do: faultmodule.Hang})
		require.Eventually(t, func() bool { return f.Hits() == 1 }, time.Minute, time.Millisecond)
		require.Eventually(t, func() bool { return r.metric(t, count) == 1 }, time.Minute, 5*time.Millisecond)
		l.advance(t) // all six, so nobody hangs
		if r.workers > 0 {
			l.stop(t)
			l.noFailures(t)
			return
		}
		l.stop(t)
		if p := l.first.Load(); p != nil {
			require.ErrorIs(t, *p, fault.ErrUnavailable)
		}
		require.Less(t, time.Duration(l.worst.Load()), patience+10*time.Second, "no caller waits for the call that hangs")
		f.Stop()
		recovers(t, s)
	})
}

// 27: everything the HSM says is an error, for a while. Callers hear of an outage,
// the breaker opens, and signatures are good again without a restart.
func TestFault27_DeviceError(t *testing.T) {
	each(t, modes, func(t *testing.T, r *rig) {
		s := r.signer(t)
		rv := []uint{p11.CKR_DEVICE_ERROR, p11.CKR_DEVICE_REMOVED}[r.seed%2]
		before := r.Calls("C_Initialize")
		f := r.Inject(faultmodule.Rule{Do: faultmodule.Return, Value: rv})
		require.Eventually(t, func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			require.ErrorIs(t, sign(ctx, s, "x"), fault.ErrUnavailable)
			return r.metric(t, "signet_hsm_breaker_open") >= 1
		}, time.Minute, time.Millisecond)
		f.Stop()
		t.Logf("good again after %v", recovers(t, s))
		require.Eventually(t, func() bool { return r.metric(t, "signet_hsm_breaker_open") == 0 }, time.Minute, time.Millisecond)
		require.Greater(t, r.Calls("C_Initialize"), before)
	})
}

// 28: the token is taken out and put back; the module sees it only when it is
// initialised anew. Nobody restarts anything.
func TestFault28_TokenGone(t *testing.T) {
	each(t, modes, func(t *testing.T, r *rig) {
		s := r.signer(t)
		initialised, logins := r.Calls("C_Initialize"), r.Calls("C_Login")
		r.Remove(true)
		require.Eventually(t, func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			require.ErrorIs(t, sign(ctx, s, "x"), fault.ErrUnavailable)
			return r.metric(t, "signet_hsm_instances_down") == float64(r.engines())
		}, time.Minute, time.Millisecond)
		require.Equal(t, logins, r.Calls("C_Login"), "no PIN for a token that is not there")
		r.Restore()
		t.Logf("good again after %v", recovers(t, s))
		require.Greater(t, r.Calls("C_Initialize"), initialised)
		require.Eventually(t, func() bool { return r.metric(t, "signet_hsm_instances_down") == 0 }, time.Minute, time.Millisecond)
		require.Equal(t, logins+r.engines(), r.Calls("C_Login"))
	})
}

// 29: the token comes back initialised anew, with its label and without its keys;
// or it is another one from the start. Nothing is signed and no PIN is tried.
func TestFault29_AnotherToken(t *testing.T) {
	each(t, modes, func(t *testing.T, r *rig) {
		s := r.signer(t)
		tokens := filepath.Join(r.st.Dir, "tokens")
		list, err := os.ReadDir(tokens)
		require.NoError(t, err)
		require.Len(t, list, 1)
		old, away := filepath.Join(tokens, list[0].Name()), filepath.Join(r.st.Dir, "away")

		r.Remove(true)
		require.Error(t, sign(t.Context(), s, "x"))
		require.NoError(t, os.Rename(old, away))
		lib, err := os.ReadFile(filepath.Join(r.st.Dir, "libsofthsm2.so"))
		require.NoError(t, err)
		plain := filepath.Join(r.st.Dir, "plain.so")
		require.NoError(t, os.WriteFile(plain, lib, 0o700))
		require.NoError(t, hsm.InitToken(t.Context(), hsm.InitConfig{
			Module: plain, Env: r.st.HSM().Env, Label: r.st.Label, SOPIN: r.st.SOPIN, PIN: r.st.PIN,
		}), "the same label, and even the same PIN")
		logins := r.Calls("C_Login")
		r.Restore()
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			require.ErrorIs(t, sign(ctx, s, "x"), fault.ErrUnavailable)
			cancel()
		}
		require.Equal(t, logins, r.Calls("C_Login"))

		list, err = os.ReadDir(tokens)
		require.NoError(t, err)
		for _, other := range list {
			require.NoError(t, os.RemoveAll(filepath.Join(tokens, other.Name())))
		}
		require.NoError(t, os.Rename(away, old))
		recovers(t, s)
		require.Eventually(t, func() bool { return r.metric(t, "signet_hsm_instances_down") == 0 }, time.Minute, time.Millisecond)

		// At start, with the serial that is expected.
		logins = r.Calls("C_Login")
		c := broker.Config{HSM: r.st.HSM()}
		c.HSM.TokenSerial = "0123456789abcdef"
		_, err = r.open(t.Context(), c)
		require.ErrorIs(t, err, hsm.ErrTokenNotFound)
		require.ErrorContains(t, err, r.st.Label, "it says which token is there")
		require.Equal(t, logins, r.Calls("C_Login"))
	})
}

// 36: two HSMs that should have the same keys have not. The one that disagrees is
// excluded: better no signature than one by another key.
func TestFault36_MembersDisagree(t *testing.T) {
	each(t, modes, func(t *testing.T, first *rig) {
		second := newRig(t, first.mode, first.seed, nil)
		first.signer(t)
		second.signer(t) // the same name, another key
		reg := prometheus.NewRegistry()
		member := func(name string, r *rig) hsm.Member {
			c := broker.Config{HSM: r.st.HSM()}
			c.HSM.Lanes, c.HSM.Metrics = 2, prometheus.WrapRegistererWith(prometheus.Labels{"member": name}, reg)
			return hsm.Member{Name: name, Open: func(ctx context.Context) (hsm.Engine, error) { return r.engine(ctx, c) }}
		}
		group, err := hsm.NewGroup(t.Context(), []hsm.Member{member("first", first), member("second", second)}, hsm.GroupOptions{Metrics: reg})
		require.NoError(t, err)
		tok, err := hsm.New(t.Context(), group, hsm.Options{})
		require.NoError(t, err)
		s, err := tok.Signer(t.Context(), ref)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return gather(t, reg, "signet_hsm_workers_ready") == float64(2*first.workers) }, time.Minute, time.Millisecond)
		require.EqualValues(t, 1, gather(t, reg, "signet_hsm_member_excluded"))
		require.NoError(t, sign(t.Context(), s, "x"))

		f := first.Inject(faultmodule.Rule{Do: faultmodule.Return, Value: p11.CKR_DEVICE_ERROR})
		signs := second.Calls("C_SignInit")
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			err := sign(ctx, s, "x")
			cancel()
			require.ErrorIs(t, err, fault.ErrUnavailable)
			require.False(t, errors.Is(err, errBad))
		}
		require.Equal(t, signs, second.Calls("C_SignInit"), "the other key was not used")
		f.Stop()
		recovers(t, s)
		require.NoError(t, tok.Close())
	})
}
