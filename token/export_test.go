package token

// ParseRemove lets the fuzzer at the parser.
func ParseRemove(body []byte) (id string, ok bool) {
	u, err := parseRemove(body)
	return u.String(), err == nil
}
