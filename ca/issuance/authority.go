package issuance

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"time"
)

// Authority is a CA certificate made ready for issuing.
type Authority struct {
	certificate *x509.Certificate
	scheme      scheme
}

// NewAuthority checks that a certificate may issue: a CA with keyCertSign, a
// subject key identifier and a key that we would certify ourselves. When it may
// issue is decided by Prepare, which is given the time. ErrIssuer otherwise.
func NewAuthority(der []byte) (*Authority, error) {
	cert, err := parseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIssuer, err)
	}
	switch {
	case !cert.BasicConstraintsValid || !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, fmt.Errorf("%w: %s may not issue", ErrIssuer, cert.Subject)
	case len(cert.SubjectKeyId) == 0:
		return nil, fmt.Errorf("%w: %s has no subject key identifier", ErrIssuer, cert.Subject)
	}
	s, err := schemeOf(cert.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIssuer, err)
	}
	return &Authority{certificate: cert, scheme: s}, nil
}

// Certificate returns the certificate; it must not be changed.
func (a *Authority) Certificate() *x509.Certificate { return a.certificate }

// Owns reports whether key is the public half of the authority's key.
func (a *Authority) Owns(key crypto.PublicKey) bool { return sameKey(a.certificate.PublicKey, key) }

// admits checks time and path length for a certificate of profile p.
func (a *Authority) admits(p *Profile, now time.Time) error {
	c := a.certificate
	if now.Before(c.NotBefore) || now.After(c.NotAfter) {
		return fmt.Errorf("%w: valid %s to %s", ErrIssuerExpired, c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))
	}
	limited := c.MaxPathLen > 0 || c.MaxPathLen == 0 && c.MaxPathLenZero
	if p.CA && limited && (p.MaxPath < 0 || p.MaxPath >= c.MaxPathLen) {
		return fmt.Errorf("%w: %s does not fit under a path limit of %d", ErrProfile, p.Name, c.MaxPathLen)
	}
	return nil
}

// scheme is how a key signs certificates.
type scheme struct {
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

func schemeOf(key crypto.PublicKey) (scheme, error) {
	algorithm, _, err := CheckKey(key)
	if err != nil {
		return scheme{}, err
	}
	switch algorithm {
	case P256:
		return scheme{crypto.SHA256, ecdsaSHA256}, nil
	case P384:
		return scheme{crypto.SHA384, ecdsaSHA384}, nil
	case Ed25519:
		return scheme{0, pureEd25519}, nil
	default:
		return scheme{crypto.SHA256, rsaSHA256}, nil
	}
}

// digest returns what the key has to sign.
func (s scheme) digest(tbs []byte) []byte {
	if s.hash == 0 {
		return tbs
	}
	h := s.hash.New()
	h.Write(tbs)
	return h.Sum(nil)
}

func (s scheme) verify(key crypto.PublicKey, digest, signature []byte) bool {
	switch k := key.(type) {
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

// parseCertificate is x509.ParseCertificate with a size limit and the demand
// that the bytes are the certificate and nothing else.
func parseCertificate(der []byte) (*x509.Certificate, error) {
	if len(der) > maxCertificate {
		return nil, fmt.Errorf("certificate of %d bytes", len(der))
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(cert.Raw, der) {
		return nil, fmt.Errorf("bytes behind the certificate")
	}
	return cert, nil
}
