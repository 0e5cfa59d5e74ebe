package issuance_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/lint"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 890, time.UTC)

func ecKey(tb testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	tb.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	require.NoError(tb, err)
	return k
}

// rsaKey is made once per size: generation is the slow part of these tests.
var rsaKey = func() func(testing.TB, int) *rsa.PrivateKey {
	var mu sync.Mutex
	keys := map[int]*rsa.PrivateKey{}
	return func(tb testing.TB, bits int) *rsa.PrivateKey {
		tb.Helper()
		mu.Lock()
		defer mu.Unlock()
		if keys[bits] == nil {
			k, err := rsa.GenerateKey(rand.Reader, bits)
			require.NoError(tb, err)
			keys[bits] = k
		}
		return keys[bits]
	}
}()

func edKey(tb testing.TB) ed25519.PrivateKey {
	tb.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(tb, err)
	return k
}

// checks are the product's: all these tests have every certificate linted.
var checks = issuance.Checks{Linter: newLinter()}

func newLinter() *lint.Linter {
	l, err := lint.New(lint.Config{})
	if err != nil {
		panic(err)
	}
	return l
}

func compile(tb testing.TB, p issuance.Profile) *issuance.Template {
	tb.Helper()
	t, err := p.Compile(checks)
	require.NoError(tb, err)
	return t
}

func request(tb testing.TB, key crypto.Signer) *issuance.Request {
	tb.Helper()
	der, err := issuance.NewRequest(key)
	require.NoError(tb, err)
	r, err := issuance.ParseRequest(der)
	require.NoError(tb, err)
	return r
}

func serial(tb testing.TB) issuance.Serial {
	tb.Helper()
	s, err := issuance.NewSerial(rand.Reader)
	require.NoError(tb, err)
	return s
}

func csr(tb testing.TB, key crypto.Signer, t *x509.CertificateRequest) []byte {
	tb.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, t, key)
	require.NoError(tb, err)
	return der
}

// tower is root > issuer > signer, each with a software key.
type tower struct {
	root, issuer, signer          []byte
	rootCA, issuerCA, signerCA    *issuance.Authority
	rootKey, issuerKey, signerKey crypto.Signer
}

func newTower(tb testing.TB, rootKey, issuerKey, signerKey crypto.Signer) *tower {
	tb.Helper()
	w := &tower{rootKey: rootKey, issuerKey: issuerKey, signerKey: signerKey}
	one := func(p issuance.Profile, by *issuance.Authority, subject issuance.Subject, key, signer crypto.Signer) ([]byte, *issuance.Authority) {
		d, err := issuance.Prepare(issuance.Order{
			Issuer: by, Profile: compile(tb, p), Request: request(tb, key), Subject: subject, Serial: serial(tb), Now: now,
		})
		require.NoError(tb, err)
		der, err := d.Sign(signer)
		require.NoError(tb, err)
		a, err := issuance.NewAuthority(der)
		require.NoError(tb, err)
		return der, a
	}
	w.root, w.rootCA = one(issuance.Root(), nil, issuance.Subject{Country: "DE", CommonName: "Root"}, rootKey, rootKey)
	w.issuer, w.issuerCA = one(issuance.Issuer(), w.rootCA, issuance.Subject{CommonName: "Issuer"}, issuerKey, rootKey)
	w.signer, w.signerCA = one(issuance.Signer(), w.issuerCA,
		issuance.Subject{Organization: "alpha", CommonName: "signer-0", SerialNumber: "01F6MJ6J1AA8HWB7G6XRJB709E"}, signerKey, issuerKey)
	return w
}

func ecTower(tb testing.TB) *tower {
	tb.Helper()
	return newTower(tb, ecKey(tb, elliptic.P384()), ecKey(tb, elliptic.P256()), ecKey(tb, elliptic.P256()))
}

const clientID = "01J0000000000000000000000A"

func (w *tower) order(tb testing.TB, r *issuance.Request) issuance.Order {
	tb.Helper()
	return issuance.Order{
		Issuer: w.signerCA, Profile: compile(tb, issuance.ASTDevice()), Request: r,
		Subject: issuance.Subject{Organization: "alpha", CommonName: clientID}, Serial: serial(tb), Now: now,
	}
}

func (w *tower) chain(leaf []byte) [][]byte { return [][]byte{leaf, w.signer, w.issuer, w.root} }
