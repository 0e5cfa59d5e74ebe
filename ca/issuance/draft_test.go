package issuance_test

import (
	"crypto"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/fault"
)

func TestEveryKeyKindIssuesAndIsIssuedTo(t *testing.T) {
	t.Parallel()
	authorities := map[string]crypto.Signer{
		"P-256": ecKey(t, elliptic.P256()), "P-384": ecKey(t, elliptic.P384()), "RSA-3072": rsaKey(t, 3072), "Ed25519": edKey(t),
	}
	devices := map[string]crypto.Signer{
		"P-256": ecKey(t, elliptic.P256()), "P-384": ecKey(t, elliptic.P384()), "RSA-2048": rsaKey(t, 2048), "Ed25519": edKey(t),
	}
	for name, key := range authorities {
		w := newTower(t, key, key, key)
		for device, deviceKey := range devices {
			t.Run(name+" to "+device, func(t *testing.T) {
				t.Parallel()
				d, err := issuance.Prepare(w.order(t, request(t, deviceKey)))
				require.NoError(t, err)
				leaf, err := d.Sign(key)
				require.NoError(t, err)
				require.NoError(t, issuance.VerifyChain(w.chain(leaf), now))
				cert, err := x509.ParseCertificate(leaf)
				require.NoError(t, err)
				require.Equal(t, deviceKey.Public(), cert.PublicKey)
			})
		}
	}
}

func TestDeviceCertificateContent(t *testing.T) {
	t.Parallel()
	w := ecTower(t)
	key := ecKey(t, elliptic.P256())
	o := w.order(t, request(t, key))
	d, err := issuance.Prepare(o)
	require.NoError(t, err)
	leaf, err := d.Sign(w.signerKey)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(leaf)
	require.NoError(t, err)

	require.Equal(t, 3, cert.Version)
	require.Equal(t, d.TBS(), cert.RawTBSCertificate)
	require.Equal(t, o.Serial[:], cert.SerialNumber.Bytes())
	require.Equal(t, "CN="+clientID+",O=alpha", cert.Subject.String())
	require.Equal(t, w.signerCA.Certificate().RawSubject, cert.RawIssuer)
	require.True(t, cert.BasicConstraintsValid)
	require.False(t, cert.IsCA)
	require.Equal(t, x509.KeyUsageDigitalSignature, cert.KeyUsage)
	require.Equal(t, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, cert.ExtKeyUsage)
	require.Len(t, cert.Extensions, 5)
	for _, e := range cert.Extensions {
		critical := e.Id.String() == "2.5.29.19" || e.Id.String() == "2.5.29.15"
		require.Equal(t, critical, e.Critical, e.Id)
	}
	point, err := key.PublicKey.Bytes()
	require.NoError(t, err)
	sum := sha256.Sum256(point)
	require.Equal(t, sum[:20], cert.SubjectKeyId)
	require.Equal(t, w.signerCA.Certificate().SubjectKeyId, cert.AuthorityKeyId)
	spki := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	require.Equal(t, spki, d.SPKIHash())
	require.Equal(t, "AST_DEVICE", d.Profile().Name())
}

func TestAuthorityCertificateContent(t *testing.T) {
	t.Parallel()
	w := ecTower(t)
	root, issuer, signer := w.rootCA.Certificate(), w.issuerCA.Certificate(), w.signerCA.Certificate()
	require.Equal(t, root.RawIssuer, root.RawSubject)
	require.Empty(t, root.AuthorityKeyId)
	require.Equal(t, -1, root.MaxPathLen)
	require.Equal(t, 1, issuer.MaxPathLen)
	require.Zero(t, signer.MaxPathLen)
	require.True(t, signer.MaxPathLenZero)
	require.Equal(t, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, issuer.KeyUsage)
	require.Equal(t, x509.KeyUsageCertSign|x509.KeyUsageCRLSign|x509.KeyUsageDigitalSignature, signer.KeyUsage)
	require.Equal(t, x509.ECDSAWithSHA384, root.SignatureAlgorithm)
	require.Equal(t, x509.ECDSAWithSHA256, signer.SignatureAlgorithm)
}

