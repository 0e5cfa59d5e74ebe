package revocation_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ocsp"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
)

const base = "http://pki.example.com"

// clock is a clock that tests turn.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.at.Store(time.Now().Truncate(time.Second).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

// testCA is one CA with its keys in software, which count what they sign.
type testCA struct {
	key, responder, lister *countingKey
	issuer                 revocation.Issuer
}

type countingKey struct {
	crypto.Signer
	signatures atomic.Int32
	before     atomic.Pointer[func() error]
}

func (k *countingKey) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if f := k.before.Load(); f != nil {
		if err := (*f)(); err != nil {
			return nil, err
		}
	}
	k.signatures.Add(1)
	return k.Signer.Sign(rand.Reader, digest, opts)
}

// fail has the key answer with what f returns, until it returns nil.
func (k *countingKey) fail(f func() error) { k.before.Store(&f) }

func ecKey(tb testing.TB) *countingKey {
	tb.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(tb, err)
	return &countingKey{Signer: k}
}

func parse(tb testing.TB, der []byte) *x509.Certificate {
	tb.Helper()
	c, err := x509.ParseCertificate(der)
	require.NoError(tb, err)
	return c
}

// fakeAuthority is a revocation.Authority without a database and an HSM.
type fakeAuthority struct {
	tb    testing.TB
	clock *clock

	mu      sync.Mutex
	cas     map[revocation.KeyID]*testCA
	ends    map[issuance.Serial]time.Time
	asked   int // calls of NotAfter
	err     error
	certify atomic.Int32
	refuse  atomic.Bool // CertifyResponder
}

func newAuthority(tb testing.TB) *fakeAuthority {
	return &fakeAuthority{tb: tb, clock: newClock(), cas: map[revocation.KeyID]*testCA{}, ends: map[issuance.Serial]time.Time{}}
}

func (a *fakeAuthority) add(shards int) *testCA {
	a.tb.Helper()
	key := ecKey(a.tb)
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Test CA"}, BasicConstraintsValid: true, IsCA: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotAfter: a.clock.now().Add(10000 * time.Hour),
	}
	cert := parse(a.tb, a.issue(&testCA{key: key}, template, key.Public(), newSerial(a.tb)))
	ca := &testCA{key: key, responder: ecKey(a.tb), lister: ecKey(a.tb), issuer: revocation.Issuer{Certificate: cert, Shards: shards}}
	key.signatures.Store(0)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cas[ca.issuer.KeyID()] = ca
	return ca
}

func (a *fakeAuthority) remove(ca *testCA) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.cas, ca.issuer.KeyID())
}

func (a *fakeAuthority) issue(ca *testCA, c *x509.Certificate, key crypto.PublicKey, serial issuance.Serial) []byte {
	c.SerialNumber, c.NotBefore = new(big.Int).SetBytes(serial[:]), a.clock.now().Add(-time.Minute)
	issuer := c
	if ca.issuer.Certificate != nil {
		issuer = ca.issuer.Certificate
	}
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, key, ca.key.Signer)
	require.NoError(a.tb, err)
	return der
}

// leaf issues a certificate that the authority knows.
func (a *fakeAuthority) leaf(ca *testCA) *x509.Certificate {
	a.tb.Helper()
	serial := newSerial(a.tb)
	c := parse(a.tb, a.issue(ca, &x509.Certificate{
		Subject: pkix.Name{CommonName: "phone"}, NotAfter: a.clock.now().Add(1000 * time.Hour),
	}, ecKey(a.tb).Public(), serial))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ends[serial] = c.NotAfter
	return c
}

func (a *fakeAuthority) Issuers(context.Context) (list []revocation.Issuer, _ error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, ca := range a.cas {
		list = append(list, ca.issuer)
	}
	return list, a.err
}

func (a *fakeAuthority) find(id revocation.KeyID) (*testCA, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ca, ok := a.cas[id]
	if !ok {
		return nil, revocation.ErrNoIssuer
	}
	return ca, a.err
}

func (a *fakeAuthority) Issuer(_ context.Context, id revocation.KeyID) (revocation.Issuer, error) {
	ca, err := a.find(id)
	if err != nil {
		return revocation.Issuer{}, err
	}
	return ca.issuer, nil
}

func (a *fakeAuthority) IssuerKey(_ context.Context, id revocation.KeyID) (crypto.Signer, error) {
	ca, err := a.find(id)
	if err != nil {
		return nil, err
	}
	return ca.key, nil
}

func (a *fakeAuthority) NotAfter(_ context.Context, _ revocation.KeyID, serial issuance.Serial) (time.Time, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	end, ok := a.ends[serial]
	if !ok {
		return time.Time{}, revocation.ErrUnknownCertificate
	}
	return end, a.err
}

func (a *fakeAuthority) ResponderKey(_ context.Context, id revocation.KeyID) (crypto.Signer, error) {
	ca, err := a.find(id)
	if err != nil {
		return nil, err
	}
	return ca.responder, nil
}

