package signature

import (
	"crypto/hmac"
	"strconv"
	"strings"
)

// TokenHeaderName is the HTTP header of a request with a token.
const TokenHeaderName = "X-PowerAuth-Token"

// TokenHeader is a valid X-PowerAuth-Token header.
type TokenHeader struct {
	TokenID   string // UUID as sent, in any case
	Digest    [32]byte
	Nonce     [16]byte
	Timestamp int64 // Unix milliseconds, 9 to 15 digits
	Version   Version
}

// ParseTokenHeader parses and validates in the order of the reference. The
// version may stand under "version", as the SDK writes it, or "pa_version", as
// the API description shows it; the later of the two wins.
func ParseTokenHeader(s string) (TokenHeader, error) {
	var id, digest, nonce, timestamp, version string
	for p := newPairs(s); ; {
		key, value, ok := p.next()
		if !ok {
			break
		}
		switch key {
		case "token_id":
			id = value
		case "token_digest":
			digest = value
		case "nonce":
			nonce = value
		case "timestamp":
			timestamp = value
		case "version", "pa_version":
			version = value
		}
	}
	h := TokenHeader{TokenID: id}
	switch {
	case id == "":
		return TokenHeader{}, ErrTokenIDEmpty
	case !isUUID(id):
		return TokenHeader{}, ErrTokenIDInvalid
	case digest == "":
		return TokenHeader{}, ErrTokenDigestEmpty
	case !base64Into(h.Digest[:], digest):
		return TokenHeader{}, ErrTokenDigestInvalid
	case nonce == "":
		return TokenHeader{}, ErrTokenNonceEmpty
	case !base64Into(h.Nonce[:], nonce):
		return TokenHeader{}, ErrTokenNonceInvalid
	case timestamp == "":
		return TokenHeader{}, ErrTokenTimeEmpty
	case len(timestamp) < 9 || len(timestamp) > 15:
		return TokenHeader{}, ErrTokenTimeInvalid
	}
	for i := range len(timestamp) {
		c := timestamp[i] - '0'
		if c > 9 {
			return TokenHeader{}, ErrTokenTimeInvalid
		}
		h.Timestamp = h.Timestamp*10 + int64(c)
	}
	if version == "" {
		return TokenHeader{}, ErrTokenVersionEmpty
	}
	var ok bool
	if h.Version, ok = ParseVersion(version); !ok {
		return TokenHeader{}, ErrTokenVersionInvalid
	}
	return h, nil
}

// String writes the header in the order of the mobile SDK.
func (h TokenHeader) String() string {
	var b strings.Builder
	b.Grow(224)
	b.WriteString(headerPrefix)
	writePair(&b, "version", h.Version.String(), ", ")
	writePair(&b, "token_id", h.TokenID, ", ")
	writePair(&b, "token_digest", EncodeBase64(h.Digest[:]), ", ")
	writePair(&b, "nonce", EncodeBase64(h.Nonce[:]), ", ")
	writePair(&b, "timestamp", strconv.FormatInt(h.Timestamp, 10), "")
	return b.String()
}

// Verify tells, in constant time, whether the digest was made with the 16-byte
// secret of the token. The age of the timestamp and the reuse of the nonce are
// the caller's to judge.
func (h *TokenHeader) Verify(secret []byte) bool {
	want := TokenDigest(secret, h.Nonce, h.Timestamp, h.Version)
	return hmac.Equal(want[:], h.Digest[:])
}

// TokenDigest is HMAC-SHA256 with the token's secret (16 bytes) over
// nonce "&" timestamp, and "&" version for 3.2 and later. The timestamp is in
// Unix milliseconds.
func TokenDigest(secret []byte, nonce [16]byte, timestamp int64, v Version) [32]byte {
	var buf [64]byte
	msg := append(buf[:0], nonce[:]...)
	msg = append(msg, '&')
	msg = strconv.AppendInt(msg, timestamp, 10)
	if v >= V32 {
		msg = append(msg, '&')
		msg = append(msg, v.String()...)
	}
	return hmacShort(secret, msg)
}
