package ca_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ThalesGroup/crypto11"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/lint"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/pgcluster"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
	"github.com/signet-hsm/signet/tenant"
)

// BenchmarkIssue compares ways to a device certificate, P-256 by P-256, inside one
// run: the ways take turns, so that what else the machine does meets all of them.
//
//	raw      what the HSM signs with the signer's key: 1 is the efficiency aimed at
//	bare     draft, compiled checks, signature, one in 100 verified; no request, no record
//	sampled  from the request to the durable record with its event, checks as bare
//	full     the same with every draft linted whole and every signature verified: the default
//	crypto11 x509.CreateCertificate with a key of the library crypto11; no request, no record
//
// ns/op and allocs/op are of all ways together and say nothing; the metrics are
// microseconds on the clock and of CPU (ours, and PostgreSQL's) for each, and
// ratios of rates.
func BenchmarkIssue(b *testing.B) {
	w := newIssueBench(b)
	for _, callers := range []int{1, 8, 32, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			took := map[string]*cost{}
			const turns = 4
			for range turns {
				for _, way := range w.ways {
					if took[way.name] == nil {
						took[way.name] = &cost{}
					}
					took[way.name].add(w.run(b, callers, max(callers, b.N/turns), way.do))
				}
			}
			for _, way := range w.ways {
				c := took[way.name]
				b.ReportMetric(c.micros(c.wall), way.name+"-us")
				b.ReportMetric(c.micros(c.cpu), way.name+"-cpu-us")
				b.ReportMetric(float64(c.mallocs)/float64(c.n), way.name+"-allocs")
				if way.stored {
					b.ReportMetric(c.micros(c.database), way.name+"-pg-us")
				}
			}
			// By the clock, and by what both processes spend: on a busy machine the second
			// is the steadier one.
			rate := func(name string) float64 { return float64(took[name].n) / took[name].wall.Seconds() }
			spent := func(name string) float64 { return took[name].micros(took[name].cpu + took[name].database) }
			for _, name := range []string{"bare", "sampled", "full"} {
				b.ReportMetric(rate(name)/rate("raw"), name+"/raw")
				b.ReportMetric(spent("raw")/spent(name), name+"/raw-cpu")
			}
			b.ReportMetric(rate("bare")/rate("crypto11"), "bare/crypto11")
			b.ReportMetric(spent("crypto11")/spent("bare"), "bare/crypto11-cpu")
		})
	}
}

// cost of n operations.
type cost struct {
	n                   int
	wall, cpu, database time.Duration
	mallocs             uint64
}

func (c *cost) add(o cost) {
	c.n, c.wall, c.cpu, c.database = c.n+o.n, c.wall+o.wall, c.cpu+o.cpu, c.database+o.database
	c.mallocs += o.mallocs
}

func (c *cost) micros(d time.Duration) float64 { return float64(d.Microseconds()) / float64(c.n) }

type issueBench struct {
	ways     []issueWay
	postgres int // the server's process
}

type issueWay struct {
	name   string
	stored bool // in the database
	do     func() error
}

func newIssueBench(b *testing.B) *issueBench {
	b.Helper()
	ctx := context.Background()
	cluster, err := pgcluster.Start(ctx, pgcluster.Config{Dir: b.TempDir(), Durable: true})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, cluster.Stop(ctx)) })
	db, err := pg.Open(ctx, cluster.URL(), pg.Options{})
	require.NoError(b, err)
	b.Cleanup(db.Close)
	_, err = pg.Migrate(ctx, db)
	require.NoError(b, err)
	require.NoError(b, tenant.Ensure(ctx, db, alpha))

	world := &bench{db: db, token: softhsmtest.New(b)}
	world.chain = issuerChain(b, world.token)
	full := world.authority(b, nil)
	sampled := world.authority(b, func(c *ca.Config) { c.LintEvery, c.VerifyEvery = 100, 100 })
	made, err := full.CreateSigner(ctx, alpha, ca.CreateSigner{})
	require.NoError(b, err)
	key, err := world.token.Signer(ctx, hsm.Ref{Tenant: alpha.String(), Role: hsm.RoleSigner, Name: "signer"})
	require.NoError(b, err)
	r := order(b)
	digest := make([]byte, 32)
	issue := func(a *ca.Authority) func() error {
		return func() error {
			_, err := a.IssueDevice(ctx, alpha, r)
			return err
		}
	}
	return &issueBench{postgres: cluster.PID(), ways: []issueWay{
		{"raw", false, func() error {
			_, err := key.SignContext(ctx, digest, crypto.SHA256)
			return err
		}},
		{"bare", false, bareIssue(b, made.Certificate, key)},
		{"sampled", true, issue(sampled)},
		{"full", true, issue(full)},
		{"crypto11", false, crypto11Issue(b)},
	}}
}

