package rest

// Flat reads a body that is an object of plain text members, quickly and without
// reflection: it calls member for each, in order, with the value copied out. It
// reports whether all went well; when not, the body may still be good: decode it the
// usual way, which also finds the words for what is wrong. So it accepts nothing that
// Decode would refuse, and is free to give up on whatever it does not know.
//
// member returns false for a name that it does not want, or not twice. The name is
// good during the call only.
func (r *Request) Flat(member func(name []byte, value string) bool) bool {
	return plainJSON(r.http.Header) && flat(r.body, member)
}

// flat takes: white space as JSON knows it, ASCII only, names without escapes, values
// that are strings with the escapes \" \\ \/ only.
func flat(b []byte, member func(name []byte, value string) bool) bool {
	i := blank(b, 0)
	if i >= len(b) || b[i] != '{' {
		return false
	}
	for i++; ; i++ {
		i = blank(b, i)
		name, escapes, end := quoted(b, i)
		if end < 0 || escapes {
			return false
		}
		i = blank(b, end)
		if i >= len(b) || b[i] != ':' {
			return false
		}
		i = blank(b, i+1)
		raw, escapes, end := quoted(b, i)
		if end < 0 || !member(name, unquoted(raw, escapes)) {
			return false
		}
		i = blank(b, end)
		switch {
		case i >= len(b):
			return false
		case b[i] == '}':
			return blank(b, i+1) == len(b)
		case b[i] != ',':
			return false
		}
	}
}

// blank is the place of the first byte at or behind i that is no white space.
func blank(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n') {
		i++
	}
	return i
}

// quoted is what stands between the quotes of the string at i, and the place behind
// it; -1 when that is no plain one.
func quoted(b []byte, i int) (inner []byte, escapes bool, end int) {
	if i >= len(b) || b[i] != '"' {
		return nil, false, -1
	}
	start := i + 1
	for i = start; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return b[start:i], escapes, i + 1
		case c == '\\':
			i++
			if i >= len(b) || b[i] != '"' && b[i] != '\\' && b[i] != '/' {
				return nil, false, -1
			}
			escapes = true
		case c < ' ' || c >= 0x80:
			return nil, false, -1
		}
	}
	return nil, false, -1
}

func unquoted(raw []byte, escapes bool) string {
	if !escapes {
		return string(raw)
	}
	var buffer [512]byte
	out := buffer[:0]
	for i := 0; i < len(raw); i++ {
		if raw[i] == '\\' {
			i++
		}
		out = append(out, raw[i])
	}
	return string(out)
}
