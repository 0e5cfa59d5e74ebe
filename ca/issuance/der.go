package issuance

import (
	"errors"
	"time"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// What varies from certificate to certificate is appended by hand: its lengths are
// known before it is written, so that nothing has to be moved or allocated.

const (
	tagInteger   = 0x02
	tagBitString = 0x03
	tagSequence  = 0x30
	tagSet       = 0x31
	tagUTF8      = 0x0c
	tagPrintable = 0x13
	tagUTC       = 0x17
	tagGeneral   = 0x18
	tagExplicit3 = 0xa3
)

// maxHead is the size of the longest tag and length of a certificate.
const maxHead = 4

// sizeHead returns how many bytes appendHead appends.
func sizeHead(n int) int {
	switch {
	case n < 0x80:
		return 2
	case n < 0x100:
		return 3
	case n < 0x10000:
		return 4
	}
	return 5
}

// sizeOf returns the size of a value of n bytes with its tag and length.
func sizeOf(n int) int { return sizeHead(n) + n }

// appendHead appends a tag and the length of what follows, below 2^24.
func appendHead(dst []byte, tag byte, n int) []byte {
	switch {
	case n < 0x80:
		return append(dst, tag, byte(n))
	case n < 0x100:
		return append(dst, tag, 0x81, byte(n))
	case n < 0x10000:
		return append(dst, tag, 0x82, byte(n>>8), byte(n))
	}
	return append(dst, tag, 0x83, byte(n>>16), byte(n>>8), byte(n))
}

var (
	errDate     = errors.New("a date that X.509 can not express")
	errTooLarge = errors.New("the certificate would be too large")
)

// appendTime follows RFC 5280 section 4.1.2.5: UTCTime through 2049.
func appendTime(dst []byte, t time.Time) ([]byte, error) {
	switch y := t.Year(); {
	case y < 1950 || y > 9999:
		return nil, errDate
	case y < 2050:
		return t.AppendFormat(append(dst, tagUTC, 13), "060102150405Z"), nil
	default:
		return t.AppendFormat(append(dst, tagGeneral, 15), "20060102150405Z"), nil
	}
}

// assemble puts a signed structure together around its signed part.
func assemble(tbs, identifier, signature []byte) []byte {
	n := len(tbs) + len(identifier) + sizeOf(1+len(signature))
	dst := appendHead(make([]byte, 0, sizeOf(n)), tagSequence, n)
	dst = append(dst, tbs...)
	dst = append(dst, identifier...)
	dst = appendHead(dst, tagBitString, 1+len(signature))
	return append(append(dst, 0), signature...)
}

// framed reports whether der is tbs and identifier with a signature of the scheme
// behind them and nothing else: what a parser would find out, of bytes that were
// put together here.
func (s Scheme) framed(der, tbs []byte) bool {
	in := cryptobyte.String(der)
	var body, part, algorithm cryptobyte.String
	var signature []byte
	return in.ReadASN1(&body, casn1.SEQUENCE) && in.Empty() &&
		body.ReadASN1Element(&part, casn1.SEQUENCE) && string(part) == string(tbs) &&
		body.ReadASN1Element(&algorithm, casn1.SEQUENCE) && string(algorithm) == string(s.identifier) &&
		body.ReadASN1BitStringAsBytes(&signature) && body.Empty() && s.formed(signature)
}
