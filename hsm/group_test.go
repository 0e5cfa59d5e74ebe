package hsm_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/hsmtest"
	"github.com/signet-hsm/signet/softhsm"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

// replica makes a second token with the keys of the first, as a cluster of HSMs has
// them: SoftHSM's token is a folder, and a copy of it is a token with all keys.
func replica(t *testing.T, st *softhsm.Token) (*softhsm.Token, *faulty) {
	t.Helper()
	two, f := wrapped(t)
	from, to := filepath.Join(st.Dir, "tokens"), filepath.Join(two.Dir, "tokens")
	require.NoError(t, os.RemoveAll(to))
	require.NoError(t, os.CopyFS(to, os.DirFS(from)))
	two.Label, two.PIN = st.Label, st.PIN
	return two, f
}

func group(t *testing.T, o hsm.GroupOptions, tokens ...*softhsm.Token) *hsm.Token {
	t.Helper()
	var members []hsm.Member
	for i, st := range tokens {
		members = append(members, hsm.Member{Name: string(rune('a' + i)), Open: func(ctx context.Context) (hsm.Engine, error) {
			return hsm.OpenEngine(ctx, st.HSM())
		}})
	}
	if o.Recheck == 0 {
		o.Recheck = 50 * time.Millisecond
	}
	e, err := hsm.NewGroup(t.Context(), members, o)
	require.NoError(t, err)
	tok, err := hsm.New(t.Context(), e, hsm.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tok.Close()) })
	return tok
}

var (
	groupKEK = hsm.Ref{Tenant: "alpha", Role: hsm.RoleKEK, Name: "k"}
	groupMAC = hsm.Ref{Tenant: "alpha", Role: hsm.RoleMAC, Name: "m"}
)

// stock makes one key of each kind, with the same ids everywhere.
func stock(t *testing.T, st *softhsm.Token) {
	t.Helper()
	tok, err := hsm.Open(t.Context(), st.HSM())
	require.NoError(t, err)
	for ref, alg := range map[hsm.Ref]hsm.Algorithm{signerRef: hsm.P256, groupKEK: hsm.AES256, groupMAC: hsm.HMACSHA256} {
		_, err := tok.Generate(t.Context(), ref, alg, [16]byte{ref.Role[0], 1})
		require.NoError(t, err)
	}
	require.NoError(t, tok.Close())
}

// The first of two HSMs dies for good under load: no call fails. When it is back it
// serves again.
func TestGroupFailsOver(t *testing.T) {
	t.Parallel()
	one, f := wrapped(t)
	stock(t, one)
	two, _ := replica(t, one)
	reg := prometheus.NewRegistry()
	tok := group(t, hsm.GroupOptions{Metrics: reg}, one, two)
	s, err := tok.Signer(t.Context(), signerRef)
	require.NoError(t, err)
	k, err := tok.AEAD(t.Context(), groupKEK)
	require.NoError(t, err)
	blob, err := k.Seal(t.Context(), []byte("secret"), []byte("aad"))
	require.NoError(t, err)
	require.EqualValues(t, 2, gather(t, reg, "signet_hsm_member_serving"))
	var made atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for made.Add(1) <= 600 {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				if err := signOnce(ctx, s, "x"); err != nil {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	eventually(t, "progress", func() bool { return made.Load() > 100 })
	var back atomic.Bool
	die(f, back.Load)
	wg.Wait()
	require.Positive(t, gather(t, reg, "signet_hsm_failovers_total"))
	plain, err := k.Open(t.Context(), blob, []byte("aad"))
	require.NoError(t, err)
	require.Equal(t, "secret", string(plain), "sealed by one, opened by the other")
	require.NoError(t, tok.Check(t.Context()))
	back.Store(true)
	eventually(t, "return", func() bool { return gather(t, reg, "signet_hsm_member_serving") == 2 })
	require.NoError(t, signOnce(t.Context(), s, "x"))
}

// A member with another key under a name of the group is trusted with nothing, not
// even when all others are out.
func TestGroupExcludesWhoDisagrees(t *testing.T) {
	t.Parallel()
	for name, ref := range map[string]hsm.Ref{"key pair": signerRef, "KEK": groupKEK, "MAC": groupMAC} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one, f := wrapped(t)
			stock(t, one)
			two, _ := replica(t, one)
			imposter, err := hsm.Open(t.Context(), two.HSM())
			require.NoError(t, err)
			was, err := imposter.Lookup(t.Context(), ref)
			require.NoError(t, err)
			require.NoError(t, imposter.Destroy(t.Context(), ref))
			_, err = imposter.Generate(t.Context(), ref, was.Algorithm, was.ID)
			require.NoError(t, err)
			require.NoError(t, imposter.Close())

			reg := prometheus.NewRegistry()
			tok := group(t, hsm.GroupOptions{Metrics: reg}, one, two)
			require.EqualValues(t, 1, gather(t, reg, "signet_hsm_member_serving"))
			require.EqualValues(t, 1, gather(t, reg, "signet_hsm_member_excluded"))
			s, err := tok.Signer(t.Context(), signerRef)
			require.NoError(t, err)
			for range 5 {
				require.NoError(t, signOnce(t.Context(), s, "x"))
			}
			die(f, func() bool { return false })
			for range 5 {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				err := signOnce(ctx, s, "x")
				cancel()
				require.ErrorIs(t, err, fault.ErrUnavailable)
				require.Equal(t, fault.Unavailable, fault.KindOf(err))
			}
		})
	}
}

