package operation

import (
	"strings"

	"github.com/signet-hsm/signet/signature"
)

// keyType says whose private key signed a QR code.
type keyType byte

const (
	keyMaster       keyType = '0' // the application's, in the HSM
	keyPersonalized keyType = '1' // the server's key of one registration
)

// qrCode is the content of the QR code of an offline approval.
type qrCode struct {
	id, title, message string
	data               string // operation data, as it will be signed
	flags              string // B, X, F, C
	totp               string // "" unless the proximity check is on
	nonce              [16]byte
}

// unsigned is what is signed: all lines up to and including the key type.
//
//	id LF title LF message LF data LF flags LF [totp LF] nonce LF keyType
func (q qrCode) unsigned(k keyType) []byte {
	lines := []string{q.id, line(q.title), line(q.message), q.data, q.flags}
	if q.totp != "" {
		lines = append(lines, q.totp)
	}
	lines = append(lines, signature.EncodeBase64(q.nonce[:]), string(rune(k)))
	return []byte(strings.Join(lines, "\n"))
}

// signedQR ends the payload with the signature; there is no last line feed.
func signedQR(unsigned, der []byte) string {
	return string(unsigned) + signature.EncodeBase64(der)
}

var lineEscaper = strings.NewReplacer(`\`, `\\`, "\n", `\n`)

// line keeps a text on one line; texts have no other control characters.
func line(s string) string { return lineEscaper.Replace(s) }
