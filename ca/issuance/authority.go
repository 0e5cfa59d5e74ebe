package issuance

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"time"
)

// Authority is a CA certificate made ready for issuing.
type Authority struct {
	certificate *x509.Certificate
	scheme      Scheme
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
	s, err := SchemeOf(cert.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIssuer, err)
	}
	return &Authority{certificate: cert, scheme: s}, nil
}

// Certificate returns the certificate; it must not be changed.
func (a *Authority) Certificate() *x509.Certificate { return a.certificate }

// Scheme returns how the authority's key signs.
func (a *Authority) Scheme() Scheme { return a.scheme }

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
