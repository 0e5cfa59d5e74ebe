package hsm

import (
	"context"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"
)

const (
	nonceLen = 12
	tagLen   = 16
)

// AEAD is an AES-256-GCM key in the token. One key may seal 2^32 times, the
// bound for random 96-bit nonces; callers seal data keys with it, not rows.
type AEAD struct {
	token *Token
	key   *entry
}

// AEAD returns a handle for a key of RoleKEK.
func (t *Token) AEAD(ctx context.Context, ref Ref) (*AEAD, error) {
	e, err := t.entry(ctx, ref)
	if err != nil {
		return nil, err
	}
	if e.info.Algorithm != AES256 {
		return nil, wrongRole(ref, "encryption")
	}
	return &AEAD{t, e}, nil
}

// Info describes the key.
func (a *AEAD) Info() KeyInfo { return a.key.info }

// Seal returns nonce (12 bytes) || ciphertext || tag (16 bytes). aad must not be
// empty: a sealed value that is bound to nothing can be moved anywhere.
func (a *AEAD) Seal(ctx context.Context, plaintext, aad []byte) ([]byte, error) {
	if len(aad) == 0 {
		return nil, fmt.Errorf("hsm: %w: sealing needs associated data", ErrUnsupported)
	}
	var blob []byte
	err := a.token.do(ctx, call{mechanism: "gcm-seal", key: a.key, run: func(s p11.SessionHandle, at located) (err error) {
		blob, err = a.token.seal(s, at.private, plaintext, aad)
		return err
	}})
	return blob, err
}

// Open is the inverse of Seal. ErrTag means that the blob or aad is not what was
// sealed, or was sealed under another key; it is only said after the key has
// proved that it works, never because of an outage.
func (a *AEAD) Open(ctx context.Context, blob, aad []byte) ([]byte, error) {
	if len(aad) == 0 {
		return nil, fmt.Errorf("hsm: %w: opening needs associated data", ErrUnsupported)
	}
	if len(blob) < nonceLen+tagLen {
		return nil, fmt.Errorf("hsm: %w: sealed value of %d bytes", ErrTag, len(blob))
	}
	var plain []byte
	err := a.token.do(ctx, call{mechanism: "gcm-open", key: a.key, run: func(s p11.SessionHandle, at located) (err error) {
		plain, err = a.token.open(s, at.private, blob, aad)
		return err
	}})
	if err == nil {
		return plain, nil
	}
	if c := classify(err); c != classRefused && c != classToken && c != classOther || !isReturnValue(err) {
		return nil, err
	}
	// Modules answer a wrong tag with whatever they like, SoftHSM with
	// GENERAL_ERROR. So ask the key itself.
	if perr := a.probe(ctx); perr != nil {
		return nil, errors.Join(err, perr)
	}
	return nil, fmt.Errorf("hsm: gcm-open: %w: %w", ErrTag, cause(err))
}

// probe seals and opens a fixed text.
func (a *AEAD) probe(ctx context.Context) error {
	return a.token.do(ctx, call{mechanism: "gcm-probe", key: a.key, run: func(s p11.SessionHandle, at located) error {
		return a.token.probeSeal(s, at.private)
	}})
}

func (t *Token) probeSeal(s p11.SessionHandle, key p11.ObjectHandle) error {
	const text, aad = "signet probe", "signet probe aad"
	blob, err := t.seal(s, key, []byte(text), []byte(aad))
	if err != nil {
		return err
	}
	plain, err := t.open(s, key, blob, []byte(aad))
	if err != nil {
		return err
	}
	if string(plain) != text {
		return fmt.Errorf("%w: GCM does not open what it sealed", ErrSelfTest)
	}
	return nil
}

func (t *Token) seal(s p11.SessionHandle, key p11.ObjectHandle, plaintext, aad []byte) ([]byte, error) {
	nonce, err := t.mod.ctx.GenerateRandom(s, nonceLen)
	if err != nil {
		return nil, err
	}
	params := p11.NewGCMParams(nonce, aad, tagLen*8)
	defer params.Free()
	if err := t.mod.ctx.EncryptInit(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_GCM, params)}, key); err != nil {
		return nil, err
	}
	sealed, err := t.mod.ctx.Encrypt(s, plaintext)
	if err != nil {
		return nil, err
	}
	// A FIPS module takes its own nonce and writes it back.
	if nonce = params.IV(); len(nonce) != nonceLen || len(sealed) != len(plaintext)+tagLen {
		return nil, fmt.Errorf("%w: nonce of %d, sealed value of %d bytes", ErrRefused, len(nonce), len(sealed))
	}
	return append(nonce, sealed...), nil
}

func (t *Token) open(s p11.SessionHandle, key p11.ObjectHandle, blob, aad []byte) ([]byte, error) {
	params := p11.NewGCMParams(blob[:nonceLen], aad, tagLen*8)
	defer params.Free()
	if err := t.mod.ctx.DecryptInit(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_GCM, params)}, key); err != nil {
		return nil, err
	}
	return t.mod.ctx.Decrypt(s, blob[nonceLen:])
}

// cause digs the module's answer out, leaving fault sentinels behind.
func cause(err error) error {
	var rv p11.Error
	if errors.As(err, &rv) {
		return rv
	}
	return err
}
