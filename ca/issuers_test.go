package ca_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ocsp"

	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
)

// turn is a clock that moves a little at each look, so that nothing is answered
// from a list that is younger than a second.
func turn() func() time.Time {
	var mu sync.Mutex
	var n time.Duration
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		n += 10 * time.Millisecond
		return time.Now().Add(n * 100)
	}
}

func issuersOf(tb testing.TB, a *ca.Authority) *ca.Issuers {
	tb.Helper()
	s, err := a.Issuers()
	require.NoError(tb, err)
	return s
}

func keyID(tb testing.TB, der []byte) revocation.KeyID {
	tb.Helper()
	c, err := x509.ParseCertificate(der)
	require.NoError(tb, err)
	return revocation.KeyID(c.SubjectKeyId)
}

func keyIDs(tb testing.TB, s *ca.Issuers) (ids []revocation.KeyID) {
	tb.Helper()
	list, err := s.Issuers(tb.Context())
	require.NoError(tb, err)
	for _, i := range list {
		ids = append(ids, i.KeyID())
	}
	return ids
}

// The issuer CA and each signer that is ACTIVE or RETIRED, of all tenants, may
// sign; one that is revoked may not.
func TestIssuersAreThoseThatMaySign(t *testing.T) {
	t.Parallel()
	b, _ := bundle(t)
	a := b.authority(t, func(c *ca.Config) { c.Now = turn(); c.CRLShards = 4 })
	s := issuersOf(t, a)
	top := keyID(t, b.chain[0])
	require.Equal(t, []revocation.KeyID{top}, keyIDs(t, s))
	first, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
	require.NoError(t, err)
	second, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
	require.NoError(t, err)
	other, err := a.CreateSigner(t.Context(), beta, ca.CreateSigner{})
	require.NoError(t, err)
	all := []revocation.KeyID{top, keyID(t, first.Certificate), keyID(t, second.Certificate), keyID(t, other.Certificate)}
	require.ElementsMatch(t, all, keyIDs(t, s))
	for i, id := range all {
		found, err := s.Issuer(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, id, found.KeyID())
		require.Equal(t, map[bool]int{true: 1, false: 4}[i == 0], found.Shards)
		key, err := s.IssuerKey(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, found.Certificate.PublicKey, key.Public())
	}
	_, err = s.Issuer(t.Context(), revocation.KeyID{1})
	require.ErrorIs(t, err, revocation.ErrNoIssuer)

	require.NoError(t, a.RevokeSigner(t.Context(), alpha, ca.RevokeSigner{Spec: first.ID, Actor: "test"}))
	require.ElementsMatch(t, slices.Delete(slices.Clone(all), 1, 2), keyIDs(t, s))
	for _, ask := range []func() error{
		func() error { _, err := s.Issuer(t.Context(), all[1]); return err },
		func() error { _, err := s.IssuerKey(t.Context(), all[1]); return err },
		func() error { _, err := s.ResponderKey(t.Context(), all[1]); return err },
		func() error { _, err := s.CertifyResponder(t.Context(), all[1], newSerial(t)); return err },
		func() error { _, err := s.CRLKey(t.Context(), all[1]); return err },
		func() error { _, err := s.CertifyCRLSigner(t.Context(), all[1], newSerial(t)); return err },
	} {
		require.ErrorIs(t, ask(), revocation.ErrNoIssuer)
	}
}

