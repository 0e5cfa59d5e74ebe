package hsm

import (
	"context"
	"fmt"
	"time"
)

const (
	nonceLen = 12
	tagLen   = 16
)

// AEAD is an AES-256-GCM key in the token. One key may seal 2^32 times, the
// bound for random 96-bit nonces; callers seal data keys with it, not rows.
type AEAD struct {
	token *Token
	key   *known
}

// AEAD returns a handle for a key of RoleKEK.
func (t *Token) AEAD(ctx context.Context, ref Ref) (*AEAD, error) {
	k, err := t.known(ctx, ref)
	if err != nil {
		return nil, err
	}
	if k.info.Algorithm != AES256 {
		return nil, wrongRole(ref, "encryption")
	}
	return &AEAD{t, k}, nil
}

// Info describes the key.
func (a *AEAD) Info() KeyInfo { return a.key.info }

// Seal returns nonce (12 bytes) || ciphertext || tag (16 bytes). aad must not be
// empty: a sealed value that is bound to nothing can be moved anywhere.
func (a *AEAD) Seal(ctx context.Context, plaintext, aad []byte) ([]byte, error) {
	return a.AppendSeal(ctx, make([]byte, 0, nonceLen+len(plaintext)+tagLen), plaintext, aad)
}

// AppendSeal is Seal that appends to dst; with room there it allocates nothing.
func (a *AEAD) AppendSeal(ctx context.Context, dst, plaintext, aad []byte) ([]byte, error) {
	if len(aad) == 0 {
		return nil, fmt.Errorf("hsm: %w: sealing needs associated data", ErrUnsupported)
	}
	start := time.Now()
	out, err := a.token.engine.Seal(ctx, a.key.key, dst, plaintext, aad)
	a.token.used(a.key, OpSeal, 0, start, err)
	return out, err
}

// Open is the inverse of Seal. ErrTag means that the blob or aad is not what was
// sealed, or was sealed under another key; it is only said after the key has
// proved that it works, never because of an outage.
func (a *AEAD) Open(ctx context.Context, blob, aad []byte) ([]byte, error) {
	return a.AppendOpen(ctx, make([]byte, 0, max(0, len(blob)-nonceLen)), blob, aad)
}

// AppendOpen is Open that appends to dst; with room there for the plaintext and
// a tag it allocates nothing.
func (a *AEAD) AppendOpen(ctx context.Context, dst, blob, aad []byte) ([]byte, error) {
	if len(aad) == 0 {
		return nil, fmt.Errorf("hsm: %w: opening needs associated data", ErrUnsupported)
	}
	if len(blob) < nonceLen+tagLen {
		return nil, fmt.Errorf("hsm: %w: sealed value of %d bytes", ErrTag, len(blob))
	}
	start := time.Now()
	out, err := a.token.engine.Unseal(ctx, a.key.key, dst, blob, aad)
	a.token.used(a.key, OpUnseal, 0, start, err)
	return out, err
}
