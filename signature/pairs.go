package signature

import "strings"

const headerPrefix = "PowerAuth "

// pairs walks the key="value" pairs of a PowerAuth header. It finds exactly what
// the reference's repeated match of
//
//	(\w+)="*((?<=")[^"]+(?=")|([^\s]+)),*"*
//
// finds, so that a header means the same here and there: commas and their order
// do not matter, unquoted values swallow a trailing comma, and an empty quoted
// value takes the text up to the next quote. It runs in linear time: at most one
// search for a closing quote fails, because nothing is quoted after it.
type pairs struct{ rest string }

// newPairs cuts the prefix; without it there are no pairs.
func newPairs(header string) pairs {
	header, ok := strings.CutPrefix(trimJava(header), headerPrefix)
	if !ok {
		return pairs{}
	}
	return pairs{trimJava(header)}
}

// next returns the next pair; the strings are parts of the header.
func (p *pairs) next() (key, value string, ok bool) {
	s := p.rest
	for i := 0; i < len(s); {
		if !isWord(s[i]) {
			i++
			continue
		}
		end := i + 1
		for end < len(s) && isWord(s[end]) {
			end++
		}
		if end == len(s) || s[end] != '=' {
			i = end
			continue
		}
		key = s[i:end]
		start := end + 1
		for start < len(s) && s[start] == '"' {
			start++
		}
		quotes := start - end - 1
		if quotes > 0 { // the quoted alternative
			if n := strings.IndexByte(s[start:], '"'); n > 0 {
				value = s[start : start+n]
				p.rest = strings.TrimLeft(s[start+n:], `"`)
				return key, value, true
			}
		}
		// The bare alternative; it may give back one quote to have something to take.
		if quotes > 0 && (start == len(s) || isSpace(s[start])) {
			start--
		}
		stop := start
		for stop < len(s) && !isSpace(s[stop]) {
			stop++
		}
		if stop > start {
			p.rest = s[stop:]
			return key, s[start:stop], true
		}
		i = end
	}
	p.rest = ""
	return "", "", false
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// trimJava is String.trim: everything up to U+0020 goes, nothing above.
func trimJava(s string) string {
	return strings.TrimFunc(s, func(r rune) bool { return r <= ' ' })
}

// isUUID accepts any case, version 1 to 5, RFC 4122 variant.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i] | 0x20 // lower case; digits and '-' stay
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if s[i] != '-' {
				return false
			}
		case i == 14:
			if s[i] < '1' || s[i] > '5' {
				return false
			}
		case i == 19:
			if s[i] != '8' && s[i] != '9' && c != 'a' && c != 'b' {
				return false
			}
		case (s[i] < '0' || s[i] > '9') && (c < 'a' || c > 'f'):
			return false
		}
	}
	return true
}
