package signature

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
)

const statusMagic = 0xDEC0DED1

// StatusBlobSize is the size of an encrypted status blob.
const StatusBlobSize = 32

// Status is the content of the activation status blob.
type Status struct {
	State             byte // 1 CREATED, 2 PENDING_COMMIT, 3 ACTIVE, 4 BLOCKED, 5 REMOVED
	CurrentVersion    byte // of the activation: 2 or 3
	UpgradeVersion    byte // highest the server offers
	CounterByte       byte // low byte of the numeric counter
	FailedAttempts    byte
	MaxFailedAttempts byte
	LookAhead         byte
	CounterHash       [16]byte // of CTR_DATA: CounterHash
}

// StatusRandom is what a blob needs of randomness: five filler bytes, and what
// stands in place of the counter fields when the client sent no challenge.
type StatusRandom [23]byte

// CounterHash is the proof of the counter that a status blob carries.
func (k *Keys) CounterHash(c Counter) [16]byte {
	key := kdf(&k.transport, indexTransportCtr)
	return kdfInternal(&key, c[:])
}

// EncryptStatus encrypts s for a client that sent a challenge; the nonce is
// fresh and goes with the answer. Without a challenge (protocol 3.0) pass nil for
// both: the IV is then zero and the counter fields are random.
func (k *Keys) EncryptStatus(s Status, challenge, nonce *[16]byte, random *StatusRandom) [StatusBlobSize]byte {
	var b [StatusBlobSize]byte
	binary.BigEndian.PutUint32(b[:], statusMagic)
	b[4], b[5], b[6] = s.State, s.CurrentVersion, s.UpgradeVersion
	copy(b[7:12], random[:5])
	b[12], b[13], b[14], b[15] = s.CounterByte, s.FailedAttempts, s.MaxFailedAttempts, s.LookAhead
	copy(b[16:], s.CounterHash[:])
	if challenge == nil || nonce == nil {
		challenge, nonce = nil, nil
		b[12], b[15] = random[5], random[6]
		copy(b[16:], random[7:])
	}
	iv := k.statusIV(challenge, nonce)
	cipher.NewCBCEncrypter(k.transportCipher(), iv[:]).CryptBlocks(b[:], b[:])
	return b
}

// DecryptStatus is the client's side. The blob carries no MAC: a wrong key or IV
// shows only by the magic number, ErrStatusBlob.
func (k *Keys) DecryptStatus(blob []byte, challenge, nonce *[16]byte) (Status, error) {
	if len(blob) != StatusBlobSize {
		return Status{}, ErrStatusBlob
	}
	if challenge == nil || nonce == nil {
		challenge, nonce = nil, nil
	}
	var b [StatusBlobSize]byte
	iv := k.statusIV(challenge, nonce)
	cipher.NewCBCDecrypter(k.transportCipher(), iv[:]).CryptBlocks(b[:], blob)
	if binary.BigEndian.Uint32(b[:]) != statusMagic {
		return Status{}, ErrStatusBlob
	}
	return Status{
		State: b[4], CurrentVersion: b[5], UpgradeVersion: b[6],
		CounterByte: b[12], FailedAttempts: b[13], MaxFailedAttempts: b[14], LookAhead: b[15],
		CounterHash: [16]byte(b[16:]),
	}, nil
}

// CounterDistance counts the steps from c to the counter whose hash the blob
// carries, at most limit of them; ok is false when none of them fits.
func (k *Keys) CounterDistance(c Counter, hash [16]byte, limit int) (steps int, ok bool) {
	for steps := range limit + 1 {
		got := k.CounterHash(c)
		if subtle.ConstantTimeCompare(got[:], hash[:]) == 1 {
			return steps, true
		}
		c = c.Next()
	}
	return 0, false
}

func (k *Keys) statusIV(challenge, nonce *[16]byte) [16]byte {
	if challenge == nil {
		return [16]byte{}
	}
	key := kdf(&k.transport, indexTransportIV)
	var both [32]byte
	copy(both[:], challenge[:])
	copy(both[16:], nonce[:])
	return kdfInternal(&key, both[:])
}

func (k *Keys) transportCipher() cipher.Block { return mustAES(&k.transport) }

func mustAES(key *[16]byte) cipher.Block {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // 16 bytes are a good AES key
	}
	return block
}
