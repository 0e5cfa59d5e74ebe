package revocation_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"math/big"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ocsp"

	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/fault"
)

func TestOCSPIsSignedOnceAndRevokedAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ca := b.authority.add(1)
	leaf := b.authority.leaf(ca)
	p, other := b.publisher(t, nil), b.publisher(t, nil)
	good := status(t, p, ca, leaf)
	require.Equal(t, ocsp.Good, good.Status)
	require.Equal(t, 24*time.Hour, good.NextUpdate.Sub(good.ThisUpdate))
	require.Equal(t, good.Raw, status(t, other, ca, leaf).Raw, "from the store, on any node")
	require.EqualValues(t, 1, ca.responder.signatures.Load())
	require.EqualValues(t, 1, b.authority.certify.Load())
	require.Zero(t, ca.key.signatures.Load(), "the CA's key signs no responses")

	r := b.record(t, ca, leaf)
	r.Reason = revocation.KeyCompromise
	require.NoError(t, record(t.Context(), b.db, r))
	require.NoError(t, p.Round(t.Context())) // in the background, before anybody asks
	require.EqualValues(t, 2, ca.responder.signatures.Load())
	bad := status(t, p, ca, leaf)
	require.Equal(t, []int{ocsp.Revoked, ocsp.KeyCompromise}, []int{bad.Status, bad.RevocationReason})
	require.True(t, bad.RevokedAt.Equal(r.At.Truncate(time.Second)))
	require.EqualValues(t, 2, ca.responder.signatures.Load())

	// Asked before the background came to it.
	leaf = b.authority.leaf(ca)
	require.Equal(t, ocsp.Good, status(t, p, ca, leaf).Status)
	b.revoke(t, ca, revocation.Unspecified, leaf)
	bad = status(t, p, ca, leaf)
	require.Equal(t, []int{ocsp.Revoked, ocsp.Unspecified}, []int{bad.Status, bad.RevocationReason})
}

// The verdict is overtaken by a revocation while the HSM signs: nobody gets it.
func TestOCSPRevokedWhileSigning(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ca := b.authority.add(1)
	leaf := b.authority.leaf(ca)
	p := b.publisher(t, nil)
	r := b.record(t, ca, leaf)
	ca.responder.fail(func() error { return record(t.Context(), b.db, r) })
	_, err := p.OCSP(t.Context(), ca.issuer.KeyID(), ask(t, ca, leaf, crypto.SHA1))
	require.ErrorIs(t, err, revocation.ErrBusy)
	ca.responder.fail(func() error { return nil })
	require.Equal(t, ocsp.Revoked, status(t, p, ca, leaf).Status)
}

func TestOCSPHashes(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ca := b.authority.add(1)
	leaf := b.authority.leaf(ca)
	p := b.publisher(t, nil)
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		for range 2 {
			d, err := p.OCSP(t.Context(), ca.issuer.KeyID(), ask(t, ca, leaf, h))
			require.NoError(t, err)
			r, err := ocsp.ParseResponseForCert(d.DER, leaf, ca.issuer.Certificate)
			require.NoError(t, err)
			require.Equal(t, h, r.IssuerHash)
			require.Len(t, r.ResponderKeyHash, 20)
		}
	}
	require.EqualValues(t, 2, ca.responder.signatures.Load())
	for _, h := range []crypto.Hash{crypto.SHA384, crypto.SHA512} {
		_, err := p.OCSP(t.Context(), ca.issuer.KeyID(), ask(t, ca, leaf, h))
		require.ErrorIs(t, err, revocation.ErrUnknownCertificate)
	}
}

