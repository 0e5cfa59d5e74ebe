package revocation_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/fault"
)

func TestACRLFromTheStartAndAfterARevocation(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ca := b.authority.add(1)
	p := b.publisher(t, nil)
	_, err := p.CRL(t.Context(), ca.issuer.KeyID(), 0)
	require.ErrorIs(t, err, revocation.ErrNoCRL)
	require.NoError(t, p.Round(t.Context()))
	first := crl(t, p, ca, 0)
	require.Empty(t, first.RevokedCertificateEntries)
	require.Equal(t, b.clock.now(), first.ThisUpdate)
	require.Equal(t, 48*time.Hour, first.NextUpdate.Sub(first.ThisUpdate))
	require.Equal(t, ca.issuer.Certificate.SubjectKeyId, first.AuthorityKeyId)
	require.False(t, hasScope(first), "a complete CRL needs no distribution point")
	_, err = p.CRL(t.Context(), ca.issuer.KeyID(), 1)
	require.ErrorIs(t, err, revocation.ErrNoCRL)

	leaf, other := b.authority.leaf(ca), b.authority.leaf(ca)
	r := b.record(t, ca, leaf)
	r.Reason, r.Since = revocation.KeyCompromise, r.At.Add(-time.Hour)
	require.NoError(t, record(t.Context(), b.db, r))
	b.clock.advance(time.Second)
	require.NoError(t, p.Round(t.Context()))
	second := crl(t, p, ca, 0)
	require.Positive(t, second.Number.Cmp(first.Number))
	require.Len(t, second.RevokedCertificateEntries, 1)
	e := second.RevokedCertificateEntries[0]
	require.Equal(t, 1, e.ReasonCode)
	require.True(t, e.RevocationTime.Equal(r.At))
	require.Len(t, e.Extensions, 2, "reason and invalidity date")
	require.True(t, listed(second, leaf))
	require.False(t, listed(second, other))

	require.NoError(t, p.Round(t.Context()))
	require.EqualValues(t, 2, ca.key.signatures.Load(), "two CRLs, and nothing for a round without work")
}

func hasScope(l *x509.RevocationList) bool {
	for _, x := range l.Extensions {
		if x.Id.String() == "2.5.29.28" {
			return x.Critical
		}
	}
	return false
}

// What a revocation costs: one signature and one shard's bytes, however many
// certificates of the issuer are revoked in other shards.
func TestARevocationCostsItsShard(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const shards, each = 8, 50
	ca := b.authority.add(shards)
	var records []revocation.Record
	for range shards * each {
		r := newRecord(t, ca.issuer.KeyID())
		r.Shards, r.At, r.Since, r.NotAfter = shards, b.clock.now(), time.Time{}, b.clock.now().Add(time.Hour*1000)
		records = append(records, r)
	}
	require.NoError(t, record(t.Context(), b.db, records...))
	p := b.publisher(t, nil)
	require.NoError(t, p.Round(t.Context()))
	require.EqualValues(t, shards, ca.key.signatures.Swap(0))
	before := map[int]*x509.RevocationList{}
	total := 0
	for s := range shards {
		before[s] = crl(t, p, ca, s)
		require.True(t, hasScope(before[s]))
		total += len(before[s].RevokedCertificateEntries)
	}
	require.Equal(t, shards*each, total)

	b.clock.advance(time.Second)
	one := newRecord(t, ca.issuer.KeyID())
	one.Shards, one.At, one.Since, one.NotAfter = shards, b.clock.now(), time.Time{}, b.clock.now().Add(time.Hour)
	require.NoError(t, record(t.Context(), b.db, one))
	require.NoError(t, p.Round(t.Context()))
	require.EqualValues(t, 1, ca.key.signatures.Load())
	for s := range shards {
		after := crl(t, p, ca, s)
		if s == revocation.Shard(one.Serial, shards) {
			require.Len(t, after.RevokedCertificateEntries, len(before[s].RevokedCertificateEntries)+1)
			require.Less(t, len(after.Raw), 3*total*50/shards, "the CRL holds its shard alone")
			continue
		}
		require.Equal(t, before[s].Raw, after.Raw)
	}
}