// notAfter is inclusive: the 90 days + 1 s incident of a public CA.
func TestValidityIsExactToTheSecond(t *testing.T) {
	t.Parallel()
	w := ecTower(t)
	p := issuance.ASTDevice()
	p.Validity, p.Backdate = time.Hour, 90*time.Second
	o := w.order(t, request(t, ecKey(t, elliptic.P256())))
	o.Profile = compile(t, p)
	o.Now = now.Add(24 * time.Hour)
	d, err := issuance.Prepare(o)
	require.NoError(t, err)
	start := o.Now.Truncate(time.Second).Add(-90 * time.Second)
	require.Equal(t, start, d.NotBefore())
	require.Equal(t, start.Add(time.Hour-time.Second), d.NotAfter())
	leaf, err := d.Sign(w.signerKey)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(leaf)
	require.NoError(t, err)
	require.Equal(t, d.NotBefore(), cert.NotBefore)
	require.Equal(t, d.NotAfter(), cert.NotAfter)
}

func TestValidityStaysWithinTheIssuers(t *testing.T) {
	t.Parallel()
	w := ecTower(t)
	signer := w.signerCA.Certificate()
	r := request(t, ecKey(t, elliptic.P256()))

	first := w.order(t, r)
	first.Now = signer.NotBefore.Add(time.Second) // backdating would reach before the signer
	d, err := issuance.Prepare(first)
	require.NoError(t, err)
	require.Equal(t, signer.NotBefore, d.NotBefore())

	last := w.order(t, r)
	last.Now = signer.NotAfter
	d, err = issuance.Prepare(last)
	require.NoError(t, err)
	require.Equal(t, signer.NotAfter, d.NotAfter())

	for _, at := range []time.Time{signer.NotBefore.Add(-time.Second), signer.NotAfter.Add(time.Second)} {
		o := w.order(t, r)
		o.Now = at
		_, err = issuance.Prepare(o)
		require.ErrorIs(t, err, issuance.ErrIssuerExpired)
		require.Equal(t, fault.Conflict, fault.KindOf(err))
	}
}