// Nothing is signed for those who guess.
func TestOCSPUnknown(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ca, other := b.authority.add(1), b.authority.add(1)
	leaf := b.authority.leaf(ca)
	reg := prometheus.NewRegistry()
	p := b.publisher(t, func(c *revocation.Config) { c.Metrics = reg })
	serial := func(n *big.Int) *x509.Certificate { return &x509.Certificate{SerialNumber: n} }
	random := newSerial(t)
	for name, c := range map[string]struct {
		issuer  revocation.KeyID
		request []byte
		want    error
	}{
		"random serial":  {ca.issuer.KeyID(), ask(t, ca, serial(new(big.Int).SetBytes(random[:])), crypto.SHA1), revocation.ErrUnknownCertificate},
		"short serial":   {ca.issuer.KeyID(), ask(t, ca, serial(big.NewInt(7)), crypto.SHA1), revocation.ErrUnknownCertificate},
		"unknown issuer": {revocation.KeyID{1}, ask(t, ca, leaf, crypto.SHA1), revocation.ErrNoIssuer},
		"other issuer":   {other.issuer.KeyID(), ask(t, ca, leaf, crypto.SHA1), revocation.ErrUnknownCertificate},
		"not a request":  {ca.issuer.KeyID(), []byte("hello"), revocation.ErrMalformed},
		"nothing":        {ca.issuer.KeyID(), nil, revocation.ErrMalformed},
		"too long":       {ca.issuer.KeyID(), make([]byte, 9<<10), revocation.ErrMalformed},
		"more behind it": {ca.issuer.KeyID(), append(ask(t, ca, leaf, crypto.SHA1), 0), revocation.ErrMalformed},
	} {
		_, err := p.OCSP(t.Context(), c.issuer, c.request)
		require.ErrorIs(t, err, c.want, name)
	}
	b.clock.advance(1001 * time.Hour) // past the certificate's end
	_, err := p.OCSP(t.Context(), ca.issuer.KeyID(), ask(t, ca, leaf, crypto.SHA1))
	require.ErrorIs(t, err, revocation.ErrUnknownCertificate)
	require.Zero(t, ca.responder.signatures.Load()+other.responder.signatures.Load()+b.authority.certify.Load())
	require.Zero(t, count(t, b.db, `select count(*) from ca_ocsp`))
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`# HELP signet_ocsp_answers_total OCSP requests by answer: good, revoked, or why there was no response.
# TYPE signet_ocsp_answers_total counter
signet_ocsp_answers_total{status="malformed"} 4
signet_ocsp_answers_total{status="unauthorized"} 5
`), "signet_ocsp_answers_total"))
}

// Who guesses serials costs one statement here, and one at the authority, whose
// table is its own (doc.go).
func TestAGuessCostsOneStatement(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ca := b.authority.add(1)
	db := &countingDB{DB: b.db}
	p := b.publisher(t, func(c *revocation.Config) { c.DB = db })
	random := newSerial(t)
	guess := &x509.Certificate{SerialNumber: new(big.Int).SetBytes(random[:])}
	_, err := p.OCSP(t.Context(), ca.issuer.KeyID(), ask(t, ca, guess, crypto.SHA1))
	require.ErrorIs(t, err, revocation.ErrUnknownCertificate)
	require.EqualValues(t, 1, db.rows.Load())
	require.Equal(t, 1, b.authority.asked)
}

// countingDB counts the statements for one row.
type countingDB struct {
	revocation.DB
	rows atomic.Int32
}

func (d *countingDB) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	d.rows.Add(1)
	return d.DB.QueryRow(ctx, sql, args...)
}

// A request that has seen the tombstone does not wait for the signature that was
// asked for before there was one.
func TestOCSPRevokedDoesNotJoinGood(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ca := b.authority.add(1)
	leaf := b.authority.leaf(ca)
	p := b.publisher(t, nil)
	status(t, p, ca, b.authority.leaf(ca)) // the responder's certificate is there
	signing, release := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	ca.responder.fail(func() error {
		if first.CompareAndSwap(false, true) {
			close(signing)
			<-release
		}
		return nil
	})
	early := make(chan error, 1)
	request := ask(t, ca, leaf, crypto.SHA1)
	go func() {
		_, err := p.OCSP(t.Context(), ca.issuer.KeyID(), request)
		early <- err
	}()
	<-signing
	b.revoke(t, ca, revocation.KeyCompromise, leaf)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	late, err := p.OCSP(ctx, ca.issuer.KeyID(), request)
	close(release)
	require.ErrorIs(t, <-early, revocation.ErrBusy)
	require.NoError(t, err)
	r, err := ocsp.ParseResponseForCert(late.DER, leaf, ca.issuer.Certificate)
	require.NoError(t, err)
	require.Equal(t, ocsp.Revoked, r.Status)
}