// A shard's address stands in it as it stands in the certificates.
func TestShardsNeedTheURL(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ca := b.authority.add(2)
	p := b.publisher(t, func(c *revocation.Config) { c.URL = "" })
	require.NoError(t, p.Round(t.Context()))
	_, err := p.CRL(t.Context(), ca.issuer.KeyID(), 0)
	require.ErrorIs(t, err, revocation.ErrNotPublished)
	b.clock.advance(time.Minute)
	p = b.publisher(t, nil)
	require.NoError(t, p.Round(t.Context()))
	l := crl(t, p, ca, 1)
	for _, x := range l.Extensions {
		if x.Id.String() == "2.5.29.28" {
			require.Contains(t, string(x.Value), revocation.CRLURL(base, ca.issuer.KeyID(), 1))
		}
	}
}

// An entry stays until it was on one CRL that is younger than the certificate's
// end, and is gone then.
func TestExpiredCertificatesLeaveAfterOneMoreCRL(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ca := b.authority.add(1)
	p := b.publisher(t, nil)
	leaf := b.authority.leaf(ca)
	r := b.record(t, ca, leaf)
	r.NotAfter = b.clock.now().Add(time.Hour)
	require.NoError(t, record(t.Context(), b.db, r))
	round := func() *x509.RevocationList {
		require.NoError(t, p.Round(t.Context()))
		return crl(t, p, ca, 0)
	}
	require.True(t, listed(round(), leaf))
	b.clock.advance(25 * time.Hour)
	past := round()
	require.True(t, past.ThisUpdate.After(r.NotAfter) && listed(past, leaf), "once past its end")
	b.clock.advance(25 * time.Hour)
	require.False(t, listed(round(), leaf))
	b.clock.advance(25 * time.Hour)
	require.False(t, listed(round(), leaf))
	require.Equal(t, 1, count(t, b.db, `select count(*) from ca_revocation where state = 'DROPPED'`), "the tombstone stays")

	// Revoked when it had expired already: once all the same.
	late := b.authority.leaf(ca)
	r = b.record(t, ca, late)
	r.NotAfter = b.clock.now().Add(-50 * time.Hour)
	require.NoError(t, record(t.Context(), b.db, r))
	require.True(t, listed(round(), late))
	b.clock.advance(25 * time.Hour)
	require.False(t, listed(round(), late))
}

func TestCRLsAreReplacedAtHalfTime(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ca := b.authority.add(1)
	p := b.publisher(t, func(c *revocation.Config) { c.CRLValidity = 10 * time.Hour })
	require.NoError(t, p.Round(t.Context()))
	first := crl(t, p, ca, 0)
	b.clock.advance(5*time.Hour - time.Second)
	require.NoError(t, p.Round(t.Context()))
	require.Equal(t, first.Raw, crl(t, p, ca, 0).Raw)
	b.clock.advance(time.Second)
	require.NoError(t, p.Round(t.Context()))
	require.Equal(t, b.clock.now(), crl(t, p, ca, 0).ThisUpdate)
}

// Many nodes, many revocations: no CRL is signed twice for the same state, and
// numbers only rise.
func TestNodesShareTheWork(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const nodes, shards = 4, 16
	ca := b.authority.add(shards)
	var ps []*revocation.Publisher
	for range nodes {
		ps = append(ps, b.publisher(t, nil))
	}
	all := func() {
		var wg sync.WaitGroup
		for _, p := range ps {
			wg.Go(func() { _ = p.Round(t.Context()) })
		}
		wg.Wait()
	}
	all()
	require.EqualValues(t, shards, ca.key.signatures.Swap(0), "each CRL by one node")
	numbers := make([]*big.Int, shards)
	for s := range shards {
		numbers[s] = crl(t, ps[0], ca, s).Number
	}
	for range 3 {
		b.clock.advance(25 * time.Hour)
		all()
		require.EqualValues(t, shards, ca.key.signatures.Swap(0))
		for s := range shards {
			for _, p := range ps {
				n := crl(t, p, ca, s).Number
				require.Positive(t, n.Cmp(numbers[s]))
			}
			numbers[s] = crl(t, ps[0], ca, s).Number
		}
	}
}

