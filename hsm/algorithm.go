package hsm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"fmt"
	"math/big"

	p11 "github.com/miekg/pkcs11"
)

// PKCS#11 3.0 names that miekg/pkcs11 (2.40) does not have.
const (
	ckkECEdwards           = 0x40
	ckmECEdwardsKeyPairGen = 0x1055
	ckmEDDSA               = 0x1057
)

// algorithm is how a kind of key is made and used.
type algorithm struct {
	keyType  uint
	generate uint
	use      []uint // the first one must be there
	curve    []byte // DER of CKA_EC_PARAMS
	bits     int    // RSA
	secret   int    // length of a secret key in bytes
}

var algorithms = map[Algorithm]algorithm{
	P256: {
		keyType: p11.CKK_EC, generate: p11.CKM_EC_KEY_PAIR_GEN, use: []uint{p11.CKM_ECDSA},
		curve: []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07},
	},
	P384: {
		keyType: p11.CKK_EC, generate: p11.CKM_EC_KEY_PAIR_GEN, use: []uint{p11.CKM_ECDSA},
		curve: []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22},
	},
	RSA2048: {
		keyType: p11.CKK_RSA, generate: p11.CKM_RSA_PKCS_KEY_PAIR_GEN,
		use: []uint{p11.CKM_RSA_PKCS, p11.CKM_RSA_PKCS_PSS}, bits: 2048,
	},
	RSA3072: {
		keyType: p11.CKK_RSA, generate: p11.CKM_RSA_PKCS_KEY_PAIR_GEN,
		use: []uint{p11.CKM_RSA_PKCS, p11.CKM_RSA_PKCS_PSS}, bits: 3072,
	},
	Ed25519: {
		keyType: ckkECEdwards, generate: ckmECEdwardsKeyPairGen, use: []uint{ckmEDDSA},
		curve: []byte{0x06, 0x03, 0x2b, 0x65, 0x70},
	},
	AES256:     {keyType: p11.CKK_AES, generate: p11.CKM_AES_KEY_GEN, use: []uint{p11.CKM_AES_GCM}, secret: 32},
	HMACSHA256: {keyType: p11.CKK_GENERIC_SECRET, generate: p11.CKM_GENERIC_SECRET_KEY_GEN, use: []uint{p11.CKM_SHA256_HMAC}, secret: 32},
}

// public reads a public key from the token. An error that is not a return value
// of the module means that the key is of a kind we do not use.
func (in *instance) public(s p11.SessionHandle, h p11.ObjectHandle, kind uint) (crypto.PublicKey, Algorithm, error) {
	switch kind {
	case p11.CKK_RSA:
		v, err := in.attributes(s, h, p11.CKA_MODULUS, p11.CKA_PUBLIC_EXPONENT)
		if err != nil {
			return nil, "", err
		}
		n, e := new(big.Int).SetBytes(v[0]), new(big.Int).SetBytes(v[1])
		if !e.IsInt64() || e.Int64() != 65537 {
			return nil, "", fmt.Errorf("%w: RSA exponent %v", ErrTemplate, e)
		}
		pub := &rsa.PublicKey{N: n, E: 65537}
		switch n.BitLen() {
		case 2048:
			return pub, RSA2048, nil
		case 3072:
			return pub, RSA3072, nil
		}
		return nil, "", fmt.Errorf("%w: RSA modulus of %d bits", ErrTemplate, n.BitLen())
	case p11.CKK_EC, ckkECEdwards:
		v, err := in.attributes(s, h, p11.CKA_EC_PARAMS, p11.CKA_EC_POINT)
		if err != nil {
			return nil, "", err
		}
		return parsePoint(v[0], v[1])
	}
	return nil, "", fmt.Errorf("%w: key type 0x%x", ErrTemplate, kind)
}

// parsePoint reads CKA_EC_PARAMS and CKA_EC_POINT. The point is a DER OCTET
// STRING by the standard and bare bytes on some modules.
func parsePoint(params, point []byte) (crypto.PublicKey, Algorithm, error) {
	var name Algorithm
	for _, a := range []Algorithm{P256, P384, Ed25519} {
		if bytes.Equal(params, algorithms[a].curve) {
			name = a
		}
	}
	raw := point
	var inner []byte
	if rest, err := asn1.Unmarshal(point, &inner); err == nil && len(rest) == 0 {
		raw = inner
	}
	switch name {
	case Ed25519:
		if len(raw) != ed25519.PublicKeySize {
			return nil, "", fmt.Errorf("%w: Ed25519 point of %d bytes", ErrTemplate, len(raw))
		}
		return ed25519.PublicKey(raw), name, nil
	case P256, P384:
		curve := elliptic.P256()
		if name == P384 {
			curve = elliptic.P384()
		}
		pub, err := ecdsa.ParseUncompressedPublicKey(curve, raw)
		if err != nil {
			return nil, "", fmt.Errorf("%w: %s point: %w", ErrTemplate, name, err)
		}
		return pub, name, nil
	}
	return nil, "", fmt.Errorf("%w: curve %x", ErrTemplate, params)
}