// What a node with a wrong clock revokes is seen by the others: changes are told
// by the database's clock.
func TestIssuersOfANodeWithAWrongClock(t *testing.T) {
	t.Parallel()
	for name, off := range map[string]time.Duration{"slow": -30 * time.Minute, "fast": 30 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := bundle(t)
			a := b.authority(t, func(c *ca.Config) { c.Now = turn() })
			s := issuersOf(t, a)
			first, second := create(t, a), create(t, a)
			require.Len(t, keyIDs(t, s), 3)
			wrong := b.authority(t, func(c *ca.Config) { c.Now = func() time.Time { return time.Now().Add(off) } })
			require.NoError(t, wrong.RevokeSigner(t.Context(), alpha, ca.RevokeSigner{Spec: first.ID, Actor: "test"}))
			require.Equal(t, []revocation.KeyID{keyID(t, b.chain[0]), keyID(t, second.Certificate)}, keyIDs(t, s))
			// Nor does its clock keep later changes from being seen.
			require.NoError(t, a.RevokeSigner(t.Context(), alpha, ca.RevokeSigner{Spec: second.ID, Actor: "test"}))
			require.Len(t, keyIDs(t, s), 1)
		})
	}
}

func newSerial(tb testing.TB) issuance.Serial {
	tb.Helper()
	s, err := issuance.NewSerial(rand.Reader)
	require.NoError(tb, err)
	return s
}