func TestDatesAfter2049(t *testing.T) {
	t.Parallel()
	key := ecKey(t, elliptic.P256())
	p := issuance.Root()
	p.Validity = 30 * 365 * 24 * time.Hour
	d, err := issuance.Prepare(issuance.Order{
		Profile: compile(t, p), Request: request(t, key), Subject: issuance.Subject{CommonName: "Root"}, Serial: serial(t), Now: now,
	})
	require.NoError(t, err)
	der, err := d.Sign(key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	require.Equal(t, 2056, cert.NotAfter.Year())
	require.NoError(t, issuance.VerifyChain([][]byte{der}, time.Date(2055, 1, 1, 0, 0, 0, 0, time.UTC)))
}

func TestPrepareRefuses(t *testing.T) {
	t.Parallel()
	w := ecTower(t)
	good := request(t, ecKey(t, elliptic.P256()))
	other := newTower(t, edKey(t), edKey(t), edKey(t))
	ask := func(id asn1.ObjectIdentifier, critical bool, value []byte) *issuance.Request {
		c := csr(t, ecKey(t, elliptic.P256()), &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: id, Critical: critical, Value: value}}})
		r, err := issuance.ParseRequest(c)
		require.NoError(t, err)
		return r
	}
	eku := func(arc int) []byte {
		der, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, arc}})
		require.NoError(t, err)
		return der
	}
	san := csr(t, ecKey(t, elliptic.P256()), &x509.CertificateRequest{DNSNames: []string{"example.com"}})
	withSAN, err := issuance.ParseRequest(san)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		change func(*issuance.Order)
		want   *fault.Error
	}{
		"no profile":        {func(o *issuance.Order) { o.Profile = nil }, issuance.ErrProfile},
		"no request":        {func(o *issuance.Order) { o.Request = nil }, issuance.ErrProfile},
		"no issuer":         {func(o *issuance.Order) { o.Issuer = nil }, issuance.ErrProfile},
		"issuer for a root": {func(o *issuance.Order) { o.Profile = compile(t, issuance.Root()) }, issuance.ErrProfile},
		"signer under a signer": {func(o *issuance.Order) {
			o.Profile, o.Subject.SerialNumber = compile(t, issuance.Signer()), "1"
		}, issuance.ErrProfile},
		"issuer under an issuer": {func(o *issuance.Order) { o.Issuer, o.Profile = w.issuerCA, compile(t, issuance.Issuer()) }, issuance.ErrProfile},
		"zero serial":            {func(o *issuance.Order) { o.Serial = issuance.Serial{} }, issuance.ErrSerial},
		"negative serial":        {func(o *issuance.Order) { o.Serial[0] = 0x80 }, issuance.ErrSerial},
		"RSA below the profile": {func(o *issuance.Order) {
			o.Issuer, o.Profile, o.Request = w.issuerCA, compile(t, issuance.Signer()), request(t, rsaKey(t, 2048))
		}, issuance.ErrKeyAlgorithm},
		"key kind of the profile": {func(o *issuance.Order) {
			p := issuance.ASTDevice()
			p.Keys = []issuance.KeyAlgorithm{issuance.P384}
			o.Profile = compile(t, p)
		}, issuance.ErrKeyAlgorithm},
		"CA:TRUE":                {func(o *issuance.Order) { o.Request = ask(oid(19), true, []byte{0x30, 3, 1, 1, 0xff}) }, issuance.ErrExtension},
		"keyCertSign":            {func(o *issuance.Order) { o.Request = ask(oid(15), true, []byte{3, 2, 2, 0x84}) }, issuance.ErrExtension},
		"decipherOnly":           {func(o *issuance.Order) { o.Request = ask(oid(15), true, []byte{3, 3, 7, 0x80, 0x80}) }, issuance.ErrExtension},
		"serverAuth":             {func(o *issuance.Order) { o.Request = ask(oid(37), false, eku(1)) }, issuance.ErrExtension},
		"SAN":                    {func(o *issuance.Order) { o.Request = withSAN }, issuance.ErrExtension},
		"name constraints":       {func(o *issuance.Order) { o.Request = ask(oid(30), true, []byte{0x30, 0}) }, issuance.ErrExtension},
		"critical unknown":       {func(o *issuance.Order) { o.Request = ask(asn1.ObjectIdentifier{1, 2, 3}, true, []byte{5, 0}) }, issuance.ErrExtension},
		"unknown":                {func(o *issuance.Order) { o.Request = ask(asn1.ObjectIdentifier{1, 2, 3}, false, []byte{5, 0}) }, issuance.ErrExtension},
		"no common name":         {func(o *issuance.Order) { o.Subject.CommonName = "" }, issuance.ErrSubject},
		"a country":              {func(o *issuance.Order) { o.Subject.Country = "DE" }, issuance.ErrSubject},
		"long common name":       {func(o *issuance.Order) { o.Subject.CommonName = string(make([]byte, 65)) }, issuance.ErrSubject},
		"control characters":     {func(o *issuance.Order) { o.Subject.CommonName = "a\nb" }, issuance.ErrSubject},
		"bidi override":          {func(o *issuance.Order) { o.Subject.CommonName = "a\u202eb" }, issuance.ErrSubject},
		"not UTF-8":              {func(o *issuance.Order) { o.Subject.CommonName = "a\xff" }, issuance.ErrSubject},
		"blank around the value": {func(o *issuance.Order) { o.Subject.CommonName = " a" }, issuance.ErrSubject},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := w.order(t, good)
			c.change(&o)
			d, err := issuance.Prepare(o)
			require.ErrorIs(t, err, c.want)
			require.Nil(t, d)
		})
	}
	// What a profile gives may be asked for; other.order shows that the table's
	// base case is good.
	for _, r := range []*issuance.Request{
		good, ask(oid(19), true, []byte{0x30, 0}), ask(oid(15), true, []byte{3, 2, 7, 0x80}), ask(oid(37), false, eku(2)), ask(oid(14), false, []byte{4, 1, 1}),
	} {
		_, err := issuance.Prepare(other.order(t, r))
		require.NoError(t, err)
	}
}

