package filter

import (
	"math/big"
	"time"
)

// parseNumber reads a decimal number: -12, 345.456.
func parseNumber(s string) (*big.Rat, bool) {
	digits, dot := 0, false
	for i, c := range s {
		switch {
		case c >= '0' && c <= '9':
			digits++
		case c == '-' && i == 0:
		case c == '.' && digits > 0 && !dot && i < len(s)-1:
			dot = true
		default:
			return nil, false
		}
	}
	if digits == 0 {
		return nil, false
	}
	return new(big.Rat).SetString(s)
}

// parseTime reads an RFC 3339 time or a date. time.Parse alone would take more
// than the RFC, and digits below a microsecond that the database would lose.
func parseTime(s string) (time.Time, bool) {
	const date, clock = "0000-00-00", "0000-00-00T00:00:00"
	if shaped(s, date) {
		t, err := time.Parse(time.DateOnly, s)
		return t, err == nil
	}
	if len(s) <= len(clock) || !shaped(s[:len(clock)], clock) {
		return time.Time{}, false
	}
	rest := s[len(clock):]
	if rest[0] == '.' {
		n := 1
		for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
			n++
		}
		if n == 1 || n > 7 {
			return time.Time{}, false
		}
		rest = rest[n:]
	}
	if rest != "Z" && !shaped(rest, "+00:00") && !shaped(rest, "-00:00") {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339, s)
	return t.UTC(), err == nil
}

// shaped compares with a pattern in which 0 stands for any digit.
func shaped(s, pattern string) bool {
	if len(s) != len(pattern) {
		return false
	}
	for i := range len(s) {
		digit := s[i] >= '0' && s[i] <= '9'
		if pattern[i] == '0' && !digit || pattern[i] != '0' && s[i] != pattern[i] {
			return false
		}
	}
	return true
}
