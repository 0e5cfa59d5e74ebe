package signature

import (
	"bytes"
	"crypto/ecdh"
	"crypto/elliptic"
	"crypto/sha256"
	"fmt"
)

// ParsePublicKey reads a P-256 point in SEC1 form, compressed (33 bytes) or not
// (65); the key's Bytes() are the 65 that are stored and compared. Points off
// the curve and infinity are ErrPublicKey.
func ParsePublicKey(b []byte) (*ecdh.PublicKey, error) {
	if len(b) == 33 {
		x, y := elliptic.UnmarshalCompressed(elliptic.P256(), b)
		if x == nil {
			return nil, ErrPublicKey
		}
		full := make([]byte, 65)
		full[0] = 4
		x.FillBytes(full[1:33])
		y.FillBytes(full[33:])
		b = full
	}
	key, err := ecdh.P256().NewPublicKey(b)
	if err != nil {
		return nil, ErrPublicKey
	}
	return key, nil
}

// ParsePrivateKey reads a P-256 scalar as Java stores it: big-endian, leading
// zeros left out, with one zero byte when the highest bit is set.
func ParsePrivateKey(b []byte) (*ecdh.PrivateKey, error) {
	b = bytes.TrimLeft(b, "\x00")
	if len(b) > 32 {
		return nil, ErrPrivateKey
	}
	var scalar [32]byte
	defer clear(scalar[:])
	copy(scalar[32-len(b):], b)
	key, err := ecdh.P256().NewPrivateKey(scalar[:])
	if err != nil {
		return nil, ErrPrivateKey
	}
	return key, nil
}

// MarshalPrivateKey writes the form that ParsePrivateKey reads.
func MarshalPrivateKey(key *ecdh.PrivateKey) []byte {
	b := bytes.TrimLeft(key.Bytes(), "\x00")
	if b[0]&0x80 != 0 {
		b = append([]byte{0}, b...)
	}
	return b
}

// Fingerprint is the number of 8 digits that the person compares on both
// screens: of the device's and the server's public key and the activation id.
func Fingerprint(device *ecdh.PublicKey, activationID string, server *ecdh.PublicKey) string {
	buf := make([]byte, 0, 32+36+32)
	buf = append(buf, coordinateX(device)...)
	buf = append(buf, activationID...)
	buf = append(buf, coordinateX(server)...)
	return fingerprint(buf)
}

func fingerprint(data []byte) string {
	sum := sha256.Sum256(data)
	return fmt.Sprintf("%08d", decimalValue(sum[:], 8))
}

// coordinateX leaves out leading zero bytes, as the mobile SDK does: one key in
// 256 has a different fingerprint otherwise.
func coordinateX(key *ecdh.PublicKey) []byte {
	return bytes.TrimLeft(key.Bytes()[1:33], "\x00")
}
