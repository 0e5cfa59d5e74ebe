package ca

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// validText accepts 1..limit printable characters without blanks around them:
// what can stand in a certificate, a log line and a column.
func validText(s string, limit int) bool {
	if s == "" || !utf8.ValidString(s) || utf8.RuneCountInString(s) > limit || strings.TrimSpace(s) != s {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// validClient accepts the 26 characters of a client id (CA-13): the alphabet of
// a ULID, without its range (DISC-01).
func validClient(s string) bool {
	if len(s) != idLength {
		return false
	}
	for _, c := range []byte(s) {
		if strings.IndexByte("0123456789ABCDEFGHJKMNPQRSTVWXYZ", c) < 0 {
			return false
		}
	}
	return true
}
