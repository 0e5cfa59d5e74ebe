package issuance

import (
	"encoding/asn1"
	"fmt"
	"net/url"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Locations are the addresses that a certificate carries for those who check it.
// Several of one list are alternatives for the same thing. Each is an absolute
// http URL in ASCII of at most 255 bytes: fetching a CRL by https may need the
// very check it is for (RFC 5280 section 8).
type Locations struct {
	CRL    []string // cRLDistributionPoints: one point, one name each
	OCSP   []string // authorityInfoAccess, id-ad-ocsp
	Issuer []string // authorityInfoAccess, id-ad-caIssuers: the issuer's certificate in DER
}

var (
	oidOCSP      = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1}
	oidCAIssuers = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 2}
)

// check refuses addresses that no verifier could follow, and those that make no
// sense for the kind of certificate.
func (l *Locations) check(p *Profile) error {
	switch {
	case p.SelfSigned && len(l.CRL)+len(l.OCSP)+len(l.Issuer) > 0:
		return fmt.Errorf("%w: nobody above a self-signed certificate answers for it", ErrLocation)
	case (p.OCSPNoCheck || p.SelfIssued) && len(l.CRL)+len(l.OCSP) > 0:
		return fmt.Errorf("%w: %s says that its revocation is not checked", ErrLocation, p.Name)
	}
	for _, list := range [...][]string{l.CRL, l.OCSP, l.Issuer} {
		if len(list) > maxLocations {
			return fmt.Errorf("%w: more than %d of a kind", ErrLocation, maxLocations)
		}
		for _, s := range list {
			if err := checkLocation(s); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkLocation(s string) error {
	if len(s) == 0 || len(s) > maxLocation {
		return fmt.Errorf("%w: %d bytes", ErrLocation, len(s))
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f {
			return fmt.Errorf("%w: %q is not ASCII", ErrLocation, s)
		}
	}
	u, err := url.Parse(s)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLocation, err)
	}
	if u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return fmt.Errorf("%w: %q is not a plain http URL", ErrLocation, s)
	}
	return nil
}

// add appends both extensions, not critical, as far as there is something to say.
func (l *Locations) add(b *cryptobyte.Builder) {
	if len(l.CRL) > 0 {
		addExtension(b, oidCRLDistributionPoints, false, func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(casn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { // distributionPoint
						b.AddASN1(casn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { // fullName
							for _, s := range l.CRL {
								addURI(b, s)
							}
						})
					})
				})
			})
		})
	}
	if len(l.OCSP)+len(l.Issuer) > 0 {
		addExtension(b, oidAuthorityInfoAccess, false, func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
				addAccess(b, oidOCSP, l.OCSP)
				addAccess(b, oidCAIssuers, l.Issuer)
			})
		})
	}
}

func addAccess(b *cryptobyte.Builder, method asn1.ObjectIdentifier, list []string) {
	for _, s := range list {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(method)
			addURI(b, s)
		})
	}
}

// addURI appends a GeneralName of the kind uniformResourceIdentifier.
func addURI(b *cryptobyte.Builder, s string) {
	b.AddASN1(casn1.Tag(6).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(s)) })
}