func TestADraftSignsOnce(t *testing.T) {
	t.Parallel()
	w := ecTower(t)
	d, err := issuance.Prepare(w.order(t, request(t, ecKey(t, elliptic.P256()))))
	require.NoError(t, err)
	results := make(chan error, 16)
	for range cap(results) {
		go func() {
			_, err := d.Sign(w.signerKey)
			results <- err
		}()
	}
	good := 0
	for range cap(results) {
		if err := <-results; err == nil {
			good++
		} else {
			require.ErrorIs(t, err, issuance.ErrDraftUsed)
		}
	}
	require.Equal(t, 1, good)
}

func TestTBSIsACopy(t *testing.T) {
	t.Parallel()
	w := ecTower(t)
	d, err := issuance.Prepare(w.order(t, request(t, ecKey(t, elliptic.P256()))))
	require.NoError(t, err)
	clear(d.TBS())
	leaf, err := d.Sign(w.signerKey)
	require.NoError(t, err)
	require.NoError(t, issuance.VerifyChain(w.chain(leaf), now))
}

// badSigner is an HSM gone wrong.
type badSigner struct {
	crypto.Signer
	sign func(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error)
}

func (b badSigner) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return b.sign(rand, digest, opts)
}

func TestAWrongSignatureNeverLeaves(t *testing.T) {
	t.Parallel()
	w := ecTower(t)
	outage := errors.New("lane lost")
	for name, c := range map[string]struct {
		key  crypto.Signer
		want error
	}{
		"another key": {ecKey(t, elliptic.P256()), issuance.ErrSigning},
		"another key behind the right public one": {badSigner{w.signerKey, func(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
			return ecKey(t, elliptic.P256()).Sign(r, digest, o)
		}}, issuance.ErrSigning},
		"another message": {badSigner{w.signerKey, func(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
			sum := sha256.Sum256(digest)
			return w.signerKey.Sign(r, sum[:], o)
		}}, issuance.ErrSigning},
		"an empty signature": {badSigner{w.signerKey, func(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, nil }}, issuance.ErrSigning},
		"an outage":          {badSigner{w.signerKey, func(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, outage }}, outage},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := issuance.Prepare(w.order(t, request(t, ecKey(t, elliptic.P256()))))
			require.NoError(t, err)
			leaf, err := d.Sign(c.key)
			require.ErrorIs(t, err, c.want)
			require.Nil(t, leaf)
			_, err = d.Sign(w.signerKey)
			require.ErrorIs(t, err, issuance.ErrDraftUsed)
		})
	}
}

func TestNewAuthorityRefuses(t *testing.T) {
	t.Parallel()
	w := ecTower(t)
	d, err := issuance.Prepare(w.order(t, request(t, ecKey(t, elliptic.P256()))))
	require.NoError(t, err)
	leaf, err := d.Sign(w.signerKey)
	require.NoError(t, err)
	for name, der := range map[string][]byte{
		"leaf": leaf, "empty": nil, "trailing": append(append([]byte(nil), w.signer...), 0), "cut": w.signer[:len(w.signer)-1],
	} {
		_, err := issuance.NewAuthority(der)
		require.ErrorIs(t, err, issuance.ErrIssuer, name)
	}
	require.True(t, w.signerCA.Owns(w.signerKey.Public()))
	require.False(t, w.signerCA.Owns(w.issuerKey.Public()))
	require.False(t, w.signerCA.Owns(nil))
}

