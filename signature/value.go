package signature

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
)

// Format is the text form of a signature.
type Format uint8

const (
	Unmatchable Format = iota // has a legal length, but no computed signature looks like it
	Decimal                   // groups of digits joined by "-": 3.0 and offline
	Base64                    // one Base64 text of 16 bytes for each component: 3.1 and later
)

const (
	componentSize = 16
	maxComponents = 3
	// OnlineDigits is the length of a component in a 3.0 signature and the
	// default of offline ones, which may have MinDigits to MaxDigits.
	OnlineDigits = 8
	MinDigits    = 4
	MaxDigits    = 8
)

// Signature is the value of a signature, decoded once so that verifying neither
// allocates nor compares texts. The zero value matches nothing.
type Signature struct {
	format     Format
	components uint8
	digits     uint8 // of a decimal component
	// raw holds one slot a component: its 16 bytes, or its number as the last
	// four of them.
	raw [maxComponents * componentSize]byte
}

// ParseSignature reads an online signature in either form. The rules are the
// reference's: 8, 17 or 26 characters are decimal; 24, 44 or 64 are Base64 of 16
// to 48 bytes; everything else is ErrSignatureInvalid. Base64 that passes that
// rule without being canonical (bits after the end, no padding) gives an
// Unmatchable signature, because the reference compares texts.
func ParseSignature(s string) (Signature, error) {
	switch len(s) {
	case 8, 17, 26:
		sig, ok := parseDecimal(s, OnlineDigits)
		if !ok {
			return Signature{}, ErrSignatureInvalid
		}
		return sig, nil
	case 24, 44, 64:
		var sig Signature
		n, err := DecodeBase64(sig.raw[:], s)
		if err != nil || n < componentSize {
			return Signature{}, ErrSignatureInvalid
		}
		var canonical [64]byte
		base64.StdEncoding.Encode(canonical[:], sig.raw[:n])
		if n%componentSize != 0 || string(canonical[:len(s)]) != s {
			return Signature{}, nil
		}
		sig.format, sig.components = Base64, uint8(n/componentSize)
		return sig, nil
	default:
		return Signature{}, ErrSignatureInvalid
	}
}

// ParseOfflineSignature reads "12345678-12345678" with components of the given
// number of digits. Other spellings a person may type (spaces, groups of four)
// are the caller's to normalise.
func ParseOfflineSignature(s string, digits int) (Signature, error) {
	if digits < MinDigits || digits > MaxDigits {
		return Signature{}, ErrDigits
	}
	sig, ok := parseDecimal(s, digits)
	if !ok {
		return Signature{}, ErrSignatureInvalid
	}
	return sig, nil
}

func parseDecimal(s string, digits int) (Signature, bool) {
	sig := Signature{format: Decimal, digits: uint8(digits)}
	for {
		if len(s) < digits || sig.components == maxComponents {
			return Signature{}, false
		}
		var v uint32
		for i := range digits {
			c := s[i] - '0'
			if c > 9 {
				return Signature{}, false
			}
			v = v*10 + uint32(c)
		}
		sig.setNumber(int(sig.components), v)
		sig.components++
		if s = s[digits:]; s == "" {
			return sig, true
		}
		if s[0] != '-' {
			return Signature{}, false
		}
		s = s[1:]
	}
}

// Format tells the text form.
func (s *Signature) Format() Format { return s.format }

// Components is the number of components: 1 to 3, 0 for an unmatchable value.
func (s *Signature) Components() int { return int(s.components) }

// String is the canonical text, "" for an unmatchable value.
func (s Signature) String() string { return string(s.AppendText(nil)) }

// AppendText appends the canonical text to dst.
func (s *Signature) AppendText(dst []byte) []byte {
	switch s.format {
	case Base64:
		return base64.StdEncoding.AppendEncode(dst, s.raw[:int(s.components)*componentSize])
	case Decimal:
		for i := range int(s.components) {
			if i > 0 {
				dst = append(dst, '-')
			}
			dst = appendPadded(dst, s.number(i), int(s.digits))
		}
	}
	return dst
}

func (s *Signature) slot(i int) []byte {
	return s.raw[i*componentSize : (i+1)*componentSize]
}

func (s *Signature) number(i int) uint32 { return binary.BigEndian.Uint32(s.slot(i)[12:]) }

func (s *Signature) setNumber(i int, v uint32) { binary.BigEndian.PutUint32(s.slot(i)[12:], v) }

// setComponent takes over a computed component in the form of s.
func (s *Signature) setComponent(i int, mac *[32]byte) {
	if s.format == Base64 {
		copy(s.slot(i), mac[32-componentSize:])
		return
	}
	s.setNumber(i, decimalValue(mac[:], int(s.digits)))
}

// equal compares all slots, whichever differ.
func (s *Signature) equal(o *Signature) int {
	return subtle.ConstantTimeCompare(s.raw[:], o.raw[:])
}

// decimalValue is the dynamic-truncation-free form of HOTP: the last four bytes
// without the sign, modulo a power of ten.
func decimalValue(mac []byte, digits int) uint32 {
	mod := uint32(1)
	for range digits {
		mod *= 10
	}
	return binary.BigEndian.Uint32(mac[len(mac)-4:]) & 0x7FFFFFFF % mod
}

func appendPadded(dst []byte, v uint32, digits int) []byte {
	start := len(dst)
	for range digits {
		dst = append(dst, '0')
	}
	for i := len(dst) - 1; i >= start; i-- {
		dst[i] = '0' + byte(v%10)
		v /= 10
	}
	return dst
}