// A node that is slower than its lease publishes nothing over the one that took
// the work from it.
func TestALostClaimPublishesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ca := b.authority.add(1)
	slow, fast := b.publisher(t, nil), b.publisher(t, nil)
	var begun atomic.Bool
	ca.key.fail(func() error {
		if !begun.CompareAndSwap(false, true) {
			return nil
		}
		b.clock.advance(2 * time.Minute) // the lease is over
		return fast.Round(t.Context())
	})
	require.NoError(t, slow.Round(t.Context()))
	got := crl(t, slow, ca, 0)
	require.EqualValues(t, 2, got.Number.Int64(), "the second claim's")
	require.EqualValues(t, 2, count(t, b.db, `select published_number from ca_crl`))
}

func TestRunPublishesWithinSeconds(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ca := b.authority.add(1)
	leaf := b.authority.leaf(ca)
	p := b.publisher(t, func(c *revocation.Config) { c.Now = nil; c.Poll = 0 })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	require.Eventually(t, func() bool { _, err := p.CRL(ctx, ca.issuer.KeyID(), 0); return err == nil }, 10*time.Second, 10*time.Millisecond)
	require.False(t, listed(crl(t, p, ca, 0), leaf))
	start := time.Now()
	b.revoke(t, ca, revocation.Superseded, leaf)
	require.Eventually(t, func() bool { return listed(crl(t, p, ca, 0), leaf) }, 10*time.Second, 10*time.Millisecond)
	require.Less(t, time.Since(start), 5*time.Second)
	p.Wake()
	cancel()
	require.NoError(t, <-done)
}

// An HSM that is out: the old CRL goes on being served until its nextUpdate, and
// nothing after; the revocation is published when the HSM is back.
func TestWithoutTheHSM(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ca := b.authority.add(1)
	reg := prometheus.NewRegistry()
	p := b.publisher(t, func(c *revocation.Config) { c.Metrics = reg })
	leaf := b.authority.leaf(ca)
	require.NoError(t, p.Round(t.Context()))
	first := crl(t, p, ca, 0)
	ca.key.fail(func() error { return fault.ErrUnavailable })
	b.revoke(t, ca, revocation.Superseded, leaf)
	require.NoError(t, p.Round(t.Context()))
	require.Equal(t, first.Raw, crl(t, p, ca, 0).Raw)
	require.Equal(t, 1, count(t, b.db, `select count(*) from ca_revocation where state = 'PENDING'`))
	n := count(t, b.db, `select number from ca_crl`)
	require.NoError(t, p.Round(t.Context()))
	require.Equal(t, n, count(t, b.db, `select number from ca_crl`), "a pause after a failure")

	b.clock.advance(48 * time.Hour)
	require.NoError(t, p.Round(t.Context()))
	_, err := p.CRL(t.Context(), ca.issuer.KeyID(), 0)
	require.ErrorIs(t, err, revocation.ErrNotPublished)
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	require.NoError(t, testutil.GatherAndCompare(reg, gauges(map[string]string{
		"signet_crl_dirty": "1", "signet_crl_overdue": "1", "signet_crl_shards": "1", "signet_crl_waiting_seconds": "172800",
	}), "signet_crl_dirty", "signet_crl_overdue", "signet_crl_shards", "signet_crl_waiting_seconds"))

	ca.key.fail(func() error { return nil })
	b.clock.advance(time.Minute)
	require.NoError(t, p.Round(t.Context()))
	require.True(t, listed(crl(t, p, ca, 0), leaf))
}