// A key that only one member has is served by that one; the other serves the rest,
// and the missing key as well when it comes.
func TestGroupMemberThatLacksAKey(t *testing.T) {
	t.Parallel()
	one, f := wrapped(t)
	stock(t, one)
	two, _ := replica(t, one)
	reg := prometheus.NewRegistry()
	tok := group(t, hsm.GroupOptions{Metrics: reg}, one, two)
	young := named("young")
	_, err := tok.Generate(t.Context(), young, hsm.P256, [16]byte{77})
	require.NoError(t, err)
	ys, err := tok.Signer(t.Context(), young)
	require.NoError(t, err)
	os1, err := tok.Signer(t.Context(), signerRef)
	require.NoError(t, err)
	require.NoError(t, signOnce(t.Context(), ys, "x"))
	eventually(t, "notice", func() bool { return gather(t, reg, "signet_hsm_member_keys_missing") == 1 })

	die(f, func() bool { return false })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	require.ErrorIs(t, signOnce(ctx, ys, "x"), fault.ErrUnavailable, "an outage, not a missing key")
	require.NoError(t, signOnce(t.Context(), os1, "x"))

	// The vendor copies the key.
	from, to := filepath.Join(one.Dir, "tokens"), filepath.Join(two.Dir, "tokens")
	require.NoError(t, filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		rel, _ := filepath.Rel(from, path)
		if err != nil || d.IsDir() {
			return err
		}
		if _, err := os.Stat(filepath.Join(to, rel)); err == nil && filepath.Ext(path) == ".object" {
			return nil
		}
		b, err := os.ReadFile(path)
		return errors.Join(err, os.WriteFile(filepath.Join(to, rel), b, 0o600))
	}))
	eventually(t, "copy", func() bool { return signOnce(t.Context(), ys, "x") == nil })
	require.Zero(t, gather(t, reg, "signet_hsm_member_keys_missing"))
}

// A member that does not open does not keep the group from serving; a group without
// any does not open, and a PIN that is refused is tried once.
func TestGroupOpens(t *testing.T) {
	t.Parallel()
	one, _ := wrapped(t)
	stock(t, one)
	two, f := replica(t, one)
	f.set(func(f *faults) { f.onLogin = func() error { return p11.Error(p11.CKR_PIN_LOCKED) } })
	before := f.logins.Load()
	reg := prometheus.NewRegistry()
	tok := group(t, hsm.GroupOptions{Metrics: reg, Recheck: 10 * time.Millisecond}, two, one)
	s, err := tok.Signer(t.Context(), signerRef)
	require.NoError(t, err)
	require.NoError(t, signOnce(t.Context(), s, "x"))
	time.Sleep(100 * time.Millisecond)
	require.EqualValues(t, 1, f.logins.Load()-before)
	require.EqualValues(t, 1, gather(t, reg, "signet_hsm_member_serving"))
	require.Error(t, tok.Destroy(t.Context(), signerRef), "the key is still on the member that is out")

	_, err = hsm.NewGroup(t.Context(), []hsm.Member{{Name: "x", Open: func(context.Context) (hsm.Engine, error) {
		return nil, fault.ErrUnavailable
	}}}, hsm.GroupOptions{})
	require.ErrorIs(t, err, fault.ErrUnavailable)
	_, err = hsm.NewGroup(t.Context(), nil, hsm.GroupOptions{})
	require.ErrorIs(t, err, hsm.ErrConfig)
}

// A member that hangs leaves half of the time for the next.
func TestGroupLeavesAHangingMember(t *testing.T) {
	t.Parallel()
	one, f := wrapped(t)
	stock(t, one)
	two, _ := replica(t, one)
	tok := group(t, hsm.GroupOptions{}, one, two)
	s, err := tok.Signer(t.Context(), signerRef)
	require.NoError(t, err)
	_, free := jam(f)
	defer free()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	require.NoError(t, signOnce(ctx, s, "x"))
}

func TestContractGroup(t *testing.T) {
	t.Parallel()
	hsmtest.Run(t, func(t *testing.T) *hsm.Token { return group(t, hsm.GroupOptions{}, softhsmtest.Create(t)) }, hsmtest.Caps{})
}