// A signer that is revoked signs no more once the list is a second old, whoever
// asks, and though nobody asks for the list.
func TestARevokedIssuerIsNotUsedFromMemory(t *testing.T) {
	t.Parallel()
	b, _ := bundle(t)
	var ahead atomic.Int64
	a := b.authority(t, func(c *ca.Config) {
		c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	s := issuersOf(t, a)
	signer, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
	require.NoError(t, err)
	id := keyID(t, signer.Certificate)
	_, err = s.IssuerKey(t.Context(), id)
	require.NoError(t, err)
	require.NoError(t, a.RevokeSigner(t.Context(), alpha, ca.RevokeSigner{Spec: signer.ID, Actor: "test"}))
	ahead.Add(int64(time.Second))
	_, err = s.IssuerKey(t.Context(), id)
	require.ErrorIs(t, err, revocation.ErrNoIssuer)
}

// Those who guess wait in a bounded number; the others are told at once, and a CA
// that is known is answered all the while.
func TestGuessesWaitInABoundedNumber(t *testing.T) {
	t.Parallel()
	b, _ := bundle(t)
	var holding atomic.Bool
	release := make(chan struct{})
	db := &brokenDB{Pool: b.db, fail: func(string) error {
		if holding.Load() {
			<-release
		}
		return nil
	}}
	now := time.Now()
	var ahead atomic.Int64
	a := b.authority(t, func(c *ca.Config) {
		c.DB = queryCut{db}
		c.Now = func() time.Time { return now.Add(time.Duration(ahead.Load())) }
	})
	s := issuersOf(t, a)
	_, err := s.Issuers(t.Context())
	require.NoError(t, err)
	ahead.Store(int64(time.Minute))
	holding.Store(true)
	const guesses = 200
	told := make(chan error, guesses)
	for i := range guesses {
		go func() {
			_, err := s.Issuer(t.Context(), revocation.KeyID{1, byte(i)})
			told <- err
		}()
	}
	for range guesses - 64 {
		require.ErrorIs(t, <-told, revocation.ErrNoIssuer)
	}
	_, err = s.Issuer(t.Context(), keyID(t, b.chain[0]))
	require.NoError(t, err)
	require.Empty(t, told, "the others wait for the database")
	holding.Store(false)
	close(release)
	for range 64 {
		require.ErrorIs(t, <-told, revocation.ErrNoIssuer)
	}
	_, err = s.Issuer(t.Context(), revocation.KeyID{2})
	require.ErrorIs(t, err, revocation.ErrNoIssuer, "there is room again")
}

// What is in memory is known without the database; what is not is an outage.
func TestIssuersWithoutTheDatabase(t *testing.T) {
	t.Parallel()
	b, _ := bundle(t)
	var off bool
	db := &brokenDB{Pool: b.db, fail: func(string) error {
		if off {
			return errCut
		}
		return nil
	}}
	a := b.authority(t, func(c *ca.Config) { c.DB = queryCut{db}; c.Now = turn() })
	s := issuersOf(t, a)
	signer, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
	require.NoError(t, err)
	id := keyID(t, signer.Certificate)
	_, err = s.Issuer(t.Context(), id)
	require.NoError(t, err)
	off = true
	_, err = s.Issuer(t.Context(), id)
	require.NoError(t, err)
	_, err = s.Issuer(t.Context(), revocation.KeyID{1})
	require.ErrorIs(t, err, fault.ErrUnavailable)
	_, err = s.Issuers(t.Context())
	require.ErrorIs(t, err, fault.ErrUnavailable)
}

// A revocation through the authority is seen in the CRL and in OCSP, which the
// CA's own key and a delegated one in the HSM have signed.
func TestRevocationIsPublished(t *testing.T) {
	t.Parallel()
	b, _ := bundle(t)
	a := b.authority(t, func(c *ca.Config) { c.PKI = "http://pki.example.com" })
	p, err := revocation.New(revocation.Config{DB: b.db, Authority: issuersOf(t, a), URL: "http://pki.example.com"})
	require.NoError(t, err)
	signer, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
	require.NoError(t, err)
	c, err := a.IssueDevice(t.Context(), alpha, order(t))
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(c.DER)
	require.NoError(t, err)
	by, err := x509.ParseCertificate(signer.Certificate)
	require.NoError(t, err)
	id := keyID(t, signer.Certificate)
	require.Equal(t, []string{revocation.CRLURL("http://pki.example.com", id, 0)}, leaf.CRLDistributionPoints)
	require.Equal(t, []string{revocation.OCSPURL("http://pki.example.com", id)}, leaf.OCSPServer)
	require.Equal(t, []string{revocation.IssuerURL("http://pki.example.com", id)}, leaf.IssuingCertificateURL)

	require.NoError(t, p.Round(t.Context()))
	ask, err := ocsp.CreateRequest(leaf, by, nil)
	require.NoError(t, err)
	status := func() *ocsp.Response {
		d, err := p.OCSP(t.Context(), id, ask)
		require.NoError(t, err)
		r, err := ocsp.ParseResponseForCert(d.DER, leaf, by)
		require.NoError(t, err)
		return r
	}
	good := status()
	require.Equal(t, ocsp.Good, good.Status)
	require.NoError(t, issuance.VerifyChain(append([][]byte{good.Certificate.Raw}, c.Chain...), time.Now()))
	require.NotContains(t, good.Certificate.Subject.String(), "alpha")
	keys, err := b.token.Keys(t.Context(), func(r hsm.Ref) bool { return r.Role == hsm.RoleOCSP })
	require.NoError(t, err)
	require.Len(t, keys, 1)
	require.Equal(t, hsm.Ref{Tenant: "alpha", Role: hsm.RoleOCSP, Name: id.String()}, keys[0].Ref)
	require.Equal(t, keys[0].Public, good.Certificate.PublicKey)
	require.Equal(t, 1, b.count(t, `select count(*) from audit_event where tenant_id = 'alpha' and action = 'ocsp.certify' and subject = $1`, id.String()))
	require.Equal(t, 1, b.count(t, `select count(*) from ca_certificate where profile = 'AST_DEVICE'`), "a responder's certificate is none of the signer's")

	require.NoError(t, a.RevokeCertificate(t.Context(), alpha, ca.RevokeCertificate{Ref: c.Ref, Reason: revocation.Superseded, Actor: "test"}))
	require.NoError(t, p.Round(t.Context()))
	require.Equal(t, ocsp.Revoked, status().Status)
	d, err := p.CRL(t.Context(), id, 0)
	require.NoError(t, err)
	list, err := x509.ParseRevocationList(d.DER)
	require.NoError(t, err)
	require.NoError(t, list.CheckSignatureFrom(by))
	require.Len(t, list.RevokedCertificateEntries, 1)
	require.Equal(t, leaf.SerialNumber, list.RevokedCertificateEntries[0].SerialNumber)

	// A second certificate is for the same key, and the issuer CA has one too.
	again, err := issuersOf(t, a).CertifyResponder(t.Context(), id, newSerial(t))
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(again)
	require.NoError(t, err)
	require.Equal(t, keys[0].Public, parsed.PublicKey)
	_, err = issuersOf(t, a).CertifyResponder(t.Context(), keyID(t, b.chain[0]), newSerial(t))
	require.NoError(t, err)
	require.Equal(t, 1, b.count(t, `select count(*) from audit_event where tenant_id = '_system' and action = 'ocsp.certify'`))
}

// Whatever kind of key a signer has, its CRLs and OCSP responses can be made.
func TestEveryKindOfSignerPublishes(t *testing.T) {
	t.Parallel()
	b, _ := bundle(t)
	for _, algorithm := range []hsm.Algorithm{hsm.P384, hsm.RSA3072, hsm.Ed25519} {
		a := b.authority(t, func(c *ca.Config) { c.SignerAlgorithm = algorithm })
		p, err := revocation.New(revocation.Config{DB: b.db, Authority: issuersOf(t, a)})
		require.NoError(t, err)
		signer, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
		require.NoError(t, err, algorithm)
		c, err := a.IssueDevice(t.Context(), alpha, order(t))
		require.NoError(t, err, algorithm)
		require.NoError(t, a.RevokeCertificate(t.Context(), alpha, ca.RevokeCertificate{Ref: c.Ref, Actor: "test"}))
		require.NoError(t, p.Round(t.Context()))
		by, err := x509.ParseCertificate(signer.Certificate)
		require.NoError(t, err)
		leaf, err := x509.ParseCertificate(c.DER)
		require.NoError(t, err)
		d, err := p.CRL(t.Context(), keyID(t, signer.Certificate), 0)
		require.NoError(t, err, algorithm)
		list, err := x509.ParseRevocationList(d.DER)
		require.NoError(t, err)
		require.NoError(t, list.CheckSignatureFrom(by), algorithm)
		require.Len(t, list.RevokedCertificateEntries, 1)
		ask, err := ocsp.CreateRequest(leaf, by, nil)
		require.NoError(t, err)
		d, err = p.OCSP(t.Context(), keyID(t, signer.Certificate), ask)
		require.NoError(t, err, algorithm)
		r, err := ocsp.ParseResponseForCert(d.DER, leaf, by)
		require.NoError(t, err, algorithm)
		require.Equal(t, ocsp.Revoked, r.Status)
	}
}

// What was asked for and never issued has no status.
func TestNotAfter(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	signer, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
	require.NoError(t, err)
	c, err := a.IssueDevice(t.Context(), alpha, order(t))
	require.NoError(t, err)
	s, id := issuersOf(t, a), keyID(t, signer.Certificate)
	end, err := s.NotAfter(t.Context(), id, c.Serial)
	require.NoError(t, err)
	require.Equal(t, c.NotAfter, end)
	_, err = s.NotAfter(t.Context(), keyID(t, b.chain[0]), c.Serial)
	require.ErrorIs(t, err, revocation.ErrUnknownCertificate, "another issuer's")
	_, err = s.NotAfter(t.Context(), id, newSerial(t))
	require.ErrorIs(t, err, revocation.ErrUnknownCertificate)
	_, err = b.db.Exec(t.Context(), `update ca_certificate set status = 'REQUESTED', certificate = null, issued_at = null where cert_ref = $1`, c.Ref)
	require.NoError(t, err)
	_, err = s.NotAfter(t.Context(), id, c.Serial)
	require.ErrorIs(t, err, revocation.ErrUnknownCertificate)
}

// queryCut fails Query as well.
type queryCut struct{ *brokenDB }

func (d queryCut) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := d.fail(sql); err != nil {
		return nil, err
	}
	return d.Pool.Query(ctx, sql, args...)
}
