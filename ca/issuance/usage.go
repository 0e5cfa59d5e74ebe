package issuance

import (
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// KeyUsage is a bit of RFC 5280 section 4.2.1.3 by its name there.
type KeyUsage string

// The usages that profiles may name.
const (
	DigitalSignature  KeyUsage = "digitalSignature"
	ContentCommitment KeyUsage = "contentCommitment" // nonRepudiation of old: evidence against the holder
	KeyEncipherment   KeyUsage = "keyEncipherment"
	KeyAgreement      KeyUsage = "keyAgreement"
	CertSign          KeyUsage = "keyCertSign"
	CRLSign           KeyUsage = "cRLSign"
)

// keyUsageBits counts as RFC 5280 does: bit 0 is the first bit on the wire.
var keyUsageBits = map[KeyUsage]uint{
	DigitalSignature: 0, ContentCommitment: 1, KeyEncipherment: 2, KeyAgreement: 4, CertSign: 5, CRLSign: 6,
}

// ExtKeyUsage is a purpose by its name in RFC 5280 section 4.2.1.12 or RFC 9336.
type ExtKeyUsage string

// The purposes that profiles may name.
const (
	ServerAuth      ExtKeyUsage = "serverAuth"
	ClientAuth      ExtKeyUsage = "clientAuth"
	AnswerOCSP      ExtKeyUsage = "OCSPSigning"
	DocumentSigning ExtKeyUsage = "documentSigning"
)

var extKeyUsageOIDs = map[ExtKeyUsage]asn1.ObjectIdentifier{
	ServerAuth:      {1, 3, 6, 1, 5, 5, 7, 3, 1},
	ClientAuth:      {1, 3, 6, 1, 5, 5, 7, 3, 2},
	AnswerOCSP:      {1, 3, 6, 1, 5, 5, 7, 3, 9},
	DocumentSigning: {1, 3, 6, 1, 5, 5, 7, 3, 36},
}

var (
	oidSubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidAuthorityKeyID   = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}

	oidCRLDistributionPoints = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidAuthorityInfoAccess   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 1}
	oidOCSPNoCheck           = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}
)

// usageByte holds the bits of a set in wire order, bit 0 highest. No usage that
// we know needs the second byte (decipherOnly).
func usageByte(set []KeyUsage) (b byte) {
	for _, u := range set {
		b |= 0x80 >> keyUsageBits[u]
	}
	return b
}

// addExtension appends one Extension; DER omits critical when it is false.
func addExtension(b *cryptobyte.Builder, oid asn1.ObjectIdentifier, critical bool, value func(*cryptobyte.Builder)) {
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		if critical {
			b.AddASN1Boolean(true)
		}
		b.AddASN1(casn1.OCTET_STRING, value)
	})
}

func addKeyUsage(b *cryptobyte.Builder, set []KeyUsage) {
	addExtension(b, oidKeyUsage, true, func(b *cryptobyte.Builder) {
		bits := usageByte(set)
		unused := byte(0) // DER: trailing zero bits of a named bit list are not sent
		for v := bits; v&1 == 0; v >>= 1 {
			unused++
		}
		b.AddASN1(casn1.BIT_STRING, func(b *cryptobyte.Builder) { b.AddBytes([]byte{unused, bits}) })
	})
}

func addBasicConstraints(b *cryptobyte.Builder, ca bool, maxPath int) {
	addExtension(b, oidBasicConstraints, true, func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			if ca {
				b.AddASN1Boolean(true)
				if maxPath >= 0 {
					b.AddASN1Int64(int64(maxPath))
				}
			}
		})
	})
}

func addExtKeyUsages(b *cryptobyte.Builder, set []ExtKeyUsage) {
	addExtension(b, oidExtKeyUsage, false, func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, u := range set {
				b.AddASN1ObjectIdentifier(extKeyUsageOIDs[u])
			}
		})
	})
}
