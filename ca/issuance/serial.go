package issuance

import (
	"encoding/hex"
	"fmt"
	"io"
)

// Serial is a certificate serial number: 16 bytes, big-endian, positive, first
// byte not zero. Fixed length makes it a key in every store, and the public
// incidents of 2019 came from serials that lost a bit to the sign.
type Serial [16]byte

// NewSerial draws from r, which must be a cryptographic generator. It reads
// again in the one case of 128 where the first byte comes out zero.
func NewSerial(r io.Reader) (Serial, error) {
	var s Serial
	for range 64 {
		if _, err := io.ReadFull(r, s[:]); err != nil {
			return Serial{}, fmt.Errorf("%w: %w", ErrSerial, err)
		}
		s[0] &= 0x7f
		if s.ok() {
			return s, nil
		}
	}
	return Serial{}, fmt.Errorf("%w: the generator yields zeros", ErrSerial)
}

// ParseSerial takes the 16 bytes that a store kept.
func ParseSerial(b []byte) (Serial, error) {
	if len(b) != len(Serial{}) {
		return Serial{}, fmt.Errorf("%w: %d bytes", ErrSerial, len(b))
	}
	s := Serial(b)
	if !s.ok() {
		return Serial{}, ErrSerial
	}
	return s, nil
}

func (s Serial) ok() bool { return s[0] != 0 && s[0] < 0x80 }

// String returns 32 lower-case hex digits.
func (s Serial) String() string { return hex.EncodeToString(s[:]) }
