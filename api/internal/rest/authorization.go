package rest

import (
	"encoding/base64"
	"net/http"
	"strings"
)

// Bearer returns the token of the one Authorization header.
func Bearer(h http.Header) (token string, ok bool) { return credentials(h, "Bearer") }

// Basic returns the parts of the one Authorization header.
func Basic(h http.Header) (user, password string, ok bool) {
	encoded, ok := credentials(h, "Basic")
	if !ok {
		return "", "", false
	}
	plain, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(plain), ":")
}

// credentials refuses a second header: a proxy may have checked the other one.
func credentials(h http.Header, scheme string) (string, bool) {
	values := h.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	have, rest, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(have, scheme) {
		return "", false
	}
	return strings.TrimLeft(rest, " "), true
}
