package signature

import (
	"encoding/base32"
	"encoding/binary"
	"strings"
)

const activationCodeLength = 23

var base32Code = base32.StdEncoding.WithPadding(base32.NoPadding)

// NewActivationCode writes ten random bytes and their CRC-16/ARC as
// XXXXX-XXXXX-XXXXX-XXXXX in Base32.
func NewActivationCode(random [10]byte) string {
	var raw [12]byte
	copy(raw[:], random[:])
	binary.BigEndian.PutUint16(raw[10:], crc16(random[:]))
	s := base32Code.EncodeToString(raw[:])
	return s[:5] + "-" + s[5:10] + "-" + s[10:15] + "-" + s[15:]
}

// ParseActivationCode is strict: 23 characters, upper case, right CRC. What a
// person may type differently (lower case, 0 for O) is the device's to repair.
func ParseActivationCode(s string) (random [10]byte, err error) {
	if len(s) != activationCodeLength {
		return random, ErrActivationCode
	}
	var text [20]byte
	n := 0
	for i := range len(s) {
		if i%6 == 5 {
			if s[i] != '-' {
				return random, ErrActivationCode
			}
			continue
		}
		if c := s[i]; (c < 'A' || c > 'Z') && (c < '2' || c > '7') {
			return random, ErrActivationCode
		}
		text[n] = s[i]
		n++
	}
	var raw [13]byte // Decode wants room for the padded length
	if _, err := base32Code.Decode(raw[:], text[:]); err != nil {
		return random, ErrActivationCode
	}
	if binary.BigEndian.Uint16(raw[10:]) != crc16(raw[:10]) {
		return random, ErrActivationCode
	}
	copy(random[:], raw[:])
	if NewActivationCode(random) != s { // bits after the last byte: one code, one text
		return [10]byte{}, ErrActivationCode
	}
	return random, nil
}

// ActivationQR is the text of an activation QR code: the code and the ECDSA
// signature (ASN.1 DER, P-256 with SHA-256 over the code with its dashes) of the
// application's master key.
func ActivationQR(code string, der []byte) string { return code + "#" + EncodeBase64(der) }

// ParseActivationQR splits a QR text or a code typed by hand. The signature is
// nil when there is none; it is not checked here.
func ParseActivationQR(s string) (code string, der []byte, err error) {
	code, sig, signed := strings.Cut(s, "#")
	if _, err := ParseActivationCode(code); err != nil {
		return "", nil, err
	}
	if !signed {
		return code, nil, nil
	}
	if der, err = ParseBase64(sig); err != nil || len(der) == 0 {
		return "", nil, ErrActivationCode
	}
	return code, der, nil
}

// crc16 is CRC-16/ARC.
func crc16(b []byte) (crc uint16) {
	for _, c := range b {
		crc ^= uint16(c)
		for range 8 {
			if crc&1 != 0 {
				crc = crc>>1 ^ 0xA001
			} else {
				crc >>= 1
			}
		}
	}
	return crc
}
