package issuance_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/fault"
)

func oid(arc int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 29, arc} }

func TestParseRequestAccepts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		key  crypto.Signer
		want issuance.KeyAlgorithm
	}{
		"P-256": {ecKey(t, elliptic.P256()), issuance.P256}, "P-384": {ecKey(t, elliptic.P384()), issuance.P384},
		"RSA": {rsaKey(t, 2048), issuance.RSA}, "Ed25519": {edKey(t), issuance.Ed25519},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Subject, attributes and harmless requests are the device's business.
			der := csr(t, c.key, &x509.CertificateRequest{
				Subject:         pkix.Name{CommonName: "I am root", Country: []string{"XX"}},
				ExtraExtensions: []pkix.Extension{{Id: oid(14), Value: []byte{4, 1, 9}}},
			})
			r, err := issuance.ParseRequest(der)
			require.NoError(t, err)
			require.Equal(t, c.want, r.Algorithm())
			require.Equal(t, c.key.Public(), r.PublicKey())
		})
	}
}

func TestParseRequestRefuses(t *testing.T) {
	t.Parallel()
	p256 := ecKey(t, elliptic.P256())
	good := csr(t, p256, &x509.CertificateRequest{})
	flip := func(i int) []byte {
		c := append([]byte(nil), good...)
		c[(i+len(c))%len(c)] ^= 1
		return c
	}
	extension := func(e ...pkix.Extension) []byte {
		return csr(t, p256, &x509.CertificateRequest{ExtraExtensions: e})
	}
	for name, c := range map[string]struct {
		der  []byte
		want *fault.Error
	}{
		"empty":            {nil, issuance.ErrRequest},
		"not DER":          {[]byte("-----BEGIN CERTIFICATE REQUEST-----"), issuance.ErrRequest},
		"cut":              {good[:len(good)-1], issuance.ErrRequest},
		"trailing data":    {append(append([]byte(nil), good...), 0), issuance.ErrRequest},
		"too long":         {make([]byte, 16<<10+1), issuance.ErrRequest},
		"a certificate":    {ecTower(t).root, issuance.ErrRequest},
		"wrong signature":  {flip(-1), issuance.ErrRequestSignature},
		"P-224":            {csr(t, ecKey(t, elliptic.P224()), &x509.CertificateRequest{}), issuance.ErrKeyAlgorithm},
		"P-521":            {csr(t, ecKey(t, elliptic.P521()), &x509.CertificateRequest{}), issuance.ErrKeyAlgorithm},
		"RSA-1024":         {csr(t, rsaKey(t, 1024), &x509.CertificateRequest{}), issuance.ErrKeyAlgorithm},
		"SHA-1":            {sha1Request(t), issuance.ErrRequestSignature},
		"bad constraints":  {extension(pkix.Extension{Id: oid(19), Value: []byte{0x30, 1}}), issuance.ErrRequest},
		"bad usage":        {extension(pkix.Extension{Id: oid(15), Value: []byte{3, 0}}), issuance.ErrRequest},
		"long usage":       {extension(pkix.Extension{Id: oid(15), Value: []byte{3, 4, 0, 1, 1, 1}}), issuance.ErrRequest},
		"empty purposes":   {extension(pkix.Extension{Id: oid(37), Value: []byte{0x30, 0}}), issuance.ErrRequest},
		"bad purposes":     {extension(pkix.Extension{Id: oid(37), Value: []byte{0x30, 2, 5, 0}}), issuance.ErrRequest},
		"extension twice":  {twice(t, p256), issuance.ErrRequest},
		"constraints tail": {extension(pkix.Extension{Id: oid(19), Value: []byte{0x30, 0, 0}}), issuance.ErrRequest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := issuance.ParseRequest(c.der)
			require.ErrorIs(t, err, c.want)
			require.Equal(t, fault.Invalid, fault.KindOf(err))
			require.Nil(t, r)
		})
	}
}

// Every flipped bit of a request is noticed: either it does not parse or the
// proof of possession fails.
func TestEveryFlippedBitIsRefused(t *testing.T) {
	t.Parallel()
	good := csr(t, ecKey(t, elliptic.P256()), &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}})
	for i := range len(good) * 8 {
		c := append([]byte(nil), good...)
		c[i/8] ^= 1 << (i % 8)
		_, err := issuance.ParseRequest(c)
		require.Error(t, err, "bit %d", i)
		require.NotNil(t, fault.Of(err), "bit %d", i)
	}
}

// sha1Request is a request whose only fault is its hash. The library refuses to
// make one, so the algorithm identifier of a good one is exchanged: what we want
// to see is the refusal before any signature is computed.
func sha1Request(t *testing.T) []byte {
	t.Helper()
	der := csr(t, rsaKey(t, 2048), &x509.CertificateRequest{SignatureAlgorithm: x509.SHA256WithRSA})
	sha256RSA := []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b}
	at := lastIndex(der, sha256RSA)
	require.Positive(t, at)
	der[at+len(sha256RSA)-1] = 0x05
	parsed, err := x509.ParseCertificateRequest(der)
	require.NoError(t, err)
	require.Equal(t, x509.SHA1WithRSA, parsed.SignatureAlgorithm)
	return der
}

func lastIndex(b, sub []byte) int {
	for i := len(b) - len(sub); i >= 0; i-- {
		if string(b[i:i+len(sub)]) == string(sub) {
			return i
		}
	}
	return -1
}

// twice asks for keyUsage two times; the library would fold equal ids, so the
// attribute is built by hand.
func twice(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	usage := pkix.Extension{Id: oid(15), Value: []byte{3, 2, 7, 0x80}}
	return csr(t, key, &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{usage, usage}})
}