func TestVerifyChainRefuses(t *testing.T) {
	t.Parallel()
	w, foreign := ecTower(t), ecTower(t)
	d, err := issuance.Prepare(w.order(t, request(t, ecKey(t, elliptic.P256()))))
	require.NoError(t, err)
	leaf, err := d.Sign(w.signerKey)
	require.NoError(t, err)
	require.NoError(t, issuance.VerifyChain(w.chain(leaf), now))
	flipped := append([]byte(nil), leaf...)
	flipped[len(flipped)-1] ^= 1
	for name, chain := range map[string][][]byte{
		"nothing":        {},
		"no root":        {leaf, w.signer, w.issuer},
		"gap":            {leaf, w.issuer, w.root},
		"wrong order":    {leaf, w.issuer, w.signer, w.root},
		"foreign root":   {leaf, w.signer, w.issuer, foreign.root},
		"foreign signer": {leaf, foreign.signer, w.issuer, w.root},
		"flipped bit":    w.chain(flipped),
		"leaf as signer": {leaf, leaf, w.signer, w.issuer, w.root},
		"too many":       {leaf, w.signer, w.issuer, w.root, w.root, w.root, w.root, w.root, w.root},
	} {
		require.ErrorIs(t, issuance.VerifyChain(chain, now), issuance.ErrChain, name)
		require.ErrorIs(t, issuance.VerifyPath(chain, now), issuance.ErrChain, name)
	}
	require.ErrorIs(t, issuance.VerifyChain(w.chain(leaf), now.Add(-time.Hour)), issuance.ErrChain)
	require.ErrorIs(t, issuance.VerifyChain(w.chain(leaf), now.Add(50*365*24*time.Hour)), issuance.ErrChain)
}

// A second certificate of the issuer's key may end before the signers below it.
func TestVerifyPathOverAShortCertificate(t *testing.T) {
	t.Parallel()
	w := ecTower(t)
	profile := issuance.Issuer()
	profile.Validity = 48 * time.Hour
	d, err := issuance.Prepare(issuance.Order{
		Issuer: w.rootCA, Profile: compile(t, profile), Request: request(t, w.issuerKey),
		Subject: issuance.Subject{CommonName: "Issuer"}, Serial: serial(t), Now: now,
	})
	require.NoError(t, err)
	short, err := d.Sign(w.rootKey)
	require.NoError(t, err)
	chain := [][]byte{w.signer, short, w.root}
	require.NoError(t, issuance.VerifyPath(chain, now))
	require.ErrorIs(t, issuance.VerifyPath(chain, now.Add(49*time.Hour)), issuance.ErrChain)
	require.ErrorIs(t, issuance.VerifyChain(chain, now), issuance.ErrChain)
}

func TestNewSerial(t *testing.T) {
	t.Parallel()
	seen := map[issuance.Serial]bool{}
	for range 10_000 {
		s := serial(t)
		require.NotZero(t, s[0])
		require.Less(t, s[0], byte(0x80))
		require.False(t, seen[s])
		seen[s] = true
		back, err := issuance.ParseSerial(s[:])
		require.NoError(t, err)
		require.Equal(t, s, back)
	}
	_, err := issuance.NewSerial(zeros{})
	require.ErrorIs(t, err, issuance.ErrSerial)
	_, err = issuance.NewSerial(io.LimitReader(zeros{}, 5))
	require.ErrorIs(t, err, issuance.ErrSerial)
	for _, bad := range [][]byte{nil, make([]byte, 15), make([]byte, 16), append([]byte{0x80}, make([]byte, 15)...), make([]byte, 17)} {
		_, err := issuance.ParseSerial(bad)
		require.ErrorIs(t, err, issuance.ErrSerial)
	}
	require.Equal(t, "0100000000000000000000000000000f", issuance.Serial{0: 1, 15: 15}.String())
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
