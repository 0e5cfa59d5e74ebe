package signature

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync/atomic"
)

// Scope says whose keys an envelope is for.
type Scope uint8

const (
	ApplicationScope Scope = iota + 1 // the application's master (or temporary) key
	ActivationScope                   // the activation's server (or temporary) key
)

// The purposes of an envelope, "shared info 1" of the protocol.
const (
	InfoApplication  = "/pa/generic/application" // application scope, also layer 1 of an activation
	InfoActivation   = "/pa/generic/activation"  // activation scope
	InfoLayer2       = "/pa/activation"          // application scope, layer 2 of an activation
	InfoUpgrade      = "/pa/upgrade"
	InfoVaultUnlock  = "/pa/vault/unlock"
	InfoCreateToken  = "/pa/token/create"
	InfoRecoveryCode = "/pa/recovery/confirm"
)

// EnvelopeParams binds an envelope to its purpose and to the application and
// activation it is for.
type EnvelopeParams struct {
	Version        Version
	Scope          Scope
	SharedInfo1    string // one of the Info constants
	ApplicationKey [16]byte
	ActivationID   string // activation scope; "" in application scope
	TemporaryKeyID string // 3.3; "" before
	// SharedInfo2 is ApplicationSharedInfo2 or Keys.ActivationSharedInfo2.
	SharedInfo2 [32]byte
}

// ApplicationSharedInfo2 is the base of shared info 2 in application scope. The
// secret is the Base64 text.
func ApplicationSharedInfo2(secret []byte) [32]byte { return sha256.Sum256(secret) }

// ActivationSharedInfo2 is the same in activation scope.
func (k *Keys) ActivationSharedInfo2(secret []byte) [32]byte {
	return hmacShort(k.transport[:], secret)
}

func (p *EnvelopeParams) valid() bool {
	return p.Version.Valid() && p.SharedInfo1 != "" &&
		(p.Scope == ApplicationScope && p.ActivationID == "" || p.Scope == ActivationScope && p.ActivationID != "") &&
		(p.Version >= V33) == (p.TemporaryKeyID != "")
}

// associatedData names whom the message is for, from 3.2 on.
func (p *EnvelopeParams) associatedData(dst []byte) []byte {
	dst = appendSized(dst, p.Version.String())
	dst = appendSized(dst, EncodeBase64(p.ApplicationKey[:]))
	if p.Scope == ActivationScope {
		dst = appendSized(dst, p.ActivationID)
	}
	if p.Version >= V33 {
		dst = appendSized(dst, p.TemporaryKeyID)
	}
	return dst
}

// envelope holds the keys that a request and its response share.
type envelope struct {
	params EnvelopeParams
	keys   [48]byte // encryption, MAC, IV
	nonce  []byte   // of the request; 3.1 responses use it again
	used   atomic.Bool
}

// newEnvelope derives the keys from the ECDH result (32 bytes) and the ephemeral
// public key exactly as it was sent.
func newEnvelope(z []byte, ephemeral []byte, p EnvelopeParams) *envelope {
	e := &envelope{params: p}
	var info []byte
	if p.Version >= V32 {
		info = append(info, p.Version.String()...)
	}
	info = append(info, p.SharedInfo1...)
	info = append(info, ephemeral...)
	x963(e.keys[:], z, info)
	return e
}

// take makes the envelope's caller its only user.
func (e *envelope) take() bool { return e.used.CompareAndSwap(false, true) }

func (e *envelope) encryptionKey() *[16]byte { return (*[16]byte)(e.keys[:16]) }

// iv is zero in 3.0, later it comes from the message's nonce.
func (e *envelope) iv(nonce []byte) (iv [16]byte) {
	if e.params.Version == V30 {
		return iv
	}
	return kdfInternal32(e.keys[32:48], nonce)
}

func kdfInternal32(key, data []byte) [16]byte {
	mac := hmacShort(key, data)
	return fold(&mac)
}

// mac covers the ciphertext and shared info 2; ephemeral is nil in a response.
func (e *envelope) mac(ciphertext, nonce []byte, timestamp int64, ephemeral []byte) []byte {
	p := &e.params
	h := hmac.New(sha256.New, e.keys[16:32])
	h.Write(ciphertext)
	if p.Version < V32 {
		h.Write(p.SharedInfo2[:])
		return h.Sum(nil)
	}
	buf := make([]byte, 0, 512)
	buf = appendSized(buf, p.SharedInfo2[:])
	buf = appendSized(buf, nonce)
	buf = binary.BigEndian.AppendUint32(buf, 8)
	buf = binary.BigEndian.AppendUint64(buf, uint64(timestamp))
	buf = appendSized(buf, ephemeral)
	start := len(buf)
	buf = append(buf, 0, 0, 0, 0)
	buf = p.associatedData(buf)
	binary.BigEndian.PutUint32(buf[start:], uint32(len(buf)-start-4))
	h.Write(buf)
	return h.Sum(nil)
}

func (e *envelope) seal(plaintext, nonce []byte, timestamp int64, ephemeral []byte) (ciphertext, mac []byte) {
	iv := e.iv(nonce)
	ciphertext = encryptCBC(e.encryptionKey(), &iv, plaintext)
	return ciphertext, e.mac(ciphertext, nonce, timestamp, ephemeral)
}

// open checks the MAC before it touches the ciphertext.
func (e *envelope) open(ciphertext, mac, nonce []byte, timestamp int64, ephemeral []byte) ([]byte, error) {
	if !hmac.Equal(e.mac(ciphertext, nonce, timestamp, ephemeral), mac) {
		return nil, ErrEnvelopeOpen
	}
	iv := e.iv(nonce)
	plaintext, ok := decryptCBC(e.encryptionKey(), &iv, ciphertext)
	if !ok {
		return nil, ErrEnvelopeOpen
	}
	return plaintext, nil
}

func (e *envelope) wipe() { clear(e.keys[:]) }

func appendSized[T []byte | string](dst []byte, s T) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...)
}

// encryptCBC is AES-128-CBC with PKCS#7 padding.
func encryptCBC(key, iv *[16]byte, plaintext []byte) []byte {
	pad := 16 - len(plaintext)%16
	out := slices.Grow([]byte(nil), len(plaintext)+pad)
	out = append(out, plaintext...)
	for range pad {
		out = append(out, byte(pad))
	}
	cipher.NewCBCEncrypter(mustAES(key), iv[:]).CryptBlocks(out, out)
	return out
}

// decryptCBC reports bad padding only by ok; its input is authenticated.
func decryptCBC(key, iv *[16]byte, ciphertext []byte) (plaintext []byte, ok bool) {
	if len(ciphertext) == 0 || len(ciphertext)%16 != 0 {
		return nil, false
	}
	out := make([]byte, len(ciphertext))
	cipher.NewCBCDecrypter(mustAES(key), iv[:]).CryptBlocks(out, ciphertext)
	pad := int(out[len(out)-1])
	if pad == 0 || pad > 16 {
		return nil, false
	}
	for _, c := range out[len(out)-pad:] {
		if int(c) != pad {
			return nil, false
		}
	}
	return out[:len(out)-pad], true
}
