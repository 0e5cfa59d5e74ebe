package custody

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"filippo.io/age"
	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"

	"github.com/signet-hsm/signet/internal/secret"
)

// over is the group of the shares: of those in circl the one whose arithmetic
// runs in constant time.
var over = group.Ristretto255

const (
	version = 1
	maxFile = 1 << 20
	// MaxCustodians bounds a sealed secret.
	MaxCustodians = 32
)

// Sealed is a secret that a threshold of custodians can open. It is public.
type Sealed struct {
	Header
	Shares []Share `json:"shares"` // one of each custodian, in the order of the header
	Secret []byte  `json:"secret"` // nonce, AES-256-GCM ciphertext, tag
}

// Header is what is authenticated with the secret.
type Header struct {
	Version     int      `json:"version"`
	Purpose     string   `json:"purpose"` // what the secret opens: "user PIN of token root"
	Threshold   int      `json:"threshold"`
	Custodians  []string `json:"custodians"`
	Commitments [][]byte `json:"commitments"` // Feldman's, one for each coefficient
}

// Share is one custodian's, encrypted to them.
type Share struct {
	Custodian string `json:"custodian"`
	Share     []byte `json:"share"` // age file of the scalar
}

// Seal shares a secret among people so that threshold of them open it.
func Seal(purpose string, s secret.Bytes, threshold int, people []Person) (*Sealed, error) {
	if threshold < 1 || threshold > len(people) || len(people) > MaxCustodians || s.Len() == 0 {
		return nil, fmt.Errorf("%w: a threshold of %d among %d", ErrSealed, threshold, len(people))
	}
	scalar := over.RandomNonZeroScalar(rand.Reader)
	sharing := secretsharing.New(rand.Reader, uint(threshold-1), scalar)
	out := &Sealed{Header: Header{Version: version, Purpose: purpose, Threshold: threshold}}
	for _, c := range sharing.CommitSecret() {
		b, err := c.MarshalBinaryCompress()
		if err != nil {
			return nil, err
		}
		out.Commitments = append(out.Commitments, b)
	}
	shares := sharing.Share(uint(len(people)))
	for i := range people {
		p := &people[i]
		if err := p.Validate(); err != nil {
			return nil, err
		}
		if slices.Contains(out.Custodians, p.Name) {
			return nil, fmt.Errorf("%w: %s is a custodian twice", ErrSealed, p.Name)
		}
		to, err := age.ParseX25519Recipient(p.Share)
		if err != nil {
			return nil, err
		}
		value, err := shares[i].Value.MarshalBinary()
		if err != nil {
			return nil, err
		}
		var file bytes.Buffer
		w, err := age.Encrypt(&file, to)
		if err != nil {
			return nil, err
		}
		_, err = w.Write(value)
		clear(value)
		if err = errors.Join(err, w.Close()); err != nil {
			return nil, err
		}
		out.Custodians = append(out.Custodians, p.Name)
		out.Shares = append(out.Shares, Share{Custodian: p.Name, Share: file.Bytes()})
	}
	aead, aad, err := out.aead(scalar)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	out.Secret = aead.Seal(nonce, nonce, s.Reveal(), aad)
	return out, nil
}

func (s *Sealed) aead(scalar group.Scalar) (cipher.AEAD, []byte, error) {
	raw, err := scalar.MarshalBinary()
	if err != nil {
		return nil, nil, err
	}
	defer clear(raw)
	aad, err := json.Marshal(s.Header)
	if err != nil {
		return nil, nil, err
	}
	salt := sha256.Sum256(aad)
	key, err := hkdf.Key(sha256.New, raw, salt[:], "signet custody 1", 32)
	if err != nil {
		return nil, nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, err
	}
	aead, err := cipher.NewGCM(block)
	return aead, aad, err
}

// Marshal returns the file's content.
func (s *Sealed) Marshal() ([]byte, error) {
	b, err := json.MarshalIndent(s, "", " ")
	return append(b, '\n'), err
}

