package lint_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/lint"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 890, time.UTC)

// newKey makes a key; an RSA one only once, and all towers have the same.
func newKey(tb testing.TB, kind string) crypto.Signer {
	tb.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "P-256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "P-384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "Ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "RSA-2048":
		key, err = rsa2048()
	case "RSA-3072":
		key, err = rsa3072()
	}
	require.NoError(tb, err)
	return key
}

var (
	rsa2048 = sync.OnceValues(func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) })
	rsa3072 = sync.OnceValues(func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 3072) })
)

func linter(tb testing.TB, every int) *lint.Linter {
	tb.Helper()
	l, err := lint.New(lint.Config{Every: every})
	require.NoError(tb, err)
	return l
}

func compile(tb testing.TB, p issuance.Profile, l issuance.Linter) *issuance.Template {
	tb.Helper()
	t, err := p.Compile(issuance.Checks{Linter: l})
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

func sign(tb testing.TB, o issuance.Order, key crypto.Signer) []byte {
	tb.Helper()
	if o.Serial == (issuance.Serial{}) {
		o.Serial = serial(tb)
	}
	if o.Now.IsZero() {
		o.Now = now
	}
	d, err := issuance.Prepare(o)
	require.NoError(tb, err)
	der, err := d.Sign(key)
	require.NoError(tb, err)
	return der
}

func authority(tb testing.TB, der []byte) *issuance.Authority {
	tb.Helper()
	a, err := issuance.NewAuthority(der)
	require.NoError(tb, err)
	return a
}

// tower is root > issuer > signer, all with one kind of key.
type tower struct {
	kind                          string
	rootKey, issuerKey, signerKey crypto.Signer
	rootDER, issuerDER, signerDER []byte
	root, issuer, signer          *issuance.Authority
}

func newTower(tb testing.TB, kind string, l issuance.Linter) *tower {
	tb.Helper()
	w := &tower{kind: kind, rootKey: newKey(tb, kind), issuerKey: newKey(tb, kind), signerKey: newKey(tb, kind)}
	w.rootDER = sign(tb, issuance.Order{Profile: compile(tb, issuance.Root(), l), Request: request(tb, w.rootKey), Subject: issuance.Subject{Country: "DE", CommonName: "Root"}}, w.rootKey)
	w.root = authority(tb, w.rootDER)
	w.issuerDER = sign(tb, issuance.Order{Issuer: w.root, Profile: compile(tb, issuance.Issuer(), l), Request: request(tb, w.issuerKey), Subject: issuance.Subject{CommonName: "Issuer"}}, w.rootKey)
	w.issuer = authority(tb, w.issuerDER)
	w.signerDER = sign(tb, issuance.Order{
		Issuer: w.issuer, Profile: compile(tb, issuance.Signer(), l), Request: request(tb, w.signerKey),
		Subject: issuance.Subject{Organization: "alpha", CommonName: "signer-0", SerialNumber: "01F6MJ6J1AA8HWB7G6XRJB709E"},
	}, w.issuerKey)
	w.signer = authority(tb, w.signerDER)
	return w
}

func (w *tower) device(tb testing.TB, l issuance.Linter) issuance.Order {
	tb.Helper()
	return issuance.Order{
		Issuer: w.signer, Profile: compile(tb, issuance.ASTDevice(), l), Request: request(tb, newKey(tb, "P-256")),
		Subject: issuance.Subject{Organization: "alpha", CommonName: "01J0000000000000000000000A"}, Serial: serial(tb), Now: now,
		Locations: issuance.Locations{
			CRL: []string{"http://pki.example.com/crl/00/0.crl"}, OCSP: []string{"http://pki.example.com/ocsp/00"}, Issuer: []string{"http://pki.example.com/ca/00.cer"},
		},
	}
}