// bareIssue is the engine with the HSM and nothing else.
func bareIssue(b *testing.B, signer []byte, key *hsm.Signer) func() error {
	b.Helper()
	authority, err := issuance.NewAuthority(signer)
	require.NoError(b, err)
	linter, err := lint.New(lint.Config{Every: 100})
	require.NoError(b, err)
	profile := issuance.ASTDevice()
	template, err := profile.Compile(issuance.Checks{Linter: linter, VerifyEvery: 100})
	require.NoError(b, err)
	stencil, err := issuance.NewStencil(template, authority, issuance.Locations{})
	require.NoError(b, err)
	of := request(b, softKey(b))
	return func() error {
		serial, err := issuance.NewSerial(rand.Reader)
		if err != nil {
			return err
		}
		d, err := issuance.Prepare(issuance.Order{
			Stencil: stencil, Request: of, Serial: serial, Now: time.Now(),
			Subject: issuance.Subject{Organization: alpha.String(), CommonName: client},
		})
		if err != nil {
			return err
		}
		_, err = d.Sign(key)
		return err
	}
}

// crypto11Issue is what one writes with the standard library, on a token of its own.
func crypto11Issue(b *testing.B) func() error {
	b.Helper()
	st := softhsmtest.Create(b)
	ref := hsm.Ref{Tenant: alpha.String(), Role: hsm.RoleSigner, Name: "signer"}
	token, err := hsm.Open(b.Context(), st.HSM())
	require.NoError(b, err)
	_, err = token.Generate(b.Context(), ref, hsm.P256, [16]byte{1})
	require.NoError(b, err)
	require.NoError(b, token.Close())
	b.Setenv("SOFTHSM2_CONF", st.Conf)
	lib, err := crypto11.Configure(&crypto11.Config{Path: st.Module, TokenLabel: st.Label, Pin: string(st.PIN.Reveal()), MaxSessions: 5})
	require.NoError(b, err)
	b.Cleanup(func() { _ = lib.Close() })
	key, err := lib.FindKeyPair(nil, []byte(ref.String()))
	require.NoError(b, err)
	require.NotNil(b, key)
	parent := &x509.Certificate{Subject: pkix.Name{CommonName: "signer"}, SubjectKeyId: make([]byte, 20)}
	subject := softKey(b).Public()
	return func() error {
		serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
		if err != nil {
			return err
		}
		_, err = x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: serial, Subject: pkix.Name{Organization: []string{alpha.String()}, CommonName: client},
			NotBefore: time.Now(), NotAfter: time.Now().AddDate(2, 0, 0),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
		}, parent, subject, key)
		return err
	}
}

// run has callers do n operations together.
func (w *issueBench) run(b *testing.B, callers, n int, do func() error) cost {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began, cpu, database := time.Now(), ownCPU(b), treeCPU(w.postgres)
	for range callers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := do(); err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	wg.Wait()
	runtime.ReadMemStats(&after)
	c := cost{n: n, mallocs: after.Mallocs - before.Mallocs, wall: time.Since(began), cpu: ownCPU(b) - cpu, database: treeCPU(w.postgres) - database}
	if err := failed.Load(); err != nil {
		b.Fatal(*err)
	}
	return c
}

func ownCPU(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// treeCPU is the CPU time of a process and its children, to a hundredth of a second.
func treeCPU(parent int) (sum time.Duration) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		text, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		_, rest, ok := strings.Cut(string(text), ") ")
		f := strings.Fields(rest)
		if !ok || len(f) < 13 || f[1] != fmt.Sprint(parent) && e.Name() != fmt.Sprint(parent) {
			continue
		}
		for _, ticks := range f[11:13] { // utime, stime
			var n int64
			_, _ = fmt.Sscan(ticks, &n)
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum
}
