package revocation

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidInvalidityDate = asn1.ObjectIdentifier{2, 5, 29, 24}
	oidScope          = asn1.ObjectIdentifier{2, 5, 29, 28} // issuingDistributionPoint
	oidInfoAccess     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 1}
	oidCAIssuers      = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 2}
)

// scopeExtension says which part of the issuer's certificates a CRL is about:
// those whose distribution point has this address. It is critical: a verifier
// that ignored it would take a serial's absence from one part for its absence
// from all.
func scopeExtension(url string) (pkix.Extension, error) {
	var b cryptobyte.Builder
	context := func(n uint8) casn1.Tag { return casn1.Tag(n).ContextSpecific() }
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(context(0).Constructed(), func(b *cryptobyte.Builder) { // distributionPoint
			b.AddASN1(context(0).Constructed(), func(b *cryptobyte.Builder) { // fullName
				b.AddASN1(context(6), func(b *cryptobyte.Builder) { b.AddBytes([]byte(url)) }) // URI
			})
		})
	})
	der, err := b.Bytes()
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("revocation: distribution point: %w", err)
	}
	return pkix.Extension{Id: oidScope, Critical: true, Value: der}, nil
}

// invalidityDate is RFC 5280 section 5.3.2, always a GeneralizedTime.
func invalidityDate(t time.Time) (pkix.Extension, error) {
	var b cryptobyte.Builder
	b.AddASN1GeneralizedTime(t.UTC().Truncate(time.Second))
	der, err := b.Bytes()
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("revocation: invalidity date: %w", err)
	}
	return pkix.Extension{Id: oidInvalidityDate, Value: der}, nil
}

// signerExtension says where the certificate of a CRL's signer is (RFC 5280
// section 5.2.7).
func signerExtension(url string) (pkix.Extension, error) {
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidCAIssuers)
			b.AddASN1(casn1.Tag(6).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(url)) }) // URI
		})
	})
	der, err := b.Bytes()
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("revocation: address of the CRL's signer: %w", err)
	}
	return pkix.Extension{Id: oidInfoAccess, Value: der}, nil
}
