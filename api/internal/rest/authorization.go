package rest

import (
	"encoding/base64"
	"net/http"
	"strings"
)

// Authorization are the values of a request's header of that name.
type Authorization []string

// AuthorizationOf takes them from h.
func AuthorizationOf(h http.Header) Authorization { return h["Authorization"] }

// Bearer returns the token of the one Authorization header.
func (a Authorization) Bearer() (token string, ok bool) { return a.credentials("Bearer") }

// strict refuses what an encoder would not have written.
var strict = base64.StdEncoding.Strict()

// Basic returns the parts of the one Authorization header.
func (a Authorization) Basic() (user, password string, ok bool) {
	encoded, ok := a.credentials("Basic")
	if !ok {
		return "", "", false
	}
	var buffer [384]byte // those of ours fit
	plain, err := strict.AppendDecode(buffer[:0], []byte(encoded))
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(plain), ":")
}

// credentials refuses a second header: a proxy may have checked the other one.
func (a Authorization) credentials(scheme string) (string, bool) {
	if len(a) != 1 {
		return "", false
	}
	have, rest, ok := strings.Cut(a[0], " ")
	if !ok || !strings.EqualFold(have, scheme) {
		return "", false
	}
	return strings.TrimLeft(rest, " "), true
}
