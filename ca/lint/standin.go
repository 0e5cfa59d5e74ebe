package lint

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	_ "embed"
	"encoding/pem"
	"fmt"
	"sync"

	"github.com/signet-hsm/signet/ca/issuance"
)

// standIns are the throw-away keys that sign drafts for the linter's eyes. They
// are made when first needed, one of a kind in a process, and never leave it.
var standIns = map[x509.SignatureAlgorithm]func() (crypto.Signer, error){
	x509.ECDSAWithSHA256: sync.OnceValues(func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }),
	x509.ECDSAWithSHA384: sync.OnceValues(func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) }),
	x509.PureEd25519:     sync.OnceValues(newEd25519),
	x509.SHA256WithRSA:   sync.OnceValues(func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 3072) }),
}

func newEd25519() (crypto.Signer, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return key, err
}

func standIn(a x509.SignatureAlgorithm) (crypto.Signer, error) {
	key, ok := standIns[a]
	if !ok {
		return nil, fmt.Errorf("no stand-in key for %s", a)
	}
	return key()
}

// issuerKeys are those of sample issuers: others than the stand-ins, which may
// never be the key that is stood in for.
var issuerKeys = map[x509.SignatureAlgorithm]func() (crypto.Signer, error){
	x509.ECDSAWithSHA256: sync.OnceValues(func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }),
	x509.ECDSAWithSHA384: sync.OnceValues(func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) }),
	x509.PureEd25519:     sync.OnceValues(newEd25519),
}

// The subjects of sample certificates. Making RSA keys would cost a second of
// every start, so two requests are at hand whose keys nobody has any more.
var (
	//go:embed rsa2048.csr
	rsa2048 []byte
	//go:embed rsa3072.csr
	rsa3072 []byte
)

// sample is the request of a stand-in subject, by kind of key; RSA by size.
type sampleKey struct {
	algorithm issuance.KeyAlgorithm
	bits      int
}

var samples = map[sampleKey]func() (*issuance.Request, error){
	{issuance.P256, 256}: sync.OnceValues(func() (*issuance.Request, error) {
		return requestOf(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	}),
	{issuance.P384, 384}: sync.OnceValues(func() (*issuance.Request, error) {
		return requestOf(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	}),
	{issuance.Ed25519, 256}: sync.OnceValues(func() (*issuance.Request, error) { return requestOf(newEd25519()) }),
	{issuance.RSA, 2048}:    sync.OnceValues(func() (*issuance.Request, error) { return parsePEM(rsa2048) }),
	{issuance.RSA, 3072}:    sync.OnceValues(func() (*issuance.Request, error) { return parsePEM(rsa3072) }),
}

func requestOf[K crypto.Signer](key K, err error) (*issuance.Request, error) {
	if err != nil {
		return nil, err
	}
	der, err := issuance.NewRequest(key)
	if err != nil {
		return nil, err
	}
	return issuance.ParseRequest(der)
}

func parsePEM(text []byte) (*issuance.Request, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("embedded request: no PEM")
	}
	return issuance.ParseRequest(block.Bytes)
}

// sample returns a request with a key of the kind that a profile allows.
func sample(a issuance.KeyAlgorithm, minRSA int) (*issuance.Request, error) {
	switch {
	case a == issuance.RSA && minRSA > 3072:
		return requestOf(rsa.GenerateKey(rand.Reader, (minRSA+7)/8*8))
	case a == issuance.RSA && minRSA > 2048:
		return samples[sampleKey{a, 3072}]()
	case a == issuance.RSA:
		return samples[sampleKey{a, 2048}]()
	case a == issuance.P384:
		return samples[sampleKey{a, 384}]()
	}
	return samples[sampleKey{a, 256}]()
}
