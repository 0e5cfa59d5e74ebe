package issuance

import (
	"crypto/x509"
	"fmt"
	"time"
)

// VerifyChain checks that the certificates, leaf first and self-signed root
// last, form one path in just that order that is valid at the given time: each
// signed by the next, with CA rights, path limits and nested validity. The root
// is taken from the chain itself: whoever relies on the result must know it from
// elsewhere. Any extended key usage passes. ErrChain otherwise.
func VerifyChain(chain [][]byte, at time.Time) error {
	if len(chain) == 0 || len(chain) > maxChain {
		return fmt.Errorf("%w: %d certificates", ErrChain, len(chain))
	}
	certs := make([]*x509.Certificate, len(chain))
	for i, der := range chain {
		var err error
		if certs[i], err = parseCertificate(der); err != nil {
			return fmt.Errorf("%w: certificate %d: %w", ErrChain, i, err)
		}
	}
	roots, middle := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(certs[len(certs)-1])
	for i, c := range certs {
		issuer := certs[min(i+1, len(certs)-1)] // the root signs itself
		if err := c.CheckSignatureFrom(issuer); err != nil {
			return fmt.Errorf("%w: certificate %d: %w", ErrChain, i, err)
		}
		if c.NotBefore.Before(issuer.NotBefore) || c.NotAfter.After(issuer.NotAfter) {
			return fmt.Errorf("%w: certificate %d outlives its issuer", ErrChain, i)
		}
		middle.AddCert(c)
	}
	// The standard library adds names, path lengths, critical extensions and time.
	_, err := certs[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: middle, CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrChain, err)
	}
	return nil
}
