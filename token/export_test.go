package token

import "github.com/signet-hsm/signet/tenant"

// ParseRemove lets the fuzzer at the parser.
func ParseRemove(body []byte) (id string, ok bool) {
	u, err := parseRemove(body)
	return u.String(), err == nil
}

// Held counts the tokens of a tenant that are held ready.
func Held(k *Keeper, t tenant.ID) int {
	n := 0
	for id := range k.cache.Keys() {
		if id.tenant == t {
			n++
		}
	}
	return n
}
