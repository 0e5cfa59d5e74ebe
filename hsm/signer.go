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
	"log/slog"
	"time"

	"github.com/signet-hsm/signet/fault"
)

// signWait bounds Sign, which has no context of its own.
const signWait = 30 * time.Second

// Signer is a private key in the token as a crypto.Signer.
type Signer struct {
	token *Token
	key   *known
}

var _ crypto.Signer = (*Signer)(nil)

// Signer returns a handle for signing with a key of a signing role. It stays
// valid until the token closes, through healed sessions and logins.
func (t *Token) Signer(ctx context.Context, ref Ref) (*Signer, error) {
	k, err := t.known(ctx, ref)
	if err != nil {
		return nil, err
	}
	if k.info.Public == nil || !roles[ref.Role].sign {
		return nil, wrongRole(ref, "signatures")
	}
	return &Signer{t, k}, nil
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
	return s.AppendSignature(ctx, make([]byte, 0, s.size()), digest, opts)
}

// AppendSignature is SignContext that appends to dst. With room for a signature
// in dst (72 bytes for P-256) it allocates nothing.
//
// What was signed with a key of a CA (root, issuer, signer, ocsp, crl) is verified
// by who signed it, as the whole that leaves. Signatures of all other roles are
// verified here: a wrong one, of a module that computes wrongly or has another key
// under the label, is ErrSignature.
func (s *Signer) AppendSignature(ctx context.Context, dst, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	m, err := s.mechanism(digest, opts)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	sig, err := s.token.engine.Sign(ctx, s.key.key, m, dst, digest)
	s.token.used(s.key, OpSign, m.Scheme, start, err)
	if err != nil {
		return nil, err
	}
	if m.Scheme == SchemeECDSA {
		if sig, err = derSignature(sig, len(dst)); err != nil {
			return nil, err
		}
	}
	if !roles[s.key.info.Ref.Role].checked && !s.verified(digest, sig[len(dst):], m) {
		s.token.metrics.wrong.Inc()
		s.token.options.Logger.LogAttrs(ctx, slog.LevelError, "hsm: THE HSM MADE A WRONG SIGNATURE, which was kept back", slog.String("key", s.key.info.Ref.String()))
		return nil, fmt.Errorf("hsm: sign: %w: %w: %s", ErrSignature, fault.ErrUnavailable, s.key.info.Ref)
	}
	return sig, nil
}

// verified reports whether a signature is the key's.
func (s *Signer) verified(digest, sig []byte, m Mechanism) bool {
	switch pub := s.key.info.Public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(pub, digest, sig)
	case ed25519.PublicKey:
		return ed25519.Verify(pub, digest, sig)
	case *rsa.PublicKey:
		if m.Scheme == SchemePSS {
			return rsa.VerifyPSS(pub, m.Hash, digest, sig, &rsa.PSSOptions{SaltLength: m.Salt}) == nil
		}
		return rsa.VerifyPKCS1v15(pub, m.Hash, digest, sig) == nil
	}
	return false
}

// size is the greatest length of a signature.
func (s *Signer) size() int {
	switch pub := s.key.info.Public.(type) {
	case *rsa.PublicKey:
		return pub.Size()
	case *ecdsa.PublicKey:
		return 8 + 2*((pub.Curve.Params().BitSize+7)/8+1)
	}
	return ed25519.SignatureSize
}

// mechanism reads the options as crypto.Signer has them.
func (s *Signer) mechanism(digest []byte, opts crypto.SignerOpts) (Mechanism, error) {
	if opts == nil {
		return Mechanism{}, fmt.Errorf("hsm: %w: signer options are needed", ErrUnsupported)
	}
	hash := opts.HashFunc()
	switch pub := s.key.info.Public.(type) {
	case ed25519.PublicKey:
		if o, ok := opts.(*ed25519.Options); hash != 0 || ok && o.Context != "" {
			return Mechanism{}, fmt.Errorf("hsm: %w: only pure Ed25519, without a context", ErrUnsupported)
		}
		return Mechanism{Scheme: SchemeEdDSA}, nil
	case *rsa.PublicKey:
		if err := checkDigest(hash, digest); err != nil {
			return Mechanism{}, err
		}
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			salt, err := pssSalt(pub, hash, pss.SaltLength)
			return Mechanism{Scheme: SchemePSS, Hash: hash, Salt: salt}, err
		}
		return Mechanism{Scheme: SchemePKCS1v15, Hash: hash}, nil
	}
	return Mechanism{Scheme: SchemeECDSA, Hash: hash}, checkDigest(hash, digest)
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

// pssSalt reads the salt length as crypto/rsa does.
func pssSalt(pub *rsa.PublicKey, h crypto.Hash, salt int) (int, error) {
	longest := (pub.N.BitLen()-1+7)/8 - 2 - h.Size()
	switch salt {
	case rsa.PSSSaltLengthAuto:
		salt = longest
	case rsa.PSSSaltLengthEqualsHash:
		salt = h.Size()
	}
	if salt < 0 || salt > longest {
		return 0, fmt.Errorf("hsm: %w: PSS salt of %d bytes", ErrUnsupported, salt)
	}
	return salt, nil
}

// derSignature turns r||s, each at most 66 bytes (P-521), which stand in b from
// byte from on, into Ecdsa-Sig-Value in the same place.
func derSignature(b []byte, from int) ([]byte, error) {
	var raw [132]byte
	n := copy(raw[:], b[from:])
	half := n / 2
	if half == 0 || n != len(b)-from || n%2 != 0 {
		return nil, fmt.Errorf("hsm: %w: ECDSA signature of %d bytes", ErrRefused, len(b)-from)
	}
	r, s := bytes.TrimLeft(raw[:half], "\x00"), bytes.TrimLeft(raw[half:n], "\x00")
	if len(r) == 0 || len(s) == 0 {
		return nil, fmt.Errorf("hsm: %w: ECDSA signature with a zero", ErrRefused)
	}
	size := 4 + len(r) + int(r[0]>>7) + len(s) + int(s[0]>>7)
	der := append(b[:from], 0x30)
	if size > 127 {
		der = append(der, 0x81)
	}
	der = append(der, byte(size))
	return appendInteger(appendInteger(der, r), s), nil
}

// appendInteger appends an INTEGER from its bytes without leading zeros.
func appendInteger(der, v []byte) []byte {
	pad := v[0] >> 7 // a set top bit would be a sign
	der = append(der, 0x02, byte(len(v))+pad)
	if pad == 1 {
		der = append(der, 0)
	}
	return append(der, v...)
}