// Parse reads what Marshal wrote, and nothing else.
func Parse(content []byte) (*Sealed, error) {
	if len(content) > maxFile {
		return nil, fmt.Errorf("%w: too large", ErrSealed)
	}
	var s Sealed
	d := json.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	if again, err := s.Marshal(); err != nil || !bytes.Equal(again, content) {
		return nil, fmt.Errorf("%w: not written by this tool", ErrSealed)
	}
	if s.Version != version || s.Threshold < 1 || s.Threshold > len(s.Shares) || len(s.Shares) > MaxCustodians ||
		len(s.Shares) != len(s.Custodians) || len(s.Commitments) != s.Threshold || len(s.Secret) < 12+16 {
		return nil, fmt.Errorf("%w: its numbers do not fit together", ErrSealed)
	}
	for i := range s.Shares {
		if s.Shares[i].Custodian != s.Custodians[i] || !name(s.Custodians[i]) || slices.Index(s.Custodians, s.Custodians[i]) != i {
			return nil, fmt.Errorf("%w: its custodians do not fit together", ErrSealed)
		}
	}
	if _, err := s.commitments(); err != nil {
		return nil, err
	}
	return &s, nil
}

func (s *Sealed) commitments() (secretsharing.SecretCommitment, error) {
	list := make(secretsharing.SecretCommitment, len(s.Commitments))
	for i, b := range s.Commitments {
		list[i] = over.NewElement()
		if err := list[i].UnmarshalBinary(b); err != nil {
			return nil, fmt.Errorf("%w: commitment %d", ErrSealed, i+1)
		}
	}
	return list, nil
}

// Check opens one custodian's share and verifies it against the commitments,
// without the others: what a custodian signs off.
func (s *Sealed) Check(k *Key) error {
	_, err := s.open(k)
	return err
}

func (s *Sealed) open(k *Key) (secretsharing.Share, error) {
	var none secretsharing.Share
	bad := func(why string) error {
		return fmt.Errorf("%w: %s: the share of custodian %s %s", ErrShares, s.Purpose, k.Name, why)
	}
	i := slices.Index(s.Custodians, k.Name)
	if i < 0 {
		return none, fmt.Errorf("%w: %s: %s is not one of its custodians (%s)", ErrShares, s.Purpose, k.Name, strings.Join(s.Custodians, ", "))
	}
	r, err := age.Decrypt(bytes.NewReader(s.Shares[i].Share), k.share)
	if err != nil {
		return none, bad("is not for this key")
	}
	value, err := io.ReadAll(io.LimitReader(r, 64))
	if err != nil {
		return none, bad("is damaged")
	}
	defer clear(value)
	share := secretsharing.Share{ID: over.NewScalar().SetUint64(uint64(i + 1)), Value: over.NewScalar()}
	if err := share.Value.UnmarshalBinary(value); err != nil || len(value) != 32 {
		return none, bad("is damaged")
	}
	commitments, err := s.commitments()
	if err != nil {
		return none, err
	}
	if !secretsharing.Verify(uint(s.Threshold-1), share, commitments) {
		return none, bad("is wrong: it does not match the commitments")
	}
	return share, nil
}

// Open puts the secret together. Keys of people who are not custodians of it are
// passed over; a custodian's share that is wrong is refused, also when there are
// enough others: that custodian's part has to be looked into.
func (s *Sealed) Open(keys []*Key) (secret.Bytes, error) {
	var shares []secretsharing.Share
	var present []string
	for _, k := range keys {
		if !slices.Contains(s.Custodians, k.Name) || slices.Contains(present, k.Name) {
			continue
		}
		share, err := s.open(k)
		if err != nil {
			return secret.Bytes{}, err
		}
		shares, present = append(shares, share), append(present, k.Name)
	}
	if len(shares) < s.Threshold {
		missing := slices.DeleteFunc(slices.Clone(s.Custodians), func(c string) bool { return slices.Contains(present, c) })
		return secret.Bytes{}, fmt.Errorf("%w: %s: %d of the %d needed are here; ask %d more of: %s",
			ErrShares, s.Purpose, len(shares), s.Threshold, s.Threshold-len(shares), strings.Join(missing, ", "))
	}
	scalar, err := secretsharing.Recover(uint(s.Threshold-1), shares)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("%w: %w", ErrShares, err)
	}
	aead, aad, err := s.aead(scalar)
	if err != nil {
		return secret.Bytes{}, err
	}
	nonce, sealed := s.Secret[:aead.NonceSize()], s.Secret[aead.NonceSize():]
	plain, err := aead.Open(nil, nonce, sealed, aad)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("%w: %s was changed", ErrSealed, s.Purpose)
	}
	return secret.New(plain), nil
}
