package issuance

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// KeyAlgorithm is a kind of subject key.
type KeyAlgorithm string

// The kinds that profiles may name. P-224 is too small and P-521 is refused by
// half of the world's verifiers.
const (
	P256    KeyAlgorithm = "P-256"
	P384    KeyAlgorithm = "P-384"
	RSA     KeyAlgorithm = "RSA"
	Ed25519 KeyAlgorithm = "Ed25519"
)

var keyAlgorithms = map[KeyAlgorithm]struct{}{P256: {}, P384: {}, RSA: {}, Ed25519: {}}

// CheckKey tells the kind and size of a public key and refuses what we never
// certify, whoever made it: an HSM's own keys go through it as well.
func CheckKey(key crypto.PublicKey) (KeyAlgorithm, int, error) {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if _, err := k.Bytes(); err != nil { // on the curve, and not its zero
			return "", 0, fmt.Errorf("%w: %w", ErrKeyAlgorithm, err)
		}
		switch k.Curve {
		case elliptic.P256():
			return P256, 256, nil
		case elliptic.P384():
			return P384, 384, nil
		}
		return "", 0, fmt.Errorf("%w: curve", ErrKeyAlgorithm)
	case ed25519.PublicKey:
		return Ed25519, 256, checkEd25519(k)
	case *rsa.PublicKey:
		return RSA, k.N.BitLen(), checkRSA(k)
	}
	return "", 0, fmt.Errorf("%w: %T", ErrKeyAlgorithm, key)
}

// keyID is RFC 7093 section 2 method 1: the first 160 bits of SHA-256 over the
// content of the subjectPublicKey bit string.
func keyID(spki []byte) ([20]byte, error) {
	s := cryptobyte.String(spki)
	var seq, alg cryptobyte.String
	var key []byte
	if !s.ReadASN1(&seq, casn1.SEQUENCE) || !s.Empty() ||
		!seq.ReadASN1(&alg, casn1.SEQUENCE) || !seq.ReadASN1BitStringAsBytes(&key) || !seq.Empty() {
		return [20]byte{}, errors.New("malformed public key info")
	}
	sum := sha256.Sum256(key)
	return [20]byte(sum[:20]), nil
}