// Thousands who ask for the same at once cost one signature; those who ask for
// different things take turns, and are sent away when it takes too long.
func TestOCSPFlood(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ca := b.authority.add(1)
	p := b.publisher(t, func(c *revocation.Config) { c.Signers = 1; c.Wait = 300 * time.Millisecond })
	status(t, p, ca, b.authority.leaf(ca)) // the responder's certificate is there
	ca.responder.signatures.Store(0)
	leaf := b.authority.leaf(ca)
	request := ask(t, ca, leaf, crypto.SHA256)
	release := make(chan struct{})
	ca.responder.fail(func() error { <-release; return nil })
	var wg sync.WaitGroup
	var good atomic.Int32
	for range 50 {
		wg.Go(func() {
			if _, err := p.OCSP(t.Context(), ca.issuer.KeyID(), request); err == nil {
				good.Add(1)
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	_, err := p.OCSP(t.Context(), ca.issuer.KeyID(), ask(t, ca, b.authority.leaf(ca), crypto.SHA256))
	require.ErrorIs(t, err, revocation.ErrBusy)
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = p.OCSP(ctx, ca.issuer.KeyID(), request)
	require.ErrorIs(t, err, fault.ErrUnavailable, "who goes away does not take the others along")
	close(release)
	wg.Wait()
	require.EqualValues(t, 50, good.Load())
	require.EqualValues(t, 1, ca.responder.signatures.Load())
}

// What is asked for is fresh when it is asked again; what nobody wants goes.
func TestOCSPRefresh(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ca := b.authority.add(1)
	p, other := b.publisher(t, nil), b.publisher(t, nil)
	wanted, dropped := b.authority.leaf(ca), b.authority.leaf(ca)
	first := status(t, p, ca, wanted)
	status(t, p, ca, dropped)
	ca.responder.signatures.Store(0)
	for range 4 {
		b.clock.advance(6 * time.Hour)
		status(t, p, ca, wanted)
		var wg sync.WaitGroup
		for _, p := range []*revocation.Publisher{p, other} {
			wg.Go(func() { _ = p.Round(t.Context()) })
		}
		wg.Wait()
	}
	// After 12 and 24 hours, and dropped once, after 12: it was asked for within a day then.
	require.EqualValues(t, 3, ca.responder.signatures.Load())
	b.clock.advance(time.Hour)
	require.NoError(t, p.Round(t.Context()))
	again := status(t, p, ca, wanted)
	require.True(t, again.ThisUpdate.After(first.ThisUpdate))
	require.EqualValues(t, 3, ca.responder.signatures.Load())
	b.clock.advance(22 * time.Hour)
	require.NoError(t, p.Round(t.Context()))
	require.Equal(t, 1, count(t, b.db, `select count(*) from ca_ocsp`), "nobody asked for the other one")
}

// The HSM hangs with the first of many responses that are due: a revocation comes
// to its CRL all the same, and Run ends with both its loops.
func TestDueResponsesDoNotDelayACRL(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ca := b.authority.add(1)
	p := b.publisher(t, nil)
	leaf := b.authority.leaf(ca)
	for range 40 {
		status(t, p, ca, b.authority.leaf(ca))
	}
	require.NoError(t, p.Round(t.Context()))
	b.clock.advance(13 * time.Hour)
	hangs, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	ca.responder.fail(func() error {
		once.Do(func() { close(hangs) })
		<-release
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	<-hangs
	b.revoke(t, ca, revocation.KeyCompromise, leaf)
	p.Wake()
	require.Eventually(t, func() bool { return listed(crl(t, p, ca, 0), leaf) }, 30*time.Second, 20*time.Millisecond)
	cancel()
	select {
	case <-ended:
		require.Fail(t, "Run ended before its loops")
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	require.NoError(t, <-ended)
}

// Responses are refreshed in batches, each within its lease; Run takes the next
// at once.
func TestOCSPBatches(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ca := b.authority.add(1)
	p := b.publisher(t, func(c *revocation.Config) { c.Lease = time.Second; c.Poll = time.Hour })
	for range 70 {
		status(t, p, ca, b.authority.leaf(ca))
	}
	b.clock.advance(13 * time.Hour)
	ca.responder.signatures.Store(0)
	require.NoError(t, p.Round(t.Context()))
	require.LessOrEqual(t, ca.responder.signatures.Load(), int32(32))

	b.clock.advance(time.Second)
	ca.responder.signatures.Store(0)
	ca.responder.fail(func() error { time.Sleep(500 * time.Millisecond); return nil })
	began := time.Now()
	require.NoError(t, p.Round(t.Context()))
	require.Less(t, time.Since(began), 8*time.Second, "32 would take 16 s")
	ca.responder.fail(func() error { return nil })

	b.clock.advance(time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	require.Eventually(t, func() bool {
		b.clock.advance(time.Second) // leases end
		p.Wake()
		return count(t, b.db, `select count(*) from ca_ocsp where refresh_at <= $1`, b.clock.now()) == 0
	}, 30*time.Second, 20*time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
}

func TestOCSPWithoutTheHSM(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ca := b.authority.add(1)
	p := b.publisher(t, nil)
	leaf := b.authority.leaf(ca)
	first := status(t, p, ca, leaf)
	ca.responder.fail(func() error { return fault.ErrUnavailable })
	b.clock.advance(13 * time.Hour)
	require.NoError(t, p.Round(t.Context()))
	require.Equal(t, first.Raw, status(t, p, ca, leaf).Raw, "still valid")
	_, err := p.OCSP(t.Context(), ca.issuer.KeyID(), ask(t, ca, b.authority.leaf(ca), crypto.SHA1))
	require.ErrorIs(t, err, fault.ErrUnavailable)
	b.clock.advance(12 * time.Hour)
	_, err = p.OCSP(t.Context(), ca.issuer.KeyID(), ask(t, ca, leaf, crypto.SHA1))
	require.ErrorIs(t, err, fault.ErrUnavailable)
	ca.responder.fail(func() error { return nil })
	require.Equal(t, ocsp.Good, status(t, p, ca, leaf).Status)
}

func TestOCSPWithoutTheDatabase(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ca := b.authority.add(1)
	db := &cutDB{Pool: b.db}
	p := b.publisher(t, func(c *revocation.Config) { c.DB = db })
	leaf := b.authority.leaf(ca)
	status(t, p, ca, leaf)
	db.cut(true)
	_, err := p.OCSP(t.Context(), ca.issuer.KeyID(), ask(t, ca, leaf, crypto.SHA1))
	require.ErrorIs(t, err, fault.ErrUnavailable)
}

// The responder's certificate is renewed in time and by one node; while that
// fails the old one serves to its end.
func TestOCSPResponderIsRenewed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ca := b.authority.add(1)
	leaf := b.authority.leaf(ca)
	ps := []*revocation.Publisher{b.publisher(t, nil), b.publisher(t, nil), b.publisher(t, nil)}
	all := func(hash crypto.Hash) {
		var wg sync.WaitGroup
		for _, p := range ps {
			wg.Go(func() { _, _ = p.OCSP(t.Context(), ca.issuer.KeyID(), ask(t, ca, b.authority.leaf(ca), hash)) })
		}
		wg.Wait()
	}
	all(crypto.SHA1)
	require.EqualValues(t, 1, b.authority.certify.Load())
	first := status(t, ps[0], ca, leaf).Certificate
	b.clock.advance(10 * 24 * time.Hour)
	all(crypto.SHA256)
	require.EqualValues(t, 2, b.authority.certify.Load())
	require.NotEqual(t, first.Raw, status(t, ps[0], ca, b.authority.leaf(ca)).Certificate.Raw)
	require.Equal(t, 2, count(t, b.db, `select count(*) from ca_ocsp_delegate where certificate is not null`))

	b.clock.advance(10 * 24 * time.Hour)
	second := status(t, ps[1], ca, b.authority.leaf(ca)).Certificate
	require.EqualValues(t, 3, b.authority.certify.Load())
	b.authority.refuse.Store(true)
	b.clock.advance(13 * 24 * time.Hour)
	last := status(t, ps[1], ca, b.authority.leaf(ca))
	require.Equal(t, second.Raw, last.Certificate.Raw)
	require.True(t, last.NextUpdate.Equal(second.NotAfter) || last.NextUpdate.Before(second.NotAfter), "no response outlives its signer")
	b.clock.advance(2 * 24 * time.Hour)
	_, err := ps[1].OCSP(t.Context(), ca.issuer.KeyID(), ask(t, ca, b.authority.leaf(ca), crypto.SHA1))
	require.ErrorIs(t, err, fault.ErrUnavailable)
}

// A token that was restored from before has other keys for OCSP and CRLs than those
// that were certified: they are certified, and not waited for until the certificate
// has grown old.
func TestDelegatesWithAnotherKey(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ca := b.authority.add(1)
	own := func(c *revocation.Config) { c.OwnCRLKey = true }
	p, other := b.publisher(t, own), b.publisher(t, own)
	first, second, third := b.authority.leaf(ca), b.authority.leaf(ca), b.authority.leaf(ca)
	status(t, p, ca, first)
	status(t, other, ca, first)
	require.NoError(t, p.Round(t.Context()))
	before := b.authority.certify.Load()
	ca.responder, ca.lister = ecKey(t), ecKey(t)
	require.Equal(t, ocsp.Good, status(t, p, ca, second).Status)
	require.Equal(t, ocsp.Good, status(t, other, ca, third).Status, "which remembers the old certificate")
	require.Equal(t, before+1, b.authority.certify.Load(), "one certificate for both nodes")
	b.revoke(t, ca, revocation.KeyCompromise, first)
	require.NoError(t, p.Round(t.Context()))
	require.Equal(t, before+2, b.authority.certify.Load())
	d, err := p.CRL(t.Context(), ca.issuer.KeyID(), 0)
	require.NoError(t, err)
	l, err := x509.ParseRevocationList(d.DER)
	require.NoError(t, err)
	require.True(t, listed(l, first))
}

func TestIssuerCertificate(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ca := b.authority.add(1)
	p := b.publisher(t, nil)
	d, err := p.IssuerCertificate(t.Context(), ca.issuer.KeyID())
	require.NoError(t, err)
	require.Equal(t, ca.issuer.Certificate.Raw, d.DER)
	_, err = p.IssuerCertificate(t.Context(), revocation.KeyID{})
	require.ErrorIs(t, err, revocation.ErrNoIssuer)
}

func TestConfig(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for name, change := range map[string]func(*revocation.Config){
		"no database":   func(c *revocation.Config) { c.DB = nil },
		"no authority":  func(c *revocation.Config) { c.Authority = nil },
		"https":         func(c *revocation.Config) { c.URL = "https://pki.example.com" },
		"slash":         func(c *revocation.Config) { c.URL = base + "/" },
		"no host":       func(c *revocation.Config) { c.URL = "http:///x" },
		"short CRL":     func(c *revocation.Config) { c.CRLValidity = time.Second },
		"short OCSP":    func(c *revocation.Config) { c.OCSPValidity = -time.Hour },
		"negative poll": func(c *revocation.Config) { c.Poll = -1 },
		"short lease":   func(c *revocation.Config) { c.Lease = 1 },
		"no signers":    func(c *revocation.Config) { c.Signers = -1 },
	} {
		c := revocation.Config{DB: b.db, Authority: b.authority, URL: base}
		change(&c)
		_, err := revocation.New(c)
		require.ErrorIs(t, err, revocation.ErrConfig, name)
	}
}

func TestKeyID(t *testing.T) {
	t.Parallel()
	k := revocation.KeyID{0: 0xab, 19: 1}
	back, ok := revocation.ParseKeyID(k.String())
	require.True(t, ok)
	require.Equal(t, k, back)
	for _, s := range []string{"", "ab", strings.ToUpper(k.String()), k.String() + "00", strings.Repeat("g", 40)} {
		_, ok := revocation.ParseKeyID(s)
		require.False(t, ok, s)
	}
}
