package secret

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Bytes is secret content. The zero value is empty. The content hides in a
// closure because fmt can not call the methods of an unexported field: a struct
// that holds a Bytes then prints an address, whatever the verb.
type Bytes struct{ reveal func() []byte }

// New takes ownership of b: the caller must not keep or change it.
func New(b []byte) Bytes { return Bytes{func() []byte { return b }} }

// Reveal returns the content itself, not a copy.
func (s Bytes) Reveal() []byte {
	if s.reveal == nil {
		return nil
	}
	return s.reveal()
}

// Len returns the length in bytes.
func (s Bytes) Len() int { return len(s.Reveal()) }

// Equal compares in constant time (lengths are not hidden).
func (s Bytes) Equal(b []byte) bool { return subtle.ConstantTimeCompare(s.Reveal(), b) == 1 }

// Wipe overwrites the content with zeros.
func (s Bytes) Wipe() { clear(s.Reveal()) }

// Format keeps every fmt verb from printing the content.
func (s Bytes) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String returns "[redacted]".
func (s Bytes) String() string { return redacted }

// GoString returns "[redacted]".
func (s Bytes) GoString() string { return redacted }

// LogValue implements slog.LogValuer.
func (s Bytes) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText serves encoding/json, YAML and their like.
func (s Bytes) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalText refuses: a secret is read by the code that asks for it.
func (s *Bytes) UnmarshalText([]byte) error {
	return errors.New("secret: can not be read from a document")
}
