package issuance

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // the index of Debian's list, no protection
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// BlockList is a set of keys that are never certified, whoever asks: keys that
// were published, and keys of generators that made few. It does not change.
type BlockList struct {
	spki   map[[sha256.Size]byte]struct{}
	debian map[[10]byte]struct{}
}

// ParseBlockList reads one key a line; blank lines and those beginning with #
// are skipped. 64 hex digits are the SHA-256 of a SubjectPublicKeyInfo; 20 are
// a line of Debian's openssl-blacklist (CVE-2008-0166: half of the SHA-1 of what
// `openssl rsa -modulus` prints), whose files can be read as they are. Several
// texts make one list. ErrProfile names the line.
func ParseBlockList(texts ...[]byte) (*BlockList, error) {
	b := &BlockList{spki: map[[sha256.Size]byte]struct{}{}, debian: map[[10]byte]struct{}{}}
	for _, text := range texts {
		number := 0
		for line := range bytes.Lines(text) {
			number++
			line = bytes.TrimSpace(line)
			if len(line) == 0 || line[0] == '#' {
				continue
			}
			sum, err := hex.DecodeString(string(line))
			switch {
			case err == nil && len(sum) == sha256.Size:
				b.spki[[sha256.Size]byte(sum)] = struct{}{}
			case err == nil && len(sum) == 10:
				b.debian[[10]byte(sum)] = struct{}{}
			default:
				return nil, fmt.Errorf("%w: block list, line %d: want 64 or 20 hex digits", ErrProfile, number)
			}
		}
	}
	return b, nil
}

// Len returns the number of keys.
func (b *BlockList) Len() int { return len(b.spki) + len(b.debian) }

// check is cheap: two look-ups, and a hash for RSA keys when there is Debian's list.
func (b *BlockList) check(r *Request) error {
	if b == nil {
		return nil
	}
	if _, ok := b.spki[r.spkiHash]; ok {
		return ErrKeyBlocked
	}
	if k, ok := r.key.(*rsa.PublicKey); ok && len(b.debian) > 0 {
		if _, ok := b.debian[debianFingerprint(k)]; ok {
			return ErrKeyBlocked
		}
	}
	return nil
}

func debianFingerprint(k *rsa.PublicKey) [10]byte {
	sum := sha1.Sum([]byte("Modulus=" + strings.ToUpper(k.N.Text(16)) + "\n")) //nolint:gosec // see above
	return [10]byte(sum[10:])
}
