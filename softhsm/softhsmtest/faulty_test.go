package softhsmtest_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/hsmtest/faultmodule"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

var ref = hsm.Ref{Tenant: "alpha", Role: hsm.RoleSigner, Name: "s"}

func signer(t *testing.T, tok *hsm.Token) *hsm.Signer {
	t.Helper()
	_, err := tok.Generate(t.Context(), ref, hsm.P256, [16]byte{})
	require.NoError(t, err)
	s, err := tok.Signer(t.Context(), ref)
	require.NoError(t, err)
	return s
}

func sign(ctx context.Context, s *hsm.Signer) (good bool, err error) {
	d := sha256.Sum256([]byte("x"))
	sig, err := s.SignContext(ctx, d[:], crypto.SHA256)
	return err == nil && ecdsa.VerifyASN1(s.Public().(*ecdsa.PublicKey), d[:], sig), err
}

// Without a rule the shim is the module; with one it does what the rule says, to
// the calls that the rule says.
func TestRules(t *testing.T) {
	t.Parallel()
	st, m := softhsmtest.Faulty(t)
	c := st.HSM()
	c.Lanes = 2
	tok := softhsmtest.Open(t, c)
	s := signer(t, tok)
	ctx := t.Context()

	before := m.Calls("C_SignInit")
	good, err := sign(ctx, s)
	require.True(t, good, err)
	require.Equal(t, 1, m.Calls("C_SignInit")-before)

	// By number.
	f := m.Inject(faultmodule.Rule{On: "C_SignInit", After: 2, Times: 1, Do: faultmodule.Return, Value: p11.CKR_KEY_FUNCTION_NOT_PERMITTED}) // never tried again
	for i := range 4 {
		_, err := sign(ctx, s)
		if i == 2 {
			require.ErrorIs(t, err, p11.Error(p11.CKR_KEY_FUNCTION_NOT_PERMITTED))
		} else {
			require.NoError(t, err)
		}
	}
	require.Equal(t, 1, f.Hits())
	f.Stop()

	// By chance: the same seed strikes the same calls, another one others.
	strikes := func(seed uint64) (list []int) {
		f := m.Inject(faultmodule.Rule{On: "C_GenerateRandom", Chance: 0.3, Seed: seed, Do: faultmodule.Return, Value: p11.CKR_RANDOM_NO_RNG})
		defer f.Stop()
		for i := range 200 {
			if tok.Random(ctx, make([]byte, 8)) != nil {
				list = append(list, i)
			}
		}
		return list
	}
	first := strikes(1)
	require.Equal(t, first, strikes(1))
	require.NotEqual(t, first, strikes(2))
	require.InDelta(t, 60, len(first), 30)

	// Slow and hanging.
	f = m.Inject(faultmodule.Rule{On: "C_SignInit", Times: 1, Do: faultmodule.Delay, Wait: 50 * time.Millisecond})
	start := time.Now()
	good, err = sign(ctx, s)
	require.True(t, good, err)
	require.GreaterOrEqual(t, time.Since(start), 50*time.Millisecond)
	f.Stop()
	f = m.Inject(faultmodule.Rule{On: "C_SignInit", Do: faultmodule.Hang})
	var wg sync.WaitGroup
	wg.Go(func() {
		if good, err := sign(context.Background(), s); !good {
			t.Error(err)
		}
	})
	require.Eventually(t, func() bool { return f.Hits() == 1 }, 10*time.Second, time.Millisecond)
	f.Stop()
	wg.Wait()

	// Lies.
	f = m.Inject(faultmodule.Rule{On: "C_Sign", Do: faultmodule.Flip, Seed: 7})
	good, _ = sign(ctx, s)
	require.False(t, good)
	f.Stop()
	f = m.Inject(faultmodule.Rule{On: "C_GetAttributeValue", Do: faultmodule.Lie, Value: p11.CKA_EXTRACTABLE, Extra: 1})
	_, err = tok.Generate(ctx, hsm.Ref{Tenant: "alpha", Role: hsm.RoleMAC, Name: "m"}, hsm.HMACSHA256, [16]byte{})
	require.ErrorIs(t, err, hsm.ErrTemplate)
	f.Stop()
	m.Inject(faultmodule.Rule{On: "C_GenerateKeyPair", Times: 1, Do: faultmodule.Half, Value: p11.CKR_DEVICE_MEMORY})
	_, err = tok.Generate(ctx, hsm.Ref{Tenant: "alpha", Role: hsm.RoleSigner, Name: "half"}, hsm.P256, [16]byte{})
	require.ErrorIs(t, err, p11.Error(p11.CKR_DEVICE_MEMORY))

	// Losses are real: they end only by healing.
	for _, loss := range []faultmodule.Action{faultmodule.CloseAll, faultmodule.Logout} {
		logins := m.Calls("C_Login")
		f := m.Inject(faultmodule.Rule{Times: 1, Do: loss})
		good, err := sign(ctx, s)
		require.True(t, good, err)
		require.Equal(t, 1, f.Hits())
		require.Equal(t, 1, m.Calls("C_Login")-logins)
		f.Stop()
	}
	m.Remove(false)
	_, err = sign(ctx, s)
	require.Error(t, err)
	m.Restore()
	require.Eventually(t, func() bool { good, _ := sign(ctx, s); return good }, 10*time.Second, 5*time.Millisecond)
}

// A crash ends the process; the count outlives it. The child is this test binary.
func TestCrashes(t *testing.T) {
	t.Parallel()
	if os.Getenv("SIGNET_FAULT_MODULE") != "" {
		c := p11.New(os.Getenv("SIGNET_FAULT_MODULE"))
		require.NoError(t, c.Initialize())
		return
	}
	st, m := softhsmtest.Faulty(t)
	for _, crash := range []faultmodule.Action{faultmodule.Abort, faultmodule.Segfault, faultmodule.Kill} {
		f := m.Inject(faultmodule.Rule{On: "C_Initialize", Late: crash == faultmodule.Kill, Do: crash})
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrashes$")
		cmd.Env = append(os.Environ(), "SIGNET_FAULT_MODULE="+m.Path, "SOFTHSM2_CONF="+st.Conf)
		out, err := cmd.CombinedOutput()
		require.Error(t, err, "%s", out)
		require.NotContains(t, string(out), "--- FAIL", "it did not come to a verdict")
		require.Equal(t, 1, f.Hits())
		f.Stop()
	}
}

// A copy of the library is another instance under the same rules.
func TestCopies(t *testing.T) {
	t.Parallel()
	st, m := softhsmtest.Faulty(t)
	first := softhsmtest.Open(t, st.HSM())
	lib, err := os.ReadFile(m.Path)
	require.NoError(t, err)
	c := st.HSM()
	c.Module = m.Path + ".copy.so"
	require.NoError(t, os.WriteFile(c.Module, lib, 0o700))
	second := softhsmtest.Open(t, c)
	require.Equal(t, 2, m.Calls("C_Initialize"))
	m.Inject(faultmodule.Rule{On: "C_GenerateRandom", Times: 2, Do: faultmodule.Return, Value: p11.CKR_RANDOM_NO_RNG})
	require.Error(t, first.Random(t.Context(), make([]byte, 8)))
	require.Error(t, second.Random(t.Context(), make([]byte, 8)))
	require.NoError(t, first.Random(t.Context(), make([]byte, 8)))
}
