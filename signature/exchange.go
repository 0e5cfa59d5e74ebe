package signature

import (
	"crypto/ecdh"
	"fmt"
	"io"
)

// Stamp is what a sealed message carries beside its text. Nonce is 16 random
// bytes, fresh for each message and ignored in 3.0 and in 3.1 responses;
// Timestamp is in Unix milliseconds and ignored before 3.2.
type Stamp struct {
	Nonce     [16]byte
	Timestamp int64
}

// Responder is the server's half of an opened request: it seals the one response.
type Responder struct{ e *envelope }

// Format keeps every fmt verb from printing the keys.
func (r Responder) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, "signature.Responder[redacted]")
}

// OpenRequest opens a request. z is the ECDH result (32 bytes, the x coordinate)
// of c.EphemeralKey and the private key that the scope and the temporary key id
// name; the private key may live in an HSM. A wrong MAC, padding or key are all
// ErrEnvelopeOpen.
func OpenRequest(z []byte, p EnvelopeParams, c *Cryptogram) (plaintext []byte, r *Responder, err error) {
	if !p.valid() || p.Version != c.Version || p.TemporaryKeyID != c.TemporaryKeyID || len(z) != 32 {
		return nil, nil, ErrEnvelopeParams
	}
	return newEnvelope(z, c.EphemeralBytes, p).openRequest(c)
}

func (e *envelope) openRequest(c *Cryptogram) ([]byte, *Responder, error) {
	e.nonce = c.Nonce
	plaintext, err := e.open(c.EncryptedData, c.MAC, c.Nonce, c.Timestamp, c.EphemeralBytes)
	if err != nil {
		e.wipe()
		return nil, nil, err
	}
	return plaintext, &Responder{e}, nil
}

// Seal seals the response and wipes the keys; a second call is ErrEnvelopeUsed.
func (r *Responder) Seal(plaintext []byte, s Stamp) (EncryptedResponse, error) {
	e := r.e
	if !e.take() {
		return EncryptedResponse{}, ErrEnvelopeUsed
	}
	defer e.wipe()
	var out EncryptedResponse
	nonce := e.nonce
	if e.params.Version >= V32 {
		nonce = s.Nonce[:]
		out.Nonce, out.Timestamp = base64Pointer(nonce), &s.Timestamp
	} else {
		s.Timestamp = 0
	}
	ciphertext, mac := e.seal(plaintext, nonce, s.Timestamp, nil)
	out.EncryptedData, out.MAC = base64Pointer(ciphertext), base64Pointer(mac)
	return out, nil
}

// Requester is the client's half of a sealed request: it opens the one response.
type Requester struct{ e *envelope }

// Format keeps every fmt verb from printing the keys.
func (r Requester) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, "signature.Requester[redacted]")
}

// SealRequest seals a request for the server's public key. ephemeral must be a
// fresh key pair for each call.
func SealRequest(ephemeral *ecdh.PrivateKey, server *ecdh.PublicKey, p EnvelopeParams, plaintext []byte, s Stamp) (EncryptedRequest, *Requester, error) {
	if !p.valid() {
		return EncryptedRequest{}, nil, ErrEnvelopeParams
	}
	z, err := ephemeral.ECDH(server)
	if err != nil {
		return EncryptedRequest{}, nil, ErrEnvelopeParams
	}
	public := ephemeral.PublicKey().Bytes()
	out, r := newEnvelope(z, public, p).sealRequest(public, plaintext, s)
	clear(z)
	return out, r, nil
}

func (e *envelope) sealRequest(public, plaintext []byte, s Stamp) (EncryptedRequest, *Requester) {
	out := EncryptedRequest{EphemeralPublicKey: base64Pointer(public)}
	if e.params.Version >= V31 {
		e.nonce = s.Nonce[:]
		out.Nonce = base64Pointer(e.nonce)
	}
	if e.params.Version >= V32 {
		out.Timestamp = &s.Timestamp
	} else {
		s.Timestamp = 0
	}
	if e.params.Version >= V33 {
		id := e.params.TemporaryKeyID
		out.TemporaryKeyID = &id
	}
	ciphertext, mac := e.seal(plaintext, e.nonce, s.Timestamp, public)
	out.EncryptedData, out.MAC = base64Pointer(ciphertext), base64Pointer(mac)
	return out, &Requester{e}
}

// Open opens the response and wipes the keys, whatever comes of it; a second
// call is ErrEnvelopeUsed.
func (r *Requester) Open(resp EncryptedResponse) ([]byte, error) {
	e := r.e
	if !e.take() {
		return nil, ErrEnvelopeUsed
	}
	defer e.wipe()
	v := e.params.Version
	f := fields{}
	data := f.bytes("encryptedData", resp.EncryptedData, true, 0)
	mac := f.bytes("mac", resp.MAC, true, 32)
	nonce := f.bytes("nonce", resp.Nonce, v >= V32, 16)
	timestamp := f.time("timestamp", resp.Timestamp, v >= V32)
	if err := f.err(); err != nil {
		return nil, err
	}
	if v < V32 {
		nonce = e.nonce
	}
	return e.open(data, mac, nonce, timestamp, nil)
}

func base64Pointer(b []byte) *string {
	s := EncodeBase64(b)
	return &s
}
