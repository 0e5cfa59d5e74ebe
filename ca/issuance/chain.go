package issuance

import (
	"crypto/x509"
	"fmt"
	"time"
)

// VerifyChain is VerifyPath for certificates that were issued one below the
// other: each must lie within the validity of the next as well. ErrChain
// otherwise.
func VerifyChain(chain [][]byte, at time.Time) error {
	certs, err := verifyPath(chain, at)
	if err != nil {
		return err
	}
	for i, c := range certs {
		issuer := certs[min(i+1, len(certs)-1)]
		if c.NotBefore.Before(issuer.NotBefore) || c.NotAfter.After(issuer.NotAfter) {
			return fmt.Errorf("%w: certificate %d outlives its issuer", ErrChain, i)
		}
	}
	return nil
}

// VerifyPath checks that the certificates, leaf first and self-signed root
// last, form one path in just that order that is valid at the given time: each
// signed by the next, with CA rights and path limits. A cross-certificate may end
// before what stands below it. The root is taken from the chain itself: whoever
// relies on the result must know it from elsewhere. Any extended key usage passes.
// ErrChain otherwise.
func VerifyPath(chain [][]byte, at time.Time) error {
	_, err := verifyPath(chain, at)
	return err
}

func verifyPath(chain [][]byte, at time.Time) ([]*x509.Certificate, error) {
	if len(chain) == 0 || len(chain) > maxChain {
		return nil, fmt.Errorf("%w: %d certificates", ErrChain, len(chain))
	}
	certs := make([]*x509.Certificate, len(chain))
	for i, der := range chain {
		var err error
		if certs[i], err = parseCertificate(der); err != nil {
			return nil, fmt.Errorf("%w: certificate %d: %w", ErrChain, i, err)
		}
	}
	roots, middle := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(certs[len(certs)-1])
	for i, c := range certs {
		issuer := certs[min(i+1, len(certs)-1)] // the root signs itself
		if err := c.CheckSignatureFrom(issuer); err != nil {
			return nil, fmt.Errorf("%w: certificate %d: %w", ErrChain, i, err)
		}
		middle.AddCert(c)
	}
	// The standard library adds names, path lengths, critical extensions and time.
	_, err := certs[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: middle, CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrChain, err)
	}
	return certs, nil
}
