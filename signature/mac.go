package signature

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
)

const blockSize = sha256.BlockSize

// The pads of HMAC, whole blocks so that padding a key is a copy and an XOR.
var (
	ipadBlock = [blockSize]byte(bytes.Repeat([]byte{0x36}, blockSize))
	opadBlock = [blockSize]byte(bytes.Repeat([]byte{0x5c}, blockSize))
)

// hmacShort is HMAC-SHA256 over stack buffers, without the five allocations of
// hmac.New. A key longer than a block is hashed first; a message longer than a
// block goes to the heap.
func hmacShort(key, msg []byte) [32]byte {
	var hashed [32]byte
	if len(key) > blockSize {
		hashed = sha256.Sum256(key)
		key = hashed[:]
	}
	var buf [2 * blockSize]byte
	fillPad(buf[:blockSize], key, &ipadBlock)
	inner := sha256.Sum256(append(buf[:blockSize], msg...))
	return hmacOuter(key, &inner)
}

// hmacHeadroom is HMAC-SHA256 over data[blockSize:]; the first block of data is
// scratch space for the padded key.
func hmacHeadroom(key, data []byte) [32]byte {
	fillPad(data[:blockSize], key, &ipadBlock)
	inner := sha256.Sum256(data)
	return hmacOuter(key, &inner)
}

func hmacOuter(key []byte, inner *[32]byte) [32]byte {
	var buf [blockSize + 32]byte
	fillPad(buf[:blockSize], key, &opadBlock)
	copy(buf[blockSize:], inner[:])
	return sha256.Sum256(buf[:])
}

func fillPad(block, key []byte, pad *[blockSize]byte) {
	copy(block, pad[:])
	subtle.XORBytes(block, block, key)
}

// fold halves 32 bytes by XOR.
func fold(x *[32]byte) (out [16]byte) {
	subtle.XORBytes(out[:], x[:16], x[16:])
	return out
}

// kdfInternal is KDF_INTERNAL: fold(HMAC(key, data)). The oldest protocol text
// shows the arguments swapped; code and vectors do not.
func kdfInternal(key *[16]byte, data []byte) [16]byte {
	mac := hmacShort(key[:], data)
	return fold(&mac)
}

// x963 is the ANSI X9.63 key derivation with SHA-256.
func x963(dst, secret, sharedInfo []byte) {
	buf := make([]byte, 0, len(secret)+4+len(sharedInfo))
	buf = append(buf, secret...)
	buf = append(buf, 0, 0, 0, 0)
	buf = append(buf, sharedInfo...)
	for counter := uint32(1); len(dst) > 0; counter++ {
		binary.BigEndian.PutUint32(buf[len(secret):], counter)
		block := sha256.Sum256(buf)
		dst = dst[copy(dst, block[:]):]
	}
	clear(buf)
}
