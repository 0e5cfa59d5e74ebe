package signature

import "encoding/base64"

// OfflineSecret stands in the place of the application secret in offline
// signatures.
const OfflineSecret = "offline"

// Request is what a signature covers.
type Request struct {
	Method string // upper-cased; "" means GET
	URIID  string // the agreed resource id, e.g. "/operation/authorize"; not the URL
	Nonce  []byte // 16 bytes; nil leaves the element empty
	// Body is the raw body of POST, PUT and DELETE as it came, for GET the result
	// of NormalizeGET. Nil leaves the element empty.
	Body []byte
	// Secret is the application secret as its Base64 text, which is how it
	// enters the data, or OfflineSecret.
	Secret []byte
}

// AppendBaseString appends the data a signature covers:
//
//	METHOD & b64(URIID) & b64(nonce) & b64(body) & secret
//
// It ends with the application secret: do not log or store it.
func AppendBaseString(dst []byte, r Request) []byte {
	if r.Method == "" {
		dst = append(dst, "GET"...)
	}
	for i := range len(r.Method) {
		c := r.Method[i]
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		dst = append(dst, c)
	}
	dst = append(dst, '&')
	dst = appendBase64String(dst, r.URIID)
	dst = append(dst, '&')
	dst = base64.StdEncoding.AppendEncode(dst, r.Nonce)
	dst = append(dst, '&')
	dst = base64.StdEncoding.AppendEncode(dst, r.Body)
	dst = append(dst, '&')
	return append(dst, r.Secret...)
}

// appendBase64String encodes piecewise through the stack: converting the string
// to bytes would allocate.
func appendBase64String(dst []byte, s string) []byte {
	var piece [48]byte
	for len(s) > 0 {
		n := copy(piece[:], s)
		dst = base64.StdEncoding.AppendEncode(dst, piece[:n])
		s = s[n:]
	}
	return dst
}
