package otp

import (
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// Suite is an OCRA suite, e.g. "OCRA-1:HOTP-SHA256-8:C-QN08-PSHA1". Make it with
// ParseSuite.
type Suite struct {
	text     string
	scheme   Scheme
	counter  bool
	question byte // 'A' alphanumeric, 'N' decimal, 'H' hexadecimal
	pin      bool
	pinHash  Hash
	session  int // bytes, 0 without
	step     time.Duration
}

// Input is what a password of a suite is computed over. What the suite does not
// name must be left out: a value nobody checks would deceive.
type Input struct {
	Counter  uint64
	Question string // both challenges joined in a mutual exchange
	PINHash  []byte // Suite.HashPIN of the PIN
	Session  []byte // at most the suite's length; shorter ones are padded in front
	Time     time.Time
}

// A question is encoded in 128 bytes.
const questionSize = 128

// ParseSuite reads a suite of version 1. "No truncation" (zero digits) is not
// supported: RFC 6287 leaves its text form open.
func ParseSuite(s string) (*Suite, error) {
	parts := strings.Split(s, ":")
	if len(parts) != 3 || parts[0] != "OCRA-1" {
		return nil, ErrSuite
	}
	u := &Suite{text: s}
	function := strings.Split(parts[1], "-")
	if len(function) != 3 || function[0] != "HOTP" {
		return nil, ErrSuite
	}
	var ok bool
	if u.scheme.Hash, ok = parseHash(function[1]); !ok {
		return nil, ErrSuite
	}
	if u.scheme.Digits, ok = parseNumber(function[2]); !ok || u.scheme.Digits < minDigits || u.scheme.Digits > maxDigits {
		return nil, ErrSuite
	}
	if !u.parseInput(strings.Split(parts[2], "-")) {
		return nil, ErrSuite
	}
	return u, nil
}

// parseInput reads C, Q, P, S, T, in this order, all but Q optional.
func (u *Suite) parseInput(fields []string) bool {
	next := func(letter byte) (rest string, ok bool) {
		if len(fields) == 0 || fields[0] == "" || fields[0][0] != letter {
			return "", false
		}
		rest, fields = fields[0][1:], fields[1:]
		return rest, true
	}
	rest, ok := next('C')
	if u.counter = ok; ok && rest != "" {
		return false
	}
	rest, ok = next('Q')
	if !ok || len(rest) != 3 || strings.IndexByte("ANH", rest[0]) < 0 {
		return false
	}
	u.question = rest[0]
	if n, err := strconv.Atoi(rest[1:]); err != nil || n < 4 || n > 64 {
		return false
	}
	if rest, u.pin = next('P'); u.pin {
		if u.pinHash, ok = parseHash(rest); !ok {
			return false
		}
	}
	if rest, ok = next('S'); ok {
		n, err := strconv.Atoi(rest)
		if err != nil || len(rest) != 3 || n < 1 || n > 512 {
			return false
		}
		u.session = n
	}
	if rest, ok = next('T'); ok {
		if u.step, ok = parseStep(rest); !ok {
			return false
		}
	}
	return len(fields) == 0
}

func parseHash(s string) (Hash, bool) {
	for h, name := range hashNames {
		if s == name {
			return Hash(h), true
		}
	}
	return 0, false
}

// parseNumber takes no sign and no leading zero.
func parseNumber(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && strconv.Itoa(n) == s && n >= 0
}

// parseStep reads 1S to 59S, 1M to 59M, 1H to 48H.
func parseStep(s string) (time.Duration, bool) {
	if s == "" {
		return 0, false
	}
	unit, limit := time.Second, 59
	switch s[len(s)-1] {
	case 'S':
	case 'M':
		unit = time.Minute
	case 'H':
		unit, limit = time.Hour, 48
	default:
		return 0, false
	}
	n, ok := parseNumber(s[:len(s)-1])
	return time.Duration(n) * unit, ok && n >= 1 && n <= limit
}

// String returns the text the suite was read from.
func (u *Suite) String() string { return u.text }

// HashPIN hashes a PIN as the suite wants it, nil when it wants none.
func (u *Suite) HashPIN(pin []byte) []byte {
	if !u.pin {
		return nil
	}
	h := u.pinHash.new()
	h.Write(pin)
	return h.Sum(nil)
}

// Compute is the password of an input.
func (u *Suite) Compute(key []byte, in Input) (string, error) {
	if err := u.scheme.check(key); err != nil {
		return "", err
	}
	message, err := u.message(in)
	if err != nil {
		return "", err
	}
	return u.scheme.code(key, message), nil
}

// Verify computes and compares in constant time. Windows of counters or times are
// the caller's, who knows what else the input binds.
func (u *Suite) Verify(key []byte, in Input, code string) (bool, error) {
	want, err := u.Compute(key, in)
	return err == nil && equal(want, code), err
}

// message is the DataInput of RFC 6287 section 5.1.
func (u *Suite) message(in Input) ([]byte, error) {
	m := append([]byte(u.text), 0)
	if u.counter {
		m = binary.BigEndian.AppendUint64(m, in.Counter)
	} else if in.Counter != 0 {
		return nil, ErrInput
	}
	q, err := u.encodeQuestion(in.Question)
	if err != nil {
		return nil, err
	}
	m = append(m, q...)
	if u.pin != (len(in.PINHash) > 0) || u.pin && len(in.PINHash) != u.pinHash.new().Size() {
		return nil, ErrInput
	}
	m = append(m, in.PINHash...)
	if len(in.Session) > u.session {
		return nil, ErrInput
	}
	m = append(m, make([]byte, u.session-len(in.Session))...)
	m = append(m, in.Session...)
	if (u.step != 0) == in.Time.IsZero() {
		return nil, ErrInput
	}
	if u.step != 0 {
		step, err := TOTP{Step: u.step}.counter(in.Time)
		if err != nil {
			return nil, err
		}
		m = binary.BigEndian.AppendUint64(m, step)
	}
	return m, nil
}

// encodeQuestion pads behind, in half bytes: a decimal question is the hex text
// of its number, which may have an odd length.
func (u *Suite) encodeQuestion(q string) ([]byte, error) {
	if q == "" || len(q) > questionSize {
		return nil, ErrInput
	}
	out := make([]byte, questionSize)
	var digits string
	switch u.question {
	case 'A':
		for i := range len(q) {
			if q[i] < ' ' || q[i] > '~' {
				return nil, ErrInput
			}
		}
		copy(out, q)
		return out, nil
	case 'N':
		for i := range len(q) {
			if q[i] < '0' || q[i] > '9' {
				return nil, ErrInput
			}
		}
		n, _ := new(big.Int).SetString(q, 10)
		digits = n.Text(16)
	default:
		digits = q
	}
	if len(digits)%2 != 0 {
		digits += "0"
	}
	if _, err := hex.Decode(out, []byte(digits)); err != nil {
		return nil, ErrInput
	}
	return out, nil
}
