package ceremony

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"

	"github.com/tyler-smith/go-bip39"
)

// Words spells a SHA-256 as 24 words of the BIP-39 list, which has no two words
// with the same four first letters and a checksum in the last: two people compare a
// hash by reading it aloud.
func Words(hash [sha256.Size]byte) (string, error) { return bip39.NewMnemonic(hash[:]) }

// spkiOf returns the SubjectPublicKeyInfo and its hash in words.
func spkiOf(key crypto.PublicKey) (spki []byte, words string, err error) {
	if spki, err = x509.MarshalPKIXPublicKey(key); err != nil {
		return nil, "", err
	}
	words, err = Words(sha256.Sum256(spki))
	return spki, words, err
}
