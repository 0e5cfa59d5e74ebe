package signature

import (
	"crypto/ecdh"

	"github.com/signet-hsm/signet/fault"
)

// EncryptedRequest is the JSON object of an encrypted request. Nil is absent or
// null, which is not the same as "".
type EncryptedRequest struct {
	TemporaryKeyID     *string `json:"temporaryKeyId,omitempty"`     // 3.3
	EphemeralPublicKey *string `json:"ephemeralPublicKey,omitempty"` // Base64, SEC1 point
	EncryptedData      *string `json:"encryptedData,omitempty"`      // Base64
	MAC                *string `json:"mac,omitempty"`                // Base64, 32 bytes
	Nonce              *string `json:"nonce,omitempty"`              // Base64, 16 bytes; 3.1 and later
	Timestamp          *int64  `json:"timestamp,omitempty"`          // Unix milliseconds; 3.2 and later
}

// EncryptedResponse is the JSON object of an encrypted response.
type EncryptedResponse struct {
	EncryptedData *string `json:"encryptedData,omitempty"`
	MAC           *string `json:"mac,omitempty"`
	Nonce         *string `json:"nonce,omitempty"`     // 3.2 and later
	Timestamp     *int64  `json:"timestamp,omitempty"` // 3.2 and later
}

// Cryptogram is a request whose fields obey its version. Nothing is decrypted or
// authenticated yet.
type Cryptogram struct {
	Version        Version
	TemporaryKeyID string          // names the private key to use; "" before 3.3
	EphemeralKey   *ecdh.PublicKey // for the ECDH
	EphemeralBytes []byte          // as sent: these enter the key derivation
	EncryptedData  []byte
	MAC            []byte // 32 bytes
	Nonce          []byte // 16 bytes, nil in 3.0
	Timestamp      int64  // Unix milliseconds, 0 before 3.2
}

// ParseEncryptedRequest checks the fields against the rules of the version; what
// breaks them is ErrEnvelopeFields with the field as violation.
func ParseEncryptedRequest(v Version, r EncryptedRequest) (*Cryptogram, error) {
	if !v.Valid() {
		return nil, ErrEnvelopeParams
	}
	c := &Cryptogram{Version: v}
	f := fields{}
	c.EphemeralBytes = f.bytes("ephemeralPublicKey", r.EphemeralPublicKey, true, 0)
	c.EncryptedData = f.bytes("encryptedData", r.EncryptedData, true, 0)
	c.MAC = f.bytes("mac", r.MAC, true, 32)
	c.Nonce = f.bytes("nonce", r.Nonce, v >= V31, 16)
	c.Timestamp = f.time("timestamp", r.Timestamp, v >= V32)
	if f.present("temporaryKeyId", r.TemporaryKeyID != nil, v >= V33) {
		// Any text: one that names no key is the key holder's to refuse.
		if c.TemporaryKeyID = *r.TemporaryKeyID; c.TemporaryKeyID == "" {
			f.bad("temporaryKeyId", "must not be empty")
		}
	}
	if c.EphemeralBytes != nil {
		key, err := ParsePublicKey(c.EphemeralBytes)
		if err != nil {
			f.bad("ephemeralPublicKey", "must be a point of P-256")
		}
		c.EphemeralKey = key
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// Replay is the value to remember so that the request is served once: Base64 of
// the ephemeral key, the nonce and an identifier (the activation id in
// activation scope, "" in application scope). Only requests with a timestamp
// (3.2 and later) can be told from their replays.
func (c *Cryptogram) Replay(identifier string) string {
	b := make([]byte, 0, len(c.EphemeralBytes)+len(c.Nonce)+len(identifier))
	b = append(b, c.EphemeralBytes...)
	b = append(b, c.Nonce...)
	return EncodeBase64(append(b, identifier...))
}

// fields collects the violations of one message.
type fields struct{ violations []fault.Violation }

func (f *fields) bad(name, hint string) {
	f.violations = append(f.violations, fault.Violation{Field: name, Hint: hint})
}

// present tells whether the field is there, and records when it should (not).
func (f *fields) present(name string, have, want bool) bool {
	switch {
	case want && !have:
		f.bad(name, "must be present")
	case have && !want:
		f.bad(name, "must be absent in this version")
	}
	return have && want
}

// bytes decodes a field of the given size, 0 for any but empty.
func (f *fields) bytes(name string, s *string, want bool, size int) []byte {
	if !f.present(name, s != nil, want) {
		return nil
	}
	b, err := ParseBase64(*s)
	if err != nil || len(b) == 0 || size != 0 && len(b) != size {
		f.bad(name, "must be Base64 of the right size")
		return nil
	}
	return b
}

func (f *fields) time(name string, t *int64, want bool) int64 {
	if !f.present(name, t != nil, want) {
		return 0
	}
	if *t < 0 {
		f.bad(name, "must be Unix milliseconds")
	}
	return *t
}

func (f *fields) err() error {
	if len(f.violations) == 0 {
		return nil
	}
	return ErrEnvelopeFields.With(f.violations...)
}