// A database that is out: what was served last is served on until its end.
func TestWithoutTheDatabase(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ca := b.authority.add(1)
	db := &cutDB{Pool: b.db}
	p := b.publisher(t, func(c *revocation.Config) { c.DB = db })
	require.NoError(t, p.Round(t.Context()))
	db.cut(true)
	_, err := p.CRL(t.Context(), ca.issuer.KeyID(), 0)
	require.ErrorIs(t, err, fault.ErrUnavailable, "never served here")
	db.cut(false)
	first := crl(t, p, ca, 0)
	db.cut(true)
	require.Equal(t, first.Raw, crl(t, p, ca, 0).Raw)
	require.ErrorIs(t, p.Round(t.Context()), fault.ErrUnavailable)
	b.clock.advance(48 * time.Hour)
	_, err = p.CRL(t.Context(), ca.issuer.KeyID(), 0)
	require.ErrorIs(t, err, fault.ErrUnavailable)
}

// A CA that may sign no more is left alone; its last CRL is served to its end.
func TestAnIssuerThatIsGone(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ca := b.authority.add(1)
	p := b.publisher(t, nil)
	require.NoError(t, p.Round(t.Context()))
	b.authority.remove(ca)
	b.revoke(t, ca, revocation.Superseded, b.authority.leaf(ca))
	require.NoError(t, p.Round(t.Context()))
	require.Equal(t, 1, count(t, b.db, `select count(*) from ca_crl where refresh_at is null`))
	crl(t, p, ca, 0)
	n := count(t, b.db, `select number from ca_crl`)
	require.NoError(t, p.Round(t.Context()))
	require.Equal(t, n, count(t, b.db, `select number from ca_crl`))
	b.clock.advance(48 * time.Hour)
	_, err := p.CRL(t.Context(), ca.issuer.KeyID(), 0)
	require.ErrorIs(t, err, revocation.ErrNoCRL)

	// Its certificate was renewed.
	b.authority.mu.Lock()
	b.authority.cas[ca.issuer.KeyID()] = ca
	b.authority.mu.Unlock()
	require.NoError(t, p.Round(t.Context()))
	require.Len(t, crl(t, p, ca, 0).RevokedCertificateEntries, 1)
}

// A node that does not know an issuer parks its CRLs, and one that does takes
// them up again.
func TestAnIssuerThatOneNodeKnows(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ca := b.authority.add(1)
	p := b.publisher(t, nil)
	require.NoError(t, p.Round(t.Context()))
	strange := newAuthority(t)
	strange.clock = b.clock
	other := b.publisher(t, func(c *revocation.Config) { c.Authority = strange })
	b.revoke(t, ca, revocation.Superseded, b.authority.leaf(ca))
	require.NoError(t, other.Round(t.Context()))
	require.Equal(t, 1, count(t, b.db, `select count(*) from ca_crl where refresh_at is null`))
	b.clock.advance(time.Minute)
	require.NoError(t, p.Round(t.Context()))
	require.Len(t, crl(t, p, ca, 0).RevokedCertificateEntries, 1)
}

// gauges is the text form of gauges with these values.
func gauges(want map[string]string) io.Reader {
	help := map[string]string{
		"signet_crl_dirty":           "CRLs that a revocation has made out of date.",
		"signet_crl_overdue":         "CRLs past their nextUpdate, or never made.",
		"signet_crl_shards":          "CRLs that are kept up to date.",
		"signet_crl_waiting_seconds": "Age of the oldest revocation that is on no CRL yet; 0 when there is none.",
	}
	var b strings.Builder
	for name, value := range want {
		fmt.Fprintf(&b, "# HELP %[1]s %[2]s\n# TYPE %[1]s gauge\n%[1]s %[3]s\n", name, help[name], value)
	}
	return strings.NewReader(b.String())
}

// cutDB fails everything while it is cut.
type cutDB struct {
	*pgxpool.Pool
	mu  sync.Mutex
	off bool
}

