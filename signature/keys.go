package signature

import (
	"crypto/aes"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
)

// The indexes of the derived keys.
const (
	indexPossession   = 1
	indexKnowledge    = 2
	indexBiometry     = 3
	indexTransport    = 1000
	indexVault        = 2000
	indexTransportIV  = 3000
	indexTransportCtr = 4000
)

// Keys is the key tree of one activation, ready for use. Make it with
// DeriveKeys, keep it as long as the activation is hot: it is immutable, safe
// for concurrent use and takes 224 bytes. It never prints its content.
type Keys struct {
	factor    [maxComponents]factorKey // possession, knowledge, biometry
	transport [16]byte
	vault     [16]byte
}

// MasterSecret folds the x coordinate of an ECDH between the device's and the
// server's key (32 bytes; other lengths panic, they can only be a defect).
func MasterSecret(sharedX []byte) [16]byte {
	if len(sharedX) != 32 {
		panic("signature: a shared secret of P-256 has 32 bytes")
	}
	return fold((*[32]byte)(sharedX))
}

// DeriveKeys derives the tree from the master secret.
func DeriveKeys(master [16]byte) *Keys {
	k := &Keys{}
	for i, index := range [...]uint64{indexPossession, indexKnowledge, indexBiometry} {
		key := kdf(&master, index)
		k.factor[i] = newFactorKey(&key)
	}
	k.transport = kdf(&master, indexTransport)
	k.vault = kdf(&master, indexVault)
	return k
}

// TransportKey is KEY_TRANSPORT; activation-scope envelopes and the status blob
// derive from it.
func (k *Keys) TransportKey() [16]byte { return k.transport }

// VaultKey is KEY_ENCRYPTION_VAULT.
func (k *Keys) VaultKey() [16]byte { return k.vault }

// Wipe overwrites the keys; k must not be in use.
func (k *Keys) Wipe() { *k = Keys{} }

// Format keeps every fmt verb from printing the keys.
func (k Keys) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "signature.Keys[redacted]") }

// MarshalText serves encoding/json and its like.
func (k Keys) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// LogValue implements slog.LogValuer.
func (k Keys) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// kdf is KDF: one AES block under the key, of eight zero bytes and the index.
// (The protocol's prose puts the index first; code and vectors put it last.)
func kdf(key *[16]byte, index uint64) (out [16]byte) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // 16 bytes are a good AES key
	}
	binary.BigEndian.PutUint64(out[8:], index)
	block.Encrypt(out[:], out[:])
	return out
}