func TestCheckKeyRSA(t *testing.T) {
	t.Parallel()
	good := rsaKey(t, 2048).N
	prime := func(bits int) *big.Int {
		p, err := rand.Prime(rand.Reader, bits)
		require.NoError(t, err)
		return p
	}
	next := func(p *big.Int) *big.Int {
		n := new(big.Int).Add(p, big.NewInt(2))
		for !n.ProbablyPrime(20) {
			n.Add(n, big.NewInt(2))
		}
		return n
	}
	near := prime(1024)
	p := prime(1024)
	for name, c := range map[string]struct {
		n    *big.Int
		e    int
		want *fault.Error
	}{
		"good":              {good, 65537, nil},
		"large exponent":    {good, 65539, nil},
		"exponent 3":        {good, 3, issuance.ErrWeakKey},
		"even exponent":     {good, 65538, issuance.ErrWeakKey},
		"2040 bits":         {new(big.Int).Mul(prime(1020), prime(1020)), 65537, issuance.ErrKeyAlgorithm},
		"2049 bits":         {new(big.Int).SetBit(good, 2048, 1), 65537, issuance.ErrKeyAlgorithm},
		"16384 bits":        {new(big.Int).SetBit(good, 16383, 1), 65537, issuance.ErrKeyAlgorithm},
		"even":              {new(big.Int).SetBit(good, 0, 0), 65537, issuance.ErrWeakKey},
		"factor 751":        {multipleOf(751, 2048), 65537, issuance.ErrWeakKey},
		"close primes":      {new(big.Int).Mul(near, next(near)), 65537, issuance.ErrWeakKey},
		"square of a prime": {new(big.Int).Mul(p, p), 65537, issuance.ErrWeakKey},
		"ROCA":              {rocaModulus(t), 65537, issuance.ErrWeakKey},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := issuance.CheckKey(&rsa.PublicKey{N: c.n, E: c.e})
			if c.want == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, c.want)
		})
	}
	_, _, err := issuance.CheckKey("a string")
	require.ErrorIs(t, err, issuance.ErrKeyAlgorithm)
	_, _, err = issuance.CheckKey(nil)
	require.ErrorIs(t, err, issuance.ErrKeyAlgorithm)
}

func multipleOf(p int64, bits int) *big.Int {
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	n.Div(n, big.NewInt(p))
	n.Add(n, big.NewInt(2)).SetBit(n, 0, 1)
	return n.Mul(n, big.NewInt(p))
}

// rocaModulus makes a key just as the flawed generator did (Nemec et al., section
// 2.1): primes k*M + (65537^a mod M), M the product of the first 126 primes.
func rocaModulus(t *testing.T) *big.Int {
	t.Helper()
	m := big.NewInt(1)
	for n, count := int64(2), 0; count < 126; n++ {
		if p := big.NewInt(n); p.ProbablyPrime(0) {
			m.Mul(m, p)
			count++
		}
	}
	low := new(big.Int).Lsh(big.NewInt(1), 1023) // the top two bits set make a product of 2048
	low.Or(low, new(big.Int).Lsh(big.NewInt(1), 1022)).Div(low, m)
	prime := func() *big.Int {
		for {
			a, err := rand.Int(rand.Reader, m)
			require.NoError(t, err)
			k, err := rand.Int(rand.Reader, big.NewInt(1<<40))
			require.NoError(t, err)
			p := new(big.Int).Mul(k.Add(k, low).Add(k, big.NewInt(1)), m)
			p.Add(p, new(big.Int).Exp(big.NewInt(65537), a, m))
			if p.BitLen() == 1024 && p.ProbablyPrime(10) {
				return p
			}
		}
	}
	return new(big.Int).Mul(prime(), prime())
}

// No honest key may be refused: a false alarm here is a phone that can not
// enrol. The ROCA fingerprint and the square filter run on random moduli.
func TestHonestModuliPass(t *testing.T) {
	t.Parallel()
	deadline := time.Now().Add(2 * time.Second)
	for i := 0; i < 200 && time.Now().Before(deadline); i++ {
		n, err := rand.Prime(rand.Reader, 2048) // has no factor, like a modulus for our purpose
		require.NoError(t, err)
		_, _, err = issuance.CheckKey(&rsa.PublicKey{N: n, E: 65537})
		require.NoError(t, err)
	}
}

func FuzzParseRequest(f *testing.F) {
	key := ecKey(f, elliptic.P256())
	f.Add(csr(f, key, &x509.CertificateRequest{}))
	f.Add(csr(f, key, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "x"}, DNSNames: []string{"a.example"},
		ExtraExtensions: []pkix.Extension{
			{Id: oid(19), Critical: true, Value: []byte{0x30, 6, 1, 1, 0xff, 2, 1, 0}},
			{Id: oid(15), Critical: true, Value: []byte{3, 2, 7, 0x80}},
			{Id: oid(37), Value: []byte{0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2}},
		},
	}))
	f.Add(csr(f, edKey(f), &x509.CertificateRequest{}))
	f.Add(csr(f, rsaKey(f, 2048), &x509.CertificateRequest{}))
	w := ecTower(f)
	f.Fuzz(func(t *testing.T, der []byte) {
		r, err := issuance.ParseRequest(der)
		if err != nil {
			require.Nil(t, r)
			require.Equal(t, fault.Invalid, fault.KindOf(err))
			return
		}
		// What parses can be certified or is refused for a reason, never panics.
		d, err := issuance.Prepare(w.order(t, r))
		if err != nil {
			require.Equal(t, fault.Invalid, fault.KindOf(err))
			return
		}
		leaf, err := d.Sign(w.signerKey)
		require.NoError(t, err)
		require.NoError(t, issuance.VerifyChain(w.chain(leaf), now))
	})
}