func (d *cutDB) cut(off bool) { d.mu.Lock(); d.off = off; d.mu.Unlock() }

func (d *cutDB) down() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.off }

var errCut = errors.New("connection cut")

func (d *cutDB) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if d.down() {
		return pgconn.CommandTag{}, errCut
	}
	return d.Pool.Exec(ctx, sql, args...)
}

func (d *cutDB) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if d.down() {
		return nil, errCut
	}
	return d.Pool.Query(ctx, sql, args...)
}

func (d *cutDB) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if d.down() {
		return cutRow{}
	}
	return d.Pool.QueryRow(ctx, sql, args...)
}

type cutRow struct{}

func (cutRow) Scan(...any) error { return errCut }

// With OwnCRLKey another key of the CA signs its CRLs, under a certificate that is
// made once for all nodes, told where the CRL says, and renewed in time.
func TestCRLsByAnotherKey(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ca := b.authority.add(1)
	own := func(c *revocation.Config) { c.OwnCRLKey, c.CRLValidity = true, 25*24*time.Hour }
	p, other := b.publisher(t, own), b.publisher(t, own)
	_, err := p.CRLSigner(t.Context(), ca.issuer.KeyID())
	require.ErrorIs(t, err, revocation.ErrNoIssuer)
	published := func(p *revocation.Publisher) (*x509.RevocationList, *x509.Certificate) {
		t.Helper()
		require.NoError(t, p.Round(t.Context()))
		d, err := p.CRL(t.Context(), ca.issuer.KeyID(), 0)
		require.NoError(t, err)
		l, err := x509.ParseRevocationList(d.DER)
		require.NoError(t, err)
		d, err = p.CRLSigner(t.Context(), ca.issuer.KeyID())
		require.NoError(t, err)
		signer := parse(t, d.DER)
		require.NoError(t, signer.CheckSignature(l.SignatureAlgorithm, l.RawTBSRevocationList, l.Signature))
		require.Equal(t, ca.issuer.Certificate.RawSubject, l.RawIssuer)
		require.Contains(t, string(l.Raw), revocation.CRLSignerURL(base, ca.issuer.KeyID()))
		require.False(t, l.NextUpdate.After(signer.NotAfter))
		return l, signer
	}
	first, signer := published(p)
	require.Zero(t, ca.key.signatures.Load(), "the CA's key signs no CRLs")
	require.Equal(t, 25*24*time.Hour, first.NextUpdate.Sub(first.ThisUpdate))
	b.revoke(t, ca, revocation.KeyCompromise, b.authority.leaf(ca))
	b.clock.advance(10 * 24 * time.Hour)
	second, same := published(other)
	require.Equal(t, signer.Raw, same.Raw)
	require.EqualValues(t, 1, b.authority.certify.Load())
	require.Len(t, second.RevokedCertificateEntries, 1)
	require.True(t, second.NextUpdate.Equal(signer.NotAfter), "nobody would believe it any longer")

	// Renewed after two thirds of its life; one that can not be is used to its end.
	b.authority.refuse.Store(true)
	b.clock.advance(11 * 24 * time.Hour)
	_, same = published(p)
	require.Equal(t, signer.Raw, same.Raw)
	b.authority.refuse.Store(false)
	b.clock.advance(5 * 24 * time.Hour)
	_, renewed := published(p)
	require.NotEqual(t, signer.Raw, renewed.Raw)
	require.Equal(t, signer.RawSubjectPublicKeyInfo, renewed.RawSubjectPublicKeyInfo)

	// The setting can be taken back: the next CRL is by the CA's own key.
	b.clock.advance(20 * 24 * time.Hour)
	plain := b.publisher(t, nil)
	require.NoError(t, plain.Round(t.Context()))
	require.False(t, hasScope(crl(t, plain, ca, 0)))
	require.EqualValues(t, 1, ca.key.signatures.Load())
}
