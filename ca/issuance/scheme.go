package issuance

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Scheme is how a key signs, certificates, CRLs and OCSP responses alike. There
// is one for each key, so that nobody chooses.
type Scheme struct {
	key        crypto.PublicKey
	algorithm  x509.SignatureAlgorithm
	hash       crypto.Hash // 0: the message itself (Ed25519)
	identifier []byte      // AlgorithmIdentifier in DER
}

// The identifiers of RFC 5758, RFC 8410 and RFC 4055; only RSA carries a NULL.
var (
	ecdsaSHA256 = []byte{0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02}
	ecdsaSHA384 = []byte{0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03}
	pureEd25519 = []byte{0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70}
	rsaSHA256   = []byte{0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00}
)

// SchemeOf judges a key (CheckKey) and tells how it signs: ECDSA with the hash
// of the key's size, Ed25519 pure, RSA with PKCS #1 v1.5 and SHA-256.
func SchemeOf(key crypto.PublicKey) (Scheme, error) {
	algorithm, _, err := CheckKey(key)
	if err != nil {
		return Scheme{}, err
	}
	switch algorithm {
	case P256:
		return Scheme{key, x509.ECDSAWithSHA256, crypto.SHA256, ecdsaSHA256}, nil
	case P384:
		return Scheme{key, x509.ECDSAWithSHA384, crypto.SHA384, ecdsaSHA384}, nil
	case Ed25519:
		return Scheme{key, x509.PureEd25519, 0, pureEd25519}, nil
	default:
		return Scheme{key, x509.SHA256WithRSA, crypto.SHA256, rsaSHA256}, nil
	}
}

// Algorithm names the scheme for templates of the standard library.
func (s Scheme) Algorithm() x509.SignatureAlgorithm { return s.algorithm }

// Identifier returns the AlgorithmIdentifier in DER.
func (s Scheme) Identifier() []byte { return bytes.Clone(s.identifier) }

// Sign has key, which must be the scheme's, sign a to-be-signed part, verifies
// the new signature with the public key, and returns the whole SIGNED structure:
// part, AlgorithmIdentifier, signature. ErrSigning; the signer's own error stays
// in the chain.
func (s Scheme) Sign(key crypto.Signer, tbs []byte) ([]byte, error) { return s.sign(key, tbs, true) }

func (s Scheme) sign(key crypto.Signer, tbs []byte, verify bool) ([]byte, error) {
	if !sameKey(s.key, key.Public()) {
		return nil, fmt.Errorf("%w: the key is not the issuer's", ErrSigning)
	}
	digest := s.digest(tbs)
	signature, err := key.Sign(nil, digest, s.hash) // nil: see NewRequest
	if err != nil {
		// The signer's error goes as it is: an outage must stay recognisable as one.
		return nil, err
	}
	if verify && !s.verify(digest, signature) {
		return nil, fmt.Errorf("%w: the new signature does not verify", ErrSigning)
	}
	if len(signature) > maxSignature || len(tbs) > maxSigned {
		return nil, fmt.Errorf("%w: %d bytes with a signature of %d", ErrSigning, len(tbs), len(signature))
	}
	return assemble(tbs, s.identifier, signature), nil
}

// digest returns what the key has to sign.
func (s Scheme) digest(tbs []byte) []byte {
	if s.hash == 0 {
		return tbs
	}
	h := s.hash.New()
	h.Write(tbs)
	return h.Sum(nil)
}

func (s Scheme) verify(digest, signature []byte) bool {
	switch k := s.key.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, digest, signature)
	case ed25519.PublicKey:
		return ed25519.Verify(k, digest, signature)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, s.hash, digest, signature) == nil
	}
	return false
}

func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// formed reports whether a signature has the form that the scheme's have.
func (s Scheme) formed(signature []byte) bool {
	switch k := s.key.(type) {
	case *ecdsa.PublicKey:
		in := cryptobyte.String(signature)
		var pair, r, t cryptobyte.String
		return in.ReadASN1(&pair, casn1.SEQUENCE) && in.Empty() &&
			pair.ReadASN1(&r, casn1.INTEGER) && pair.ReadASN1(&t, casn1.INTEGER) && pair.Empty() && positive(r) && positive(t)
	case ed25519.PublicKey:
		return len(signature) == ed25519.SignatureSize
	case *rsa.PublicKey:
		return len(signature) == k.Size()
	}
	return false
}

// positive reports whether b is the content of a DER INTEGER above zero.
func positive(b []byte) bool {
	switch {
	case len(b) == 0 || b[0] >= 0x80:
		return false
	case b[0] == 0:
		return len(b) > 1 && b[1] >= 0x80
	}
	return true
}