func (a *fakeAuthority) CertifyResponder(_ context.Context, id revocation.KeyID, serial issuance.Serial) ([]byte, error) {
	return a.delegate(id, func(ca *testCA) []byte {
		return a.issue(ca, &x509.Certificate{
			Subject: pkix.Name{CommonName: "OCSP"}, NotAfter: a.clock.now().Add(14 * 24 * time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
			ExtraExtensions: []pkix.Extension{{Id: []int{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: []byte{5, 0}}},
		}, ca.responder.Public(), serial)
	})
}

// delegate issues a certificate for another key of a CA, unless it is to refuse.
func (a *fakeAuthority) delegate(id revocation.KeyID, issue func(*testCA) []byte) ([]byte, error) {
	ca, err := a.find(id)
	if err != nil {
		return nil, err
	}
	if a.refuse.Load() {
		return nil, fault.ErrUnavailable
	}
	a.certify.Add(1)
	return issue(ca), nil
}

func (a *fakeAuthority) CRLKey(_ context.Context, id revocation.KeyID) (crypto.Signer, error) {
	ca, err := a.find(id)
	if err != nil {
		return nil, err
	}
	return ca.lister, nil
}

func (a *fakeAuthority) CertifyCRLSigner(_ context.Context, id revocation.KeyID, serial issuance.Serial) ([]byte, error) {
	return a.delegate(id, func(ca *testCA) []byte {
		return a.issue(ca, &x509.Certificate{
			Subject: ca.issuer.Certificate.Subject, AuthorityKeyId: ca.issuer.Certificate.SubjectKeyId,
			SubjectKeyId: []byte("twenty bytes of a key"[:20]), NotAfter: a.clock.now().Add(30 * 24 * time.Hour), KeyUsage: x509.KeyUsageCRLSign,
		}, ca.lister.Public(), serial)
	})
}

// bench is a database and an authority, for any number of publishers.
type bench struct {
	db        *pgxpool.Pool
	authority *fakeAuthority
	clock     *clock
}

func newBench(tb testing.TB) *bench {
	tb.Helper()
	a := newAuthority(tb)
	return &bench{db: pgtest.New(tb), authority: a, clock: a.clock}
}

func (b *bench) publisher(tb testing.TB, change func(*revocation.Config)) *revocation.Publisher {
	tb.Helper()
	c := revocation.Config{DB: b.db, Authority: b.authority, URL: base, Now: b.clock.now, Poll: 10 * time.Millisecond}
	if change != nil {
		change(&c)
	}
	p, err := revocation.New(c)
	require.NoError(tb, err)
	return p
}

// revoke records a leaf as revoked now.
func (b *bench) revoke(tb testing.TB, ca *testCA, reason revocation.Reason, certs ...*x509.Certificate) {
	tb.Helper()
	records := make([]revocation.Record, len(certs))
	for i, c := range certs {
		records[i] = b.record(tb, ca, c)
		records[i].Reason = reason
	}
	require.NoError(tb, record(tb.Context(), b.db, records...))
}

func (b *bench) record(tb testing.TB, ca *testCA, c *x509.Certificate) revocation.Record {
	tb.Helper()
	id := ca.issuer.KeyID()
	r := newRecord(tb, id)
	serial, err := issuance.ParseSerial(c.SerialNumber.Bytes())
	require.NoError(tb, err)
	r.Serial, r.Shards, r.NotAfter, r.At, r.Since = serial, ca.issuer.Shards, c.NotAfter, b.clock.now(), time.Time{}
	return r
}

// crl reads a published CRL and checks its signature.
func crl(tb testing.TB, p *revocation.Publisher, ca *testCA, shard int) *x509.RevocationList {
	tb.Helper()
	d, err := p.CRL(tb.Context(), ca.issuer.KeyID(), shard)
	require.NoError(tb, err)
	l, err := x509.ParseRevocationList(d.DER)
	require.NoError(tb, err)
	require.NoError(tb, l.CheckSignatureFrom(ca.issuer.Certificate))
	require.True(tb, l.ThisUpdate.Equal(d.ThisUpdate) && l.NextUpdate.Equal(d.NextUpdate))
	return l
}

func listed(l *x509.RevocationList, c *x509.Certificate) bool {
	for _, e := range l.RevokedCertificateEntries {
		if e.SerialNumber.Cmp(c.SerialNumber) == 0 {
			return true
		}
	}
	return false
}

func ask(tb testing.TB, ca *testCA, c *x509.Certificate, hash crypto.Hash) []byte {
	tb.Helper()
	der, err := ocsp.CreateRequest(c, ca.issuer.Certificate, &ocsp.RequestOptions{Hash: hash})
	require.NoError(tb, err)
	return der
}

// status asks and checks the response as a client.
func status(tb testing.TB, p *revocation.Publisher, ca *testCA, c *x509.Certificate) *ocsp.Response {
	tb.Helper()
	d, err := p.OCSP(tb.Context(), ca.issuer.KeyID(), ask(tb, ca, c, crypto.SHA1))
	require.NoError(tb, err)
	r, err := ocsp.ParseResponseForCert(d.DER, c, ca.issuer.Certificate)
	require.NoError(tb, err)
	require.True(tb, r.ThisUpdate.Equal(d.ThisUpdate) && r.NextUpdate.Equal(d.NextUpdate))
	return r
}
