package registration

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/testvec"
)

func TestOTPHashRoundTrip(t *testing.T) {
	t.Parallel()
	r := &Registrar{hashing: make(chan struct{}, 1)}
	hash, err := r.hashOTP(t.Context(), "24680")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$"), hash)
	again, err := r.hashOTP(t.Context(), "24680")
	require.NoError(t, err)
	require.NotEqual(t, hash, again, "salted")
	for otp, want := range map[string]bool{"24680": true, "24681": false, "24680 ": false} {
		got, err := r.checkOTP(t.Context(), hash, otp)
		require.NoError(t, err)
		require.Equal(t, want, got, otp)
	}
	_, err = r.checkOTP(t.Context(), "$argon2id$v=19$m=1,t=1,p=1$x$y", "1")
	require.Equal(t, fault.Internal, fault.KindOf(err))
}

// The hashes of the reference server verify with the cost they name.
func TestOTPHashesOfTheReference(t *testing.T) {
	t.Parallel()
	v := testvec.JSON[struct {
		Data []struct{ Input, Output string }
	}](t, "powerauth/generated/argon2-mcf.json")
	require.Len(t, v.Data, 3)
	r := &Registrar{hashing: make(chan struct{}, 1)}
	for _, c := range v.Data {
		good, err := r.checkOTP(t.Context(), c.Output, c.Input)
		require.NoError(t, err)
		require.True(t, good, c.Input)
		good, err = r.checkOTP(t.Context(), c.Output, c.Input+"0")
		require.NoError(t, err)
		require.False(t, good)
	}
}

func TestOTPHashingIsBoundedByTheCaller(t *testing.T) {
	t.Parallel()
	r := &Registrar{hashing: make(chan struct{}, 1)}
	r.hashing <- struct{}{} // every core is hashing
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.hashOTP(ctx, "1")
	require.ErrorIs(t, err, fault.ErrUnavailable)
}

const goodPHC = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$dGFndGFndGFndGFndGFndGFndGFndGFndGFndGFndGE"

func TestParsePHCRefuses(t *testing.T) {
	t.Parallel()
	_, err := parsePHC(goodPHC)
	require.NoError(t, err)
	for _, bad := range []string{
		"", "$", "24680", strings.Replace(goodPHC, "argon2id", "argon2d", 1), strings.Replace(goodPHC, "v=19", "v=16", 1),
		strings.Replace(goodPHC, "p=1", "p=1,x=1", 1), strings.Replace(goodPHC, "p=1", "p=0", 1),
		strings.Replace(goodPHC, "t=2", "t=0", 1), strings.Replace(goodPHC, "t=2", "t=17", 1),
		strings.Replace(goodPHC, "m=19456", "m=7", 1), strings.Replace(goodPHC, "m=19456", "m=1048576", 1),
		goodPHC + "$", goodPHC + "=", "x" + goodPHC, strings.Replace(goodPHC, "$c2Fs", "$", 1) + "!",
	} {
		_, err := parsePHC(bad)
		require.Error(t, err, bad)
		require.Equal(t, fault.Internal, fault.KindOf(err))
	}
}

func FuzzParsePHC(f *testing.F) {
	f.Add(goodPHC)
	f.Add("$argon2i$v=19$m=32768,t=3,p=16$ql0bd+EVa9PyMrzNz0pyWw$SnRZSwEJk5YFONOmwbq9EJMGHTmJ5NrzXnduKN75ECQ")
	f.Add("$argon2id$v=19$m=+8,t= 1,p=1$$")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parsePHC(s)
		if err != nil {
			return
		}
		// Whatever is accepted is bounded and can be computed without a panic.
		require.LessOrEqual(t, h.memory, uint32(maxOTPMemory))
		require.LessOrEqual(t, h.time, uint32(maxOTPTime))
		require.GreaterOrEqual(t, h.memory, 8*uint32(h.threads))
		require.NotZero(t, h.threads)
		require.GreaterOrEqual(t, len(h.tag), 16)
	})
}
