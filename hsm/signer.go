package hsm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"
	"io"
	"slices"
	"time"

	p11 "github.com/miekg/pkcs11"
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
	name, m, in := "ecdsa", ecdsaMechanism, digest
	switch pub := s.key.info.Public.(type) {
	case ed25519.PublicKey:
		if o, ok := opts.(*ed25519.Options); hash != 0 || ok && o.Context != "" {
			return nil, fmt.Errorf("hsm: %w: only pure Ed25519, without a context", ErrUnsupported)
		}
		name, m = "eddsa", eddsaMechanism
	case *ecdsa.PublicKey:
		if err := checkDigest(hash, digest); err != nil {
			return nil, err
		}
	case *rsa.PublicKey:
		if err := checkDigest(hash, digest); err != nil {
			return nil, err
		}
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			params, err := pssParams(pub, hash, pss.SaltLength)
			if err != nil {
				return nil, err
			}
			name, m = "rsa-pss", []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_PKCS_PSS, params)}
		} else {
			name, m = "rsa-pkcs1", pkcs1Mechanism
			in = slices.Concat(digestInfo[hash], digest)
		}
	}
	if !s.token.mechanisms[m[0].Mechanism] {
		return nil, fmt.Errorf("hsm: %w: the token has no mechanism 0x%x", ErrUnsupported, m[0].Mechanism)
	}
	var sig []byte
	err := s.token.do(ctx, call{mechanism: name, key: s.key, run: func(sh p11.SessionHandle, at located) (err error) {
		sig, err = s.token.sign(sh, m, at.private, in)
		return err
	}})
	if err != nil {
		return nil, err
	}
	if name == "ecdsa" {
		return derSignature(sig)
	}
	return sig, nil
}

// Mechanisms without parameters are shared: nothing writes to them.
var (
	ecdsaMechanism = []*p11.Mechanism{p11.NewMechanism(p11.CKM_ECDSA, nil)}
	eddsaMechanism = []*p11.Mechanism{p11.NewMechanism(ckmEDDSA, nil)}
	pkcs1Mechanism = []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_PKCS, nil)}
)

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

// derSignature turns r||s, each at most 66 bytes (P-521), into Ecdsa-Sig-Value.
func derSignature(raw []byte) ([]byte, error) {
	half := len(raw) / 2
	if half == 0 || half > 66 || len(raw)%2 != 0 {
		return nil, fmt.Errorf("hsm: %w: ECDSA signature of %d bytes", ErrRefused, len(raw))
	}
	r, s := bytes.TrimLeft(raw[:half], "\x00"), bytes.TrimLeft(raw[half:], "\x00")
	if len(r) == 0 || len(s) == 0 {
		return nil, fmt.Errorf("hsm: %w: ECDSA signature with a zero", ErrRefused)
	}
	size := 4 + len(r) + int(r[0]>>7) + len(s) + int(s[0]>>7)
	der := make([]byte, 0, 3+size)
	der = append(der, 0x30)
	if size > 127 {
		der = append(der, 0x81)
	}
	der = append(der, byte(size))
	for _, v := range [][]byte{r, s} {
		pad := v[0] >> 7 // a set top bit would be a sign
		der = append(der, 0x02, byte(len(v))+pad)
		if pad == 1 {
			der = append(der, 0)
		}
		der = append(der, v...)
	}
	return der, nil
}
