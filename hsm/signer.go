package hsm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"
	"io"
	"math/big"
	"time"

	p11 "github.com/miekg/pkcs11"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// signWait bounds Sign, which has no context of its own.
const signWait = 30 * time.Second

// Signer is a private key in the token as a crypto.Signer.
type Signer struct {
	token *Token
	key   *entry
}

var _ crypto.Signer = (*Signer)(nil)

// Signer returns a handle for signing with a key of a signing role. It stays
// valid until the token closes, through healed sessions and logins.
func (t *Token) Signer(ctx context.Context, ref Ref) (*Signer, error) {
	e, err := t.entry(ctx, ref)
	if err != nil {
		return nil, err
	}
	if e.info.Public == nil || !roles[ref.Role].sign {
		return nil, wrongRole(ref, "signatures")
	}
	return &Signer{t, e}, nil
}

// Public returns the public half as read from the token.
func (s *Signer) Public() crypto.PublicKey { return s.key.info.Public }

// Info describes the key.
func (s *Signer) Info() KeyInfo { return s.key.info }

// Sign implements crypto.Signer; it waits at most 30 s for a lane. The reader is
// not used: the module has its own generator.
func (s *Signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), signWait)
	defer cancel()
	return s.SignContext(ctx, digest, opts)
}

// SignContext signs a SHA-256, SHA-384 or SHA-512 digest: ECDSA gives ASN.1 DER,
// RSA PKCS #1 v1.5 or, with *rsa.PSSOptions, PSS. Ed25519 takes the message
// itself and crypto.Hash(0). Other hashes are refused with ErrUnsupported.
func (s *Signer) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts == nil {
		return nil, fmt.Errorf("hsm: %w: signer options are needed", ErrUnsupported)
	}
	hash := opts.HashFunc()
	var (
		mech = "ecdsa"
		m    *p11.Mechanism
		in   = digest
	)
	switch pub := s.key.info.Public.(type) {
	case ed25519.PublicKey:
		if o, ok := opts.(*ed25519.Options); hash != 0 || ok && o.Context != "" {
			return nil, fmt.Errorf("hsm: %w: only pure Ed25519, without a context", ErrUnsupported)
		}
		mech, m = "eddsa", p11.NewMechanism(ckmEDDSA, nil)
	case *ecdsa.PublicKey:
		if err := checkDigest(hash, digest); err != nil {
			return nil, err
		}
		m = p11.NewMechanism(p11.CKM_ECDSA, nil)
	case *rsa.PublicKey:
		if err := checkDigest(hash, digest); err != nil {
			return nil, err
		}
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			params, err := pssParams(pub, hash, pss.SaltLength)
			if err != nil {
				return nil, err
			}
			mech, m = "rsa-pss", p11.NewMechanism(p11.CKM_RSA_PKCS_PSS, params)
		} else {
			mech, m = "rsa-pkcs1", p11.NewMechanism(p11.CKM_RSA_PKCS, nil)
			in = append(append([]byte(nil), digestInfo[hash]...), digest...)
		}
	}
	if !s.token.mechanisms[m.Mechanism] {
		return nil, fmt.Errorf("hsm: %w: the token has no mechanism 0x%x", ErrUnsupported, m.Mechanism)
	}
	var sig []byte
	ms := []*p11.Mechanism{m}
	err := s.token.do(ctx, call{mechanism: mech, key: s.key, run: func(sh p11.SessionHandle, at located) (err error) {
		sig, err = s.token.sign(sh, ms, at.private, in)
		return err
	}})
	if err != nil {
		return nil, err
	}
	if mech == "ecdsa" {
		return derSignature(sig)
	}
	return sig, nil
}

func (t *Token) sign(s p11.SessionHandle, m []*p11.Mechanism, key p11.ObjectHandle, in []byte) ([]byte, error) {
	if err := t.mod.ctx.SignInit(s, m, key); err != nil {
		return nil, err
	}
	return t.mod.ctx.Sign(s, in)
}

// checkDigest keeps SHA-1 and MD5, and digests of another hash, out.
func checkDigest(h crypto.Hash, digest []byte) error {
	if _, ok := digestInfo[h]; !ok {
		return fmt.Errorf("hsm: %w: hash %v", ErrUnsupported, h)
	}
	if len(digest) != h.Size() {
		return fmt.Errorf("hsm: %w: %v digest of %d bytes", ErrUnsupported, h, len(digest))
	}
	return nil
}

// digestInfo is RFC 8017 section 9.2, note 1.
var digestInfo = map[crypto.Hash][]byte{
	crypto.SHA256: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	crypto.SHA384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	crypto.SHA512: {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
}

// pssParams reads the salt length as crypto/rsa does.
func pssParams(pub *rsa.PublicKey, h crypto.Hash, salt int) ([]byte, error) {
	longest := (pub.N.BitLen()-1+7)/8 - 2 - h.Size()
	switch salt {
	case rsa.PSSSaltLengthAuto:
		salt = longest
	case rsa.PSSSaltLengthEqualsHash:
		salt = h.Size()
	}
	if salt < 0 || salt > longest {
		return nil, fmt.Errorf("hsm: %w: PSS salt of %d bytes", ErrUnsupported, salt)
	}
	switch h {
	case crypto.SHA384:
		return p11.NewPSSParams(p11.CKM_SHA384, p11.CKG_MGF1_SHA384, uint(salt)), nil
	case crypto.SHA512:
		return p11.NewPSSParams(p11.CKM_SHA512, p11.CKG_MGF1_SHA512, uint(salt)), nil
	}
	return p11.NewPSSParams(p11.CKM_SHA256, p11.CKG_MGF1_SHA256, uint(salt)), nil
}

// derSignature turns r||s into Ecdsa-Sig-Value.
func derSignature(raw []byte) ([]byte, error) {
	if len(raw) == 0 || len(raw)%2 != 0 {
		return nil, fmt.Errorf("hsm: %w: ECDSA signature of %d bytes", ErrRefused, len(raw))
	}
	var r, s big.Int
	r.SetBytes(raw[:len(raw)/2])
	s.SetBytes(raw[len(raw)/2:])
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(&r)
		b.AddASN1BigInt(&s)
	})
	return b.Bytes()
}
