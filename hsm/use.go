package hsm

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"

	p11 "github.com/miekg/pkcs11"
)

// Sign implements Engine.
func (t *local) Sign(ctx context.Context, k Key, m Mechanism, dst, in []byte) ([]byte, error) {
	mech, in, err := m.raw(in)
	if err != nil {
		return nil, err
	}
	if !t.mechanisms[mech[0].Mechanism] {
		return nil, fmt.Errorf("hsm: %w: the token has no mechanism 0x%x", ErrUnsupported, mech[0].Mechanism)
	}
	return t.use(ctx, OpSign, k, dst, func(s p11.SessionHandle, key p11.ObjectHandle) ([]byte, error) {
		return t.sign(s, mech, key, in)
	})
}

// MAC implements Engine.
func (t *local) MAC(ctx context.Context, k Key, dst, msg []byte) ([]byte, error) {
	return t.use(ctx, OpMAC, k, dst, func(s p11.SessionHandle, key p11.ObjectHandle) ([]byte, error) {
		mac, err := t.sign(s, hmacMechanism, key, msg)
		if err == nil && len(mac) != macLen {
			return nil, fmt.Errorf("%w: HMAC of %d bytes", ErrRefused, len(mac))
		}
		return mac, err
	})
}

// use runs f with one key on a lane and appends what it returns to dst.
func (t *local) use(ctx context.Context, op Op, k Key, dst []byte, f func(p11.SessionHandle, p11.ObjectHandle) ([]byte, error)) ([]byte, error) {
	e, err := t.entry(ctx, k)
	if err != nil {
		return nil, err
	}
	var out []byte
	err = t.do(ctx, call{op: op, key: e, run: func(s p11.SessionHandle, at located) (err error) {
		out, err = f(s, at.private)
		return err
	}})
	if err != nil {
		return nil, err
	}
	return append(dst, out...), nil
}

// Mechanisms without parameters are shared: nothing writes to them.
var (
	ecdsaMechanism = []*p11.Mechanism{p11.NewMechanism(p11.CKM_ECDSA, nil)}
	eddsaMechanism = []*p11.Mechanism{p11.NewMechanism(ckmEDDSA, nil)}
	pkcs1Mechanism = []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_PKCS, nil)}
	hmacMechanism  = []*p11.Mechanism{p11.NewMechanism(p11.CKM_SHA256_HMAC, nil)}
)

// raw returns what C_SignInit and C_Sign are given.
func (m Mechanism) raw(in []byte) ([]*p11.Mechanism, []byte, error) {
	if m.Scheme == SchemeEdDSA {
		return eddsaMechanism, in, nil
	}
	if err := checkDigest(m.Hash, in); err != nil {
		return nil, nil, err
	}
	switch m.Scheme {
	case SchemeECDSA:
		return ecdsaMechanism, in, nil
	case SchemePKCS1v15:
		return pkcs1Mechanism, slices.Concat(digestInfo[m.Hash], in), nil
	case SchemePSS:
		if m.Salt >= 0 && m.Salt <= 512 { // the module knows the key's limit
			return []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_PKCS_PSS, m.pss())}, in, nil
		}
	}
	return nil, nil, fmt.Errorf("hsm: %w: %+v", ErrUnsupported, m)
}

func (m Mechanism) pss() []byte {
	switch m.Hash {
	case crypto.SHA384:
		return p11.NewPSSParams(p11.CKM_SHA384, p11.CKG_MGF1_SHA384, uint(m.Salt))
	case crypto.SHA512:
		return p11.NewPSSParams(p11.CKM_SHA512, p11.CKG_MGF1_SHA512, uint(m.Salt))
	}
	return p11.NewPSSParams(p11.CKM_SHA256, p11.CKG_MGF1_SHA256, uint(m.Salt))
}

func (t *local) sign(s p11.SessionHandle, m []*p11.Mechanism, key p11.ObjectHandle, in []byte) ([]byte, error) {
	if err := t.mod.ctx.SignInit(s, m, key); err != nil {
		return nil, err
	}
	return t.mod.ctx.Sign(s, in)
}

// Seal implements Engine.
func (t *local) Seal(ctx context.Context, k Key, dst, plaintext, aad []byte) ([]byte, error) {
	return t.use(ctx, OpSeal, k, dst, func(s p11.SessionHandle, key p11.ObjectHandle) ([]byte, error) {
		return t.seal(s, key, plaintext, aad)
	})
}

// Unseal implements Engine.
func (t *local) Unseal(ctx context.Context, k Key, dst, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < nonceLen+tagLen {
		return nil, fmt.Errorf("hsm: %w: sealed value of %d bytes", ErrTag, len(sealed))
	}
	out, err := t.use(ctx, OpUnseal, k, dst, func(s p11.SessionHandle, key p11.ObjectHandle) ([]byte, error) {
		return t.open(s, key, sealed, aad)
	})
	if err == nil {
		return out, nil
	}
	if c := classify(err); c != classRefused && c != classToken && c != classOther || !isReturnValue(err) {
		return nil, err
	}
	// Modules answer a wrong tag with whatever they like, SoftHSM with
	// GENERAL_ERROR. So ask the key itself: seal and open a fixed text.
	_, perr := t.use(ctx, OpUnseal, k, nil, func(s p11.SessionHandle, key p11.ObjectHandle) ([]byte, error) {
		return nil, t.probeSeal(s, key)
	})
	if perr != nil {
		return nil, errors.Join(err, perr)
	}
	return nil, fmt.Errorf("hsm: gcm-open: %w: %w", ErrTag, cause(err))
}

func (t *local) probeSeal(s p11.SessionHandle, key p11.ObjectHandle) error {
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

func (t *local) seal(s p11.SessionHandle, key p11.ObjectHandle, plaintext, aad []byte) ([]byte, error) {
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

func (t *local) open(s p11.SessionHandle, key p11.ObjectHandle, blob, aad []byte) ([]byte, error) {
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

// Agree implements Engine.
func (t *local) Agree(ctx context.Context, k Key, dst, point []byte) ([]byte, error) {
	if !t.mechanisms[p11.CKM_ECDH1_DERIVE] {
		return nil, fmt.Errorf("hsm: %w: the token has no ECDH", ErrUnsupported)
	}
	return t.use(ctx, OpAgree, k, dst, func(s p11.SessionHandle, key p11.ObjectHandle) ([]byte, error) {
		return t.derive(s, key, point)
	})
}

func (t *local) derive(s p11.SessionHandle, key p11.ObjectHandle, point []byte) ([]byte, error) {
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
