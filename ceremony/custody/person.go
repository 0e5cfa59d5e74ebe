package custody

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"filippo.io/age"

	"github.com/signet-hsm/signet/internal/conf"
	"github.com/signet-hsm/signet/internal/secret"
)

// Person is who takes part in a ceremony, as the plan names them.
type Person struct {
	Name  string `yaml:"name" json:"name"`
	Role  string `yaml:"role" json:"role"`   // ceremony officer, custodian, auditor...: free text for the transcript
	Sign  string `yaml:"sign" json:"sign"`   // Ed25519 public key, 32 bytes in Base64
	Share string `yaml:"share" json:"share"` // age recipient, age1...
}

// Validate returns ErrPerson when p can not sign or receive a share.
func (p *Person) Validate() error {
	if !name(p.Name) {
		return fmt.Errorf("%w: a name has 1 to 64 printable characters", ErrPerson)
	}
	if _, err := p.PublicKey(); err != nil {
		return err
	}
	if _, err := age.ParseX25519Recipient(p.Share); err != nil {
		return fmt.Errorf("%w: %s: share must be an age recipient (age1...)", ErrPerson, p.Name)
	}
	return nil
}

// PublicKey is the key that verifies the person's signatures.
func (p *Person) PublicKey() (ed25519.PublicKey, error) {
	b, err := base64.StdEncoding.DecodeString(p.Sign)
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%w: %s: sign must be an Ed25519 public key of 32 bytes in Base64", ErrPerson, p.Name)
	}
	return b, nil
}

func name(s string) bool {
	return s != "" && len(s) <= 64 && strings.TrimSpace(s) == s && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// Key is a person's key file, opened.
type Key struct {
	Name  string
	sign  ed25519.PrivateKey
	share *age.X25519Identity
}

// NewKey makes the keys of a person.
func NewKey(who string) (*Key, error) {
	if !name(who) {
		return nil, fmt.Errorf("%w: a name has 1 to 64 printable characters", ErrPerson)
	}
	_, sign, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	share, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, err
	}
	return &Key{Name: who, sign: sign, share: share}, nil
}

// Person returns the public halves, for the plan.
func (k *Key) Person(role string) Person {
	return Person{
		Name: k.Name, Role: role, Sign: base64.StdEncoding.EncodeToString(k.sign.Public().(ed25519.PublicKey)),
		Share: k.share.Recipient().String(),
	}
}

// Is reports whether k is the key of p.
func (k *Key) Is(p *Person) bool {
	q := k.Person(p.Role)
	return q == *p
}

// Sign signs a message; its first line must say what it is for.
func (k *Key) Sign(message []byte) []byte { return ed25519.Sign(k.sign, message) }

// Wipe forgets what can be forgotten: age keeps its identity in memory of its own.
func (k *Key) Wipe() { clear(k.sign); k.share = nil }

const keyHead = "signet-ceremony-key-1 "

// Write writes the key file, which must not exist, mode 0600. A passphrase that is
// not empty encrypts it.
func (k *Key) Write(path string, passphrase secret.Bytes) error {
	var text bytes.Buffer
	fmt.Fprintf(&text, "%s%s\nsign %s\nshare %s\n", keyHead, k.Name, base64.StdEncoding.EncodeToString(k.sign.Seed()), k.share)
	content := text.Bytes()
	defer clear(content)
	if passphrase.Len() > 0 {
		var out bytes.Buffer
		to, err := age.NewScryptRecipient(string(passphrase.Reveal()))
		if err != nil {
			return err
		}
		w, err := age.Encrypt(&out, to)
		if err != nil {
			return err
		}
		if _, err = w.Write(content); err == nil {
			err = w.Close()
		}
		if err != nil {
			return err
		}
		content = out.Bytes()
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// ReadKey reads a key file; it must be closed to others. A passphrase is asked for
// at the terminal.
func ReadKey(ctx context.Context, path string) (*Key, error) {
	content, err := conf.SecretSource{File: path}.Read(ctx)
	if err != nil {
		return nil, err
	}
	defer content.Wipe()
	text := content.Reveal()
	if bytes.HasPrefix(text, []byte("age-encryption.org/")) {
		passphrase, err := conf.SecretSource{Prompt: "passphrase of " + strings.Map(printable, path)}.Read(ctx)
		if err != nil {
			return nil, err
		}
		defer passphrase.Wipe()
		id, err := age.NewScryptIdentity(string(passphrase.Reveal()))
		if err != nil {
			return nil, err
		}
		r, err := age.Decrypt(bytes.NewReader(text), id)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrPerson, path, err)
		}
		if text, err = io.ReadAll(io.LimitReader(r, 4096)); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrPerson, path, err)
		}
		defer clear(text)
	}
	k, err := parseKey(strings.TrimSuffix(string(text), "\n"))
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, path)
	}
	return k, nil
}

func parseKey(text string) (*Key, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 3 {
		return nil, fmt.Errorf("%w: not a key file", ErrPerson)
	}
	who, a := strings.CutPrefix(lines[0], keyHead)
	sign, b := strings.CutPrefix(lines[1], "sign ")
	share, c := strings.CutPrefix(lines[2], "share ")
	seed, err := base64.StdEncoding.DecodeString(sign)
	defer clear(seed)
	id, bad := age.ParseX25519Identity(share)
	if !a || !b || !c || err != nil || bad != nil || len(seed) != ed25519.SeedSize || !name(who) {
		return nil, fmt.Errorf("%w: not a key file", ErrPerson)
	}
	return &Key{Name: who, sign: ed25519.NewKeyFromSeed(seed), share: id}, nil
}

func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return '?'
}
