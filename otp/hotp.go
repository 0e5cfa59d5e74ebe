package otp

import (
	"crypto/hmac"
	"crypto/sha1" // HOTP is defined with HMAC-SHA1, which is not broken
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"hash"
)

// Hash is the hash under the HMAC.
type Hash uint8

const (
	SHA1 Hash = iota // the only one of RFC 4226
	SHA256
	SHA512
)

var hashNames = [...]string{"SHA1", "SHA256", "SHA512"}

// String returns the name as it stands in OCRA suites.
func (h Hash) String() string {
	if int(h) < len(hashNames) {
		return hashNames[h]
	}
	return ""
}

func (h Hash) new() hash.Hash {
	switch h {
	case SHA256:
		return sha256.New()
	case SHA512:
		return sha512.New()
	default:
		return sha1.New()
	}
}

const (
	// MinKey is the shortest key in bytes, the length of a PowerAuth seed.
	MinKey    = 16
	minDigits = 4
	maxDigits = 10
)

// Scheme is a form of passwords. The zero value is that of RFC 4226: SHA-1 and 6
// digits.
type Scheme struct {
	Hash   Hash
	Digits int // 4 to 10; 0 is 6
}

func (s Scheme) digits() int {
	if s.Digits == 0 {
		return 6
	}
	return s.Digits
}

func (s Scheme) check(key []byte) error {
	switch d := s.digits(); {
	case d < minDigits, d > maxDigits, int(s.Hash) >= len(hashNames):
		return ErrScheme
	case len(key) < MinKey:
		return ErrKey
	}
	return nil
}

// HOTP is the password of a counter.
func (s Scheme) HOTP(key []byte, counter uint64) (string, error) {
	if err := s.check(key); err != nil {
		return "", err
	}
	return s.code(key, binary.BigEndian.AppendUint64(nil, counter)), nil
}

// VerifyHOTP looks for the counter of a password from counter on, at most window
// of them. next is the counter to expect from now on; store it before trusting
// the match.
func (s Scheme) VerifyHOTP(key []byte, counter uint64, window int, code string) (next uint64, ok bool, err error) {
	if err := s.check(key); err != nil {
		return 0, false, err
	}
	for range window {
		if counter+1 == 0 { // the last counter has no next one
			break
		}
		if equal(s.code(key, binary.BigEndian.AppendUint64(nil, counter)), code) {
			return counter + 1, true, nil
		}
		counter++
	}
	return 0, false, nil
}

// code is the dynamic truncation of RFC 4226 section 5.3 of an HMAC.
func (s Scheme) code(key, message []byte) string {
	mac := hmac.New(s.Hash.new, key)
	mac.Write(message)
	sum := mac.Sum(nil)
	offset := sum[len(sum)-1] & 15
	v := uint64(binary.BigEndian.Uint32(sum[offset:]) & 0x7FFFFFFF)
	out := make([]byte, s.digits())
	for i := len(out) - 1; i >= 0; i-- {
		out[i] = '0' + byte(v%10)
		v /= 10
	}
	return string(out)
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
