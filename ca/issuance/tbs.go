package issuance

import (
	"time"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// The to-be-signed part is built here rather than by x509.CreateCertificate,
// which wants the private key to build it: there would be no draft to record and
// lint before the HSM is called. It also skips reflection and a second signature
// check. Per template the extensions come encoded, per authority the issuer name
// and key identifier.

// encode fills d.tbs. The validity and scheme must be set.
func (d *Draft) encode(o *Order) error {
	b := cryptobyte.NewBuilder(make([]byte, 0, 768))
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1Int64(2) }) // v3
		b.AddASN1(casn1.INTEGER, func(b *cryptobyte.Builder) { b.AddBytes(d.serial[:]) })
		b.AddBytes(d.scheme.identifier)
		if o.Issuer == nil {
			o.Subject.add(b)
		} else {
			// Byte for byte: verifiers match names by their encoding.
			b.AddBytes(o.Issuer.certificate.RawSubject)
		}
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addTime(b, d.notBefore)
			addTime(b, d.notAfter)
		})
		if o.Profile.profile.SelfIssued {
			b.AddBytes(o.Issuer.certificate.RawSubject)
		} else {
			o.Subject.add(b)
		}
		b.AddBytes(o.Request.spki)
		b.AddASN1(casn1.Tag(3).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddBytes(o.Profile.extensions)
				o.AltNames.add(b)
				addExtension(b, oidSubjectKeyID, false, func(b *cryptobyte.Builder) {
					b.AddASN1OctetString(o.Request.keyID[:])
				})
				// A self-signed certificate may leave it out, and a root that does
				// can not contradict itself.
				if o.Issuer != nil {
					addExtension(b, oidAuthorityKeyID, false, func(b *cryptobyte.Builder) {
						b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
							b.AddASN1(casn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) {
								b.AddBytes(o.Issuer.certificate.SubjectKeyId)
							})
						})
					})
				}
				o.Locations.add(b)
			})
		})
	})
	var err error
	d.tbs, err = b.Bytes()
	return err
}

// addTime follows RFC 5280 section 4.1.2.5: UTCTime through 2049.
func addTime(b *cryptobyte.Builder, t time.Time) {
	if t.Year() < 2050 {
		b.AddASN1UTCTime(t)
	} else {
		b.AddASN1GeneralizedTime(t)
	}
}
