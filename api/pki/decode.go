package pki

import (
	"encoding/base64"
	"net/url"
	"strings"
)

// decodeRequest takes the base64 of a request out of a URL (RFC 6960 appendix
// A.1). Clients should escape '/', '+' and '=' and often do not; some read '+' as
// a blank on the way, drop the padding, or use the alphabet made for URLs. None
// of this can be mistaken for something else.
func decodeRequest(escaped string) ([]byte, bool) {
	s, err := url.PathUnescape(escaped)
	if err != nil || s == "" {
		return nil, false
	}
	s = strings.TrimRight(strings.NewReplacer(" ", "+", "-", "+", "_", "/").Replace(s), "=")
	der, err := base64.RawStdEncoding.Strict().DecodeString(s)
	return der, err == nil && len(der) > 0
}
