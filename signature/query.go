package signature

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// Param is one decoded query parameter.
type Param struct{ Key, Value string }

// NormalizeGET is the body of a GET request for the base string, from a map of
// decoded parameters: sorted by key, encoded, joined. Nil when there are none.
func NormalizeGET(query map[string]string) []byte {
	if len(query) == 0 {
		return nil
	}
	params := make([]Param, 0, len(query))
	for k, v := range query {
		params = append(params, Param{k, v})
	}
	return AppendNormalizedGET(nil, params)
}

// NormalizeRawGET is the same from the query string of a URL (without "?"): it
// is split at "&" and the first "=", parts without "=" are dropped, both sides
// are decoded once ("+" is a space). A bad escape is ErrQuery.
func NormalizeRawGET(query string) ([]byte, error) {
	var params []Param
	for part := range strings.SplitSeq(query, "&") {
		k, v, ok := strings.Cut(part, "=")
		if !ok {
			continue
		}
		key, err := unescape(k)
		if err != nil {
			return nil, err
		}
		value, err := unescape(v)
		if err != nil {
			return nil, err
		}
		params = append(params, Param{key, value})
	}
	return AppendNormalizedGET(nil, params), nil
}

// AppendNormalizedGET sorts params in place, by key and then value, and appends
// them to dst, encoded and joined. The order is that of UTF-16 code units and
// the encoding that of java.net.URLEncoder, because that is what devices and the
// reference use.
func AppendNormalizedGET(dst []byte, params []Param) []byte {
	slices.SortFunc(params, func(a, b Param) int {
		if c := compareUTF16(a.Key, b.Key); c != 0 {
			return c
		}
		return compareUTF16(a.Value, b.Value)
	})
	for i, p := range params {
		if i > 0 {
			dst = append(dst, '&')
		}
		dst = escape(dst, p.Key)
		dst = append(dst, '=')
		dst = escape(dst, p.Value)
	}
	return dst
}

// compareUTF16 orders as String.compareTo does: differs from byte order only
// where a supplementary character meets U+E000 to U+FFFF, because surrogates
// are smaller than those.
func compareUTF16(a, b string) int {
	for a != "" && b != "" {
		ra, na := utf8.DecodeRuneInString(a)
		rb, nb := utf8.DecodeRuneInString(b)
		if ra != rb {
			if high := ra >= 0x10000; high != (rb >= 0x10000) && min(ra, rb) >= 0xE000 {
				if high {
					return -1
				}
				return 1
			}
			return int(ra - rb)
		}
		a, b = a[na:], b[nb:]
	}
	return len(a) - len(b)
}

const upperHex = "0123456789ABCDEF"

// escape appends s as java.net.URLEncoder writes it. What is not UTF-8 counts as
// U+FFFD.
func escape(dst []byte, s string) []byte {
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9',
			r == '.', r == '-', r == '*', r == '_':
			dst = append(dst, byte(r))
		case r == ' ':
			dst = append(dst, '+')
		default:
			var buf [utf8.UTFMax]byte
			for _, c := range buf[:utf8.EncodeRune(buf[:], r)] {
				dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
			}
		}
	}
	return dst
}

// unescape decodes as java.net.URLDecoder does, but for "%+1" and "%-0", which
// that class takes for numbers; here they are bad escapes.
func unescape(s string) (string, error) {
	if !strings.ContainsAny(s, "%+") {
		return s, nil
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '+':
			out = append(out, ' ')
		case '%':
			if i+2 >= len(s) {
				return "", ErrQuery
			}
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi|lo > 15 {
				return "", ErrQuery
			}
			out = append(out, hi<<4|lo)
			i += 2
		default:
			out = append(out, s[i])
		}
	}
	return replaceMalformed(out), nil
}

// replaceMalformed makes a string of UTF-8 as Java's decoder does: every
// malformed sequence, as far as it could have been a character, becomes one
// U+FFFD (Go makes one of each byte).
func replaceMalformed(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	out := make([]byte, 0, len(b)+8)
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			n = malformedLength(b)
		}
		out = utf8.AppendRune(out, r)
		b = b[n:]
	}
	return string(out)
}

// malformedLength is the length of the sequence at the start of b that the lead
// byte allows. A surrogate in three bytes (ED A0 80) counts as one.
func malformedLength(b []byte) int {
	lo, hi, want := byte(0x80), byte(0xBF), 1
	switch c := b[0]; {
	case c >= 0xC2 && c <= 0xDF:
		want = 2
	case c >= 0xE0 && c <= 0xEF:
		want = 3
		if c == 0xE0 {
			lo = 0xA0
		}
	case c >= 0xF0 && c <= 0xF4:
		want = 4
		if c == 0xF0 {
			lo = 0x90
		} else if c == 0xF4 {
			hi = 0x8F
		}
	}
	n := 1
	for n < want && n < len(b) && b[n] >= lo && b[n] <= hi {
		lo, hi = 0x80, 0xBF
		n++
	}
	return n
}

func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	default:
		return 0xFF
	}
}
