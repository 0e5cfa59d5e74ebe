package hsm_test

import (
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ThalesGroup/crypto11"
	p11 "github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/internal/floor"
	"github.com/signet-hsm/signet/softhsm"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

// Figures of one machine say little about another, and those of one minute little
// about the next. So everything here is a ratio of contenders that took turns in
// one run: rounds of a few hundred milliseconds each, the median of the rounds'
// ratios told as a metric (x-c = ours by the raw C loop), CPU beside wall.

// contender makes n calls of one kind from g goroutines.
type contender struct {
	name string
	run  func(g, n int) error
}

const benchRounds = 5

// race lets the contenders take turns and reports each one's rate and its ratio to
// the first, by wall and by CPU.
func race(b *testing.B, g int, list []contender) {
	b.Helper()
	per := make([]int, len(list))
	for i, c := range list { // warm up, and find how many calls make a round
		for n := g; ; n *= 2 {
			start := time.Now()
			require.NoError(b, c.run(g, n), c.name)
			if took := time.Since(start); took > 50*time.Millisecond {
				per[i] = max(g, int(float64(n)*float64(200*time.Millisecond)/float64(took)))
				break
			}
		}
	}
	wall, cpu := make([][]float64, len(list)), make([][]float64, len(list))
	for b.Loop() {
		for range benchRounds {
			for i, c := range list {
				before, start := cpuTime(), time.Now()
				require.NoError(b, c.run(g, per[i]), c.name)
				wall[i] = append(wall[i], float64(time.Since(start))/float64(per[i]))
				cpu[i] = append(cpu[i], float64(cpuTime()-before)/float64(per[i]))
			}
		}
	}
	for i, c := range list {
		b.ReportMetric(1e9/median(wall[i]), c.name+"/s")
		b.ReportMetric(median(cpu[i])/1e3, c.name+"-cpu-us")
		if i > 0 {
			b.ReportMetric(ratio(wall[0], wall[i]), c.name+"-x")
			b.ReportMetric(ratio(cpu[0], cpu[i]), c.name+"-cpu-x")
		}
	}
	b.ReportMetric(0, "ns/op")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func median(list []float64) float64 {
	s := slices.Sorted(slices.Values(list))
	return s[len(s)/2]
}

// ratio is the median of first/other, round by round: above 1, other is faster.
func ratio(first, other []float64) float64 {
	r := make([]float64, len(first))
	for i := range r {
		r[i] = first[i] / other[i]
	}
	return median(r)
}

// spread runs f from g goroutines, n times in all.
func spread(g, n int, f func() error) error {
	if g == 1 {
		for range n {
			if err := f(); err != nil {
				return err
			}
		}
		return nil
	}
	var left atomic.Int64
	left.Store(int64(n))
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	for range g {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := f(); err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// stage is one token with the keys of the benchmarks; every contender has a copy
// of the module for itself.
type stage struct {
	b     *testing.B
	soft  *softhsm.Token
	whole []byte // the module
}

var (
	benchKeys = map[hsm.Algorithm]hsm.Ref{
		hsm.P256: signerRef, hsm.P384: named("p384"), hsm.RSA3072: named("rsa"), hsm.Ed25519: named("ed"),
		hsm.HMACSHA256: {Tenant: "alpha", Role: hsm.RoleMAC, Name: "m"}, hsm.AES256: {Tenant: "alpha", Role: hsm.RoleKEK, Name: "k"},
	}
	benchMechanisms = map[hsm.Algorithm]uint{
		hsm.P256: p11.CKM_ECDSA, hsm.P384: p11.CKM_ECDSA, hsm.RSA3072: p11.CKM_RSA_PKCS, hsm.Ed25519: 0x1057, hsm.HMACSHA256: p11.CKM_SHA256_HMAC,
	}
)

func named(name string) hsm.Ref {
	return hsm.Ref{Tenant: "alpha", Role: hsm.RoleSigner, Name: name}
}

func setStage(b *testing.B, alg hsm.Algorithm, copies bool) *stage {
	b.Helper()
	st := &stage{b: b, soft: softhsmtest.Create(b)}
	var err error
	st.whole, err = os.ReadFile(st.soft.Module)
	require.NoError(b, err)
	c := st.soft.HSM()
	c.SessionCopies = copies
	tok, err := hsm.Open(b.Context(), c)
	require.NoError(b, err)
	_, err = tok.Generate(b.Context(), benchKeys[alg], alg, [16]byte{1})
	require.NoError(b, err)
	require.NoError(b, tok.Close())
	return st
}

// module makes a copy of the module.
func (st *stage) module() string {
	f, err := os.CreateTemp(st.b.TempDir(), "*.so")
	require.NoError(st.b, err)
	_, err = f.Write(st.whole)
	require.NoError(st.b, err)
	require.NoError(st.b, f.Close())
	return f.Name()
}

// ours is hsm with a configuration.
func (st *stage) ours(ctx context.Context, name string, alg hsm.Algorithm, change func(*hsm.Config)) contender {
	c := st.soft.HSM()
	c.Module = st.module()
	if change != nil {
		change(&c)
	}
	tok := softhsmtest.Open(st.b, c)
	ref := benchKeys[alg]
	digest := sha256.Sum256([]byte("x"))
	in, text, aad := digest[:], make([]byte, 64), make([]byte, 16)
	buffers := sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}
	var f func(buf []byte) error
	switch alg {
	case hsm.HMACSHA256:
		m, err := tok.MAC(ctx, ref)
		require.NoError(st.b, err)
		f = func(buf []byte) error { _, err := m.AppendMAC(ctx, buf, text); return err }
	case hsm.AES256:
		k, err := tok.AEAD(ctx, ref)
		require.NoError(st.b, err)
		f = func(buf []byte) error { _, err := k.AppendSeal(ctx, buf, text, aad); return err }
	default:
		s, err := tok.Signer(ctx, ref)
		require.NoError(st.b, err)
		var opts crypto.SignerOpts = crypto.SHA256
		if alg == hsm.Ed25519 {
			opts = crypto.Hash(0)
		}
		f = func(buf []byte) error { _, err := s.AppendSignature(ctx, buf, in, opts); return err }
	}
	return contender{name, func(g, n int) error {
		return spread(g, n, func() error {
			b := buffers.Get().(*[]byte)
			defer buffers.Put(b)
			return f((*b)[:0])
		})
	}}
}

// open initialises a copy of the module and gives n sessions with the key in each,
// as a session copy when asked.
func (st *stage) open(alg hsm.Algorithm, n int, copies bool) (path string, c *p11.Ctx, sessions []p11.SessionHandle, keys []p11.ObjectHandle) {
	path = st.module()
	c = p11.New(path)
	require.NotNil(st.b, c)
	st.b.Setenv("SOFTHSM2_CONF", st.soft.Conf)
	require.NoError(st.b, c.Initialize())
	st.b.Cleanup(func() { _ = c.Finalize(); c.Destroy() })
	slots, err := c.GetSlotList(true)
	require.NoError(st.b, err)
	for i := range n {
		s, err := c.OpenSession(slots[0], p11.CKF_SERIAL_SESSION)
		require.NoError(st.b, err)
		if i == 0 {
			require.NoError(st.b, c.Login(s, p11.CKU_USER, string(st.soft.PIN.Reveal())))
		}
		require.NoError(st.b, c.FindObjectsInit(s, []*p11.Attribute{p11.NewAttribute(p11.CKA_PRIVATE, true), p11.NewAttribute(p11.CKA_LABEL, benchKeys[alg].String())}))
		found, _, err := c.FindObjects(s, 2)
		require.NoError(st.b, err)
		require.NoError(st.b, c.FindObjectsFinal(s))
		require.Len(st.b, found, 1)
		key := found[0]
		if copies {
			key, err = c.CopyObject(s, key, []*p11.Attribute{p11.NewAttribute(p11.CKA_TOKEN, false)})
			require.NoError(st.b, err)
		}
		sessions, keys = append(sessions, s), append(keys, key)
	}
	return path, c, sessions, keys
}

// rawC is the loop of C on so many instances, one thread and one session each.
func (st *stage) rawC(name string, alg hsm.Algorithm, instances int, copies bool) contender {
	run := make([]func(n int) error, instances)
	for i := range run {
		path, _, s, k := st.open(alg, 1, copies)
		m, err := floor.Open(path)
		require.NoError(st.b, err)
		run[i] = func(n int) error {
			if alg == hsm.AES256 {
				return m.Seal(uint(s[0]), uint(k[0]), 64, n)
			}
			size := 32
			if alg == hsm.HMACSHA256 {
				size = 64
			}
			return m.Sign(uint(s[0]), uint(k[0]), benchMechanisms[alg], size, n)
		}
	}
	return contender{name, func(_, n int) error {
		failed := make(chan error, instances)
		for _, r := range run {
			go func() { failed <- r(max(1, n/instances)) }()
		}
		var err error
		for range run {
			if e := <-failed; e != nil {
				err = e
			}
		}
		return err
	}}
}

// miekg is a channel of sessions over the plain library.
func (st *stage) miekg(alg hsm.Algorithm) contender {
	_, c, list, keys := st.open(alg, 4, false)
	sessions := make(chan p11.SessionHandle, len(list))
	for _, s := range list {
		sessions <- s
	}
	in := make([]byte, 32)
	if alg == hsm.HMACSHA256 {
		in = make([]byte, 64)
	}
	m := []*p11.Mechanism{p11.NewMechanism(benchMechanisms[alg], nil)}
	return contender{"miekg", func(g, n int) error {
		return spread(g, n, func() error {
			s := <-sessions
			defer func() { sessions <- s }()
			if err := c.SignInit(s, m, keys[0]); err != nil {
				return err
			}
			_, err := c.Sign(s, in)
			return err
		})
	}}
}

func (st *stage) crypto11(alg hsm.Algorithm) contender {
	st.b.Setenv("SOFTHSM2_CONF", st.soft.Conf)
	c, err := crypto11.Configure(&crypto11.Config{
		Path: st.module(), TokenLabel: st.soft.Label, Pin: string(st.soft.PIN.Reveal()), MaxSessions: 17, // one is kept for the login
	})
	require.NoError(st.b, err)
	st.b.Cleanup(func() { _ = c.Close() })
	s, err := c.FindKeyPair(nil, []byte(benchKeys[alg].String()))
	require.NoError(st.b, err)
	require.NotNil(st.b, s)
	d := sha256.Sum256([]byte("x"))
	return contender{"crypto11", func(g, n int) error {
		return spread(g, n, func() error {
			_, err := s.Sign(nil, d[:], crypto.SHA256)
			return err
		})
	}}
}

// BenchmarkOne: one goroutine on a token key against the loop of C.
func BenchmarkOne(b *testing.B) {
	for _, alg := range []hsm.Algorithm{hsm.P256, hsm.P384, hsm.RSA3072, hsm.Ed25519, hsm.HMACSHA256, hsm.AES256} {
		b.Run(string(alg), func(b *testing.B) {
			st := setStage(b, alg, false)
			list := []contender{
				st.rawC("c", alg, 1, false), st.ours(context.Background(), "signet", alg, nil),
				st.ours(b.Context(), "deadline", alg, nil),
			}
			if alg != hsm.AES256 {
				list = append(list, st.miekg(alg))
			}
			if alg == hsm.P256 || alg == hsm.P384 || alg == hsm.RSA3072 {
				list = append(list, st.crypto11(alg))
			}
			race(b, 1, list)
		})
	}
}

// BenchmarkMany: many goroutines against the ceiling of C, two threads on two
// instances with session copies (token keys for AES, which has no copies).
func BenchmarkMany(b *testing.B) {
	for _, alg := range []hsm.Algorithm{hsm.P256, hsm.P384, hsm.RSA3072, hsm.Ed25519, hsm.HMACSHA256, hsm.AES256} {
		for _, g := range []int{8, 64} {
			b.Run(fmt.Sprintf("%s/g=%d", alg, g), func(b *testing.B) {
				st := setStage(b, alg, alg != hsm.AES256)
				two := func(c *hsm.Config) { c.Instances, c.SessionCopies = 2, true }
				list := []contender{
					st.rawC("ceiling", alg, 2, alg != hsm.AES256),
					st.ours(context.Background(), "signet", alg, two), st.ours(b.Context(), "deadline", alg, two),
				}
				if alg == hsm.P256 || alg == hsm.P384 || alg == hsm.RSA3072 {
					list = append(list, st.crypto11(alg))
				}
				race(b, g, list)
			})
		}
	}
}

// BenchmarkManyTokenKeys is BenchmarkMany with keys that can not be copied, as
// they are made by default.
func BenchmarkManyTokenKeys(b *testing.B) {
	for _, alg := range []hsm.Algorithm{hsm.P256, hsm.HMACSHA256} {
		b.Run(string(alg), func(b *testing.B) {
			st := setStage(b, alg, false)
			list := []contender{
				st.rawC("c-2x2", alg, 2, false),
				st.ours(context.Background(), "signet-2", alg, func(c *hsm.Config) { c.Instances = 2 }),
				st.ours(context.Background(), "signet-1", alg, nil), st.miekg(alg),
			}
			if alg == hsm.P256 {
				list = append(list, st.crypto11(alg))
			}
			race(b, 64, list)
		})
	}
}

// BenchmarkAllocs tells the allocations of each hot call.
func BenchmarkAllocs(b *testing.B) {
	for _, alg := range []hsm.Algorithm{hsm.P256, hsm.RSA3072, hsm.Ed25519, hsm.HMACSHA256, hsm.AES256} {
		for name, ctx := range map[string]context.Context{"background": context.Background(), "deadline": b.Context()} {
			b.Run(fmt.Sprintf("%s/%s", alg, name), func(b *testing.B) {
				c := setStage(b, alg, false).ours(ctx, "x", alg, nil)
				b.ReportAllocs()
				b.ResetTimer()
				require.NoError(b, c.run(1, b.N))
			})
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	tok := softhsmtest.New(b)
	_, err := tok.Generate(b.Context(), signerRef, hsm.P256, [16]byte{})
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = tok.Lookup(context.Background(), signerRef)
	}
}
