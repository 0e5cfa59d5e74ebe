package signature

import "encoding/base64"

// The alphabet of RFC 4648 section 4; 0xFF marks bytes outside of it.
var base64Values = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xFF
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		t[c] = byte(i)
	}
	return t
}()

// DecodeBase64 decodes the way the basic decoder of Java does, which is what
// devices were tested against: padding may be missing (but not half of it), bits
// after the last byte may be set, line breaks and the URL alphabet are refused.
// encoding/base64 differs in all three. It writes to dst and returns the number
// of bytes; a dst that is too short is ErrBase64 too.
func DecodeBase64(dst []byte, s string) (int, error) {
	var acc, bits uint32
	n, i := 0, 0
	for ; i < len(s) && s[i] != '='; i++ {
		v := base64Values[s[i]]
		if v == 0xFF {
			return 0, ErrBase64
		}
		acc = acc<<6 | uint32(v)
		if bits += 6; bits >= 8 {
			if n == len(dst) {
				return 0, ErrBase64
			}
			bits -= 8
			dst[n] = byte(acc >> bits)
			n++
		}
	}
	var padding int // what a full last quantum still wants
	switch i % 4 {
	case 1:
		return 0, ErrBase64
	case 2:
		padding = 2
	case 3:
		padding = 1
	}
	switch rest := s[i:]; {
	case rest == "": // no padding at all is fine
	case padding == 0 || len(rest) != padding || rest != "=="[:padding]:
		return 0, ErrBase64
	}
	return n, nil
}

// ParseBase64 is DecodeBase64 into a new slice, never nil.
func ParseBase64(s string) ([]byte, error) {
	dst := make([]byte, (len(s)+3)/4*3)
	n, err := DecodeBase64(dst, s)
	if err != nil {
		return nil, err
	}
	return dst[:n], nil
}

// EncodeBase64 is the canonical text: padded, trailing bits zero.
func EncodeBase64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// base64Into fills dst exactly.
func base64Into(dst []byte, s string) bool {
	n, err := DecodeBase64(dst, s)
	return err == nil && n == len(dst)
}
