package hsm

import (
	"context"
	"crypto/ecdh"
	"fmt"

	p11 "github.com/miekg/pkcs11"
)

// Agreement is a P-256 private key in the token that makes shared secrets.
type Agreement struct {
	token *Token
	key   *entry
}

// Agreement returns a handle for ECDH with a key of RoleMaster.
func (t *Token) Agreement(ctx context.Context, ref Ref) (*Agreement, error) {
	e, err := t.entry(ctx, ref)
	if err != nil {
		return nil, err
	}
	if !roles[ref.Role].derive {
		return nil, wrongRole(ref, "key agreement")
	}
	if !t.mechanisms[p11.CKM_ECDH1_DERIVE] {
		return nil, fmt.Errorf("hsm: %w: the token has no ECDH", ErrUnsupported)
	}
	return &Agreement{t, e}, nil
}

// Info describes the key.
func (a *Agreement) Info() KeyInfo { return a.key.info }

// zTemplate is the object that holds Z until it is read: a session object that
// may leave, in the session that the call owns, destroyed in the same call.
func zTemplate() []*p11.Attribute {
	return []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY),
		p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_GENERIC_SECRET),
		p11.NewAttribute(p11.CKA_VALUE_LEN, 32),
		p11.NewAttribute(p11.CKA_TOKEN, false),
		p11.NewAttribute(p11.CKA_PRIVATE, true),
		p11.NewAttribute(p11.CKA_SENSITIVE, false),
		p11.NewAttribute(p11.CKA_EXTRACTABLE, true),
		p11.NewAttribute(p11.CKA_SIGN, false),
		p11.NewAttribute(p11.CKA_VERIFY, false),
		p11.NewAttribute(p11.CKA_ENCRYPT, false),
		p11.NewAttribute(p11.CKA_DECRYPT, false),
		p11.NewAttribute(p11.CKA_WRAP, false),
		p11.NewAttribute(p11.CKA_UNWRAP, false),
		p11.NewAttribute(p11.CKA_DERIVE, false),
	}
}

// ECDH returns the 32-byte x-coordinate of the shared point. peer must be P-256;
// crypto/ecdh has already checked that it is on the curve.
func (a *Agreement) ECDH(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error) {
	if peer == nil || peer.Curve() != ecdh.P256() {
		return nil, fmt.Errorf("hsm: %w: the peer's key must be P-256", ErrUnsupported)
	}
	point := peer.Bytes()
	var z []byte
	err := a.token.do(ctx, call{mechanism: "ecdh", key: a.key, run: func(s p11.SessionHandle, at located) (err error) {
		z, err = a.token.derive(s, at.private, point)
		return err
	}})
	return z, err
}

func (t *Token) derive(s p11.SessionHandle, key p11.ObjectHandle, point []byte) ([]byte, error) {
	m := []*p11.Mechanism{p11.NewMechanism(p11.CKM_ECDH1_DERIVE, p11.NewECDH1DeriveParams(p11.CKD_NULL, nil, point))}
	h, err := t.mod.ctx.DeriveKey(s, m, key, zTemplate())
	if err != nil {
		return nil, err
	}
	v, err := t.attributes(s, h, p11.CKA_VALUE)
	if derr := t.mod.ctx.DestroyObject(s, h); err == nil {
		err = derr // the session is dropped for it, and the object goes with the session
	}
	if err != nil {
		return nil, err
	}
	if len(v[0]) != 32 {
		return nil, fmt.Errorf("%w: shared secret of %d bytes", ErrRefused, len(v[0]))
	}
	return v[0], nil
}
