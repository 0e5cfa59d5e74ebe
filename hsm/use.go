package hsm

import (
	"context"
	"crypto"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"github.com/signet-hsm/signet/hsm/internal/cryptoki"
)

// Sign implements Engine.
func (t *local) Sign(ctx context.Context, k Key, m Mechanism, dst, in []byte) ([]byte, error) {
	raw, prefix, err := m.raw(in)
	if err != nil {
		return nil, err
	}
	if !t.mechanisms[raw.typ] {
		return nil, fmt.Errorf("hsm: %w: the token has no mechanism 0x%x", ErrUnsupported, raw.typ)
	}
	return t.use(ctx, k, dst, call{op: OpSign, mechanism: raw, prefix: prefix, in: in})
}

// MAC implements Engine.
func (t *local) MAC(ctx context.Context, k Key, dst, msg []byte) ([]byte, error) {
	return t.use(ctx, k, dst, call{op: OpMAC, mechanism: hmacMechanism, in: msg})
}

// Seal implements Engine.
func (t *local) Seal(ctx context.Context, k Key, dst, plaintext, aad []byte) ([]byte, error) {
	return t.use(ctx, k, dst, call{op: OpSeal, in: plaintext, aad: aad})
}

// Unseal implements Engine.
func (t *local) Unseal(ctx context.Context, k Key, dst, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < nonceLen+tagLen {
		return nil, fmt.Errorf("hsm: %w: sealed value of %d bytes", ErrTag, len(sealed))
	}
	out, err := t.use(ctx, k, dst, call{op: OpUnseal, nonce: sealed[:nonceLen], in: sealed[nonceLen:], aad: aad})
	if err == nil {
		return out, nil
	}
	if c := classify(err); c != classRefused && c != classToken && c != classOther || !isReturnValue(err) {
		return nil, err
	}
	// Modules answer a wrong tag with whatever they like, SoftHSM with
	// GENERAL_ERROR. So ask the key itself: seal and open a fixed text.
	const text, about = "signet probe", "signet probe aad"
	blob, perr := t.use(ctx, k, nil, call{op: OpSeal, in: []byte(text), aad: []byte(about)})
	if perr == nil {
		blob, perr = t.use(ctx, k, nil, call{op: OpUnseal, nonce: blob[:nonceLen], in: blob[nonceLen:], aad: []byte(about)})
	}
	if perr == nil && string(blob) != text {
		perr = fmt.Errorf("hsm: %w: GCM does not open what it sealed", ErrSelfTest)
	}
	if perr != nil {
		return nil, errors.Join(err, perr)
	}
	return nil, fmt.Errorf("hsm: gcm-open: %w: %w", ErrTag, cause(err))
}

// cause digs the module's answer out, leaving fault sentinels behind.
func cause(err error) error {
	var rv p11.Error
	if errors.As(err, &rv) {
		return rv
	}
	return err
}

// Agree implements Engine.
func (t *local) Agree(ctx context.Context, k Key, dst, point []byte) ([]byte, error) {
	if !t.mechanisms[p11.CKM_ECDH1_DERIVE] {
		return nil, fmt.Errorf("hsm: %w: the token has no ECDH", ErrUnsupported)
	}
	e, err := t.entry(ctx, k)
	if err != nil {
		return nil, err
	}
	point = append([]byte(nil), point...)
	_, z, err := t.do(ctx, &call{op: OpAgree, key: e, run: func(l *lane) (any, error) {
		at, err := t.locate(l, e, l.inst.slot.epoch.Load())
		if err != nil {
			return nil, err
		}
		return l.inst.derive(l.session, at.private, point)
	}}, nil)
	if err != nil {
		return nil, err
	}
	return append(dst, z.([]byte)...), nil
}

// use makes one call with a key.
func (t *local) use(ctx context.Context, k Key, dst []byte, c call) (out []byte, err error) {
	if c.key, err = t.entry(ctx, k); err != nil {
		return nil, err
	}
	out, _, err = t.do(ctx, &c, dst)
	return out, err
}

var hmacMechanism = rawMechanism{typ: p11.CKM_SHA256_HMAC}

// raw returns what C_SignInit is given, and what stands before the digest.
func (m Mechanism) raw(in []byte) (raw rawMechanism, prefix []byte, err error) {
	if m.Scheme == SchemeEdDSA {
		return rawMechanism{typ: ckmEDDSA}, nil, nil
	}
	if err := checkDigest(m.Hash, in); err != nil {
		return raw, nil, err
	}
	switch m.Scheme {
	case SchemeECDSA:
		return rawMechanism{typ: p11.CKM_ECDSA}, nil, nil
	case SchemePKCS1v15:
		return rawMechanism{typ: p11.CKM_RSA_PKCS}, digestInfo[m.Hash], nil
	case SchemePSS:
		if m.Salt >= 0 && m.Salt <= 512 { // the module knows the key's limit
			raw = rawMechanism{typ: p11.CKM_RSA_PKCS_PSS, salt: uint(m.Salt)}
			switch m.Hash {
			case crypto.SHA384:
				raw.hash, raw.mgf = p11.CKM_SHA384, p11.CKG_MGF1_SHA384
			case crypto.SHA512:
				raw.hash, raw.mgf = p11.CKM_SHA512, p11.CKG_MGF1_SHA512
			default:
				raw.hash, raw.mgf = p11.CKM_SHA256, p11.CKG_MGF1_SHA256
			}
			return raw, nil, nil
		}
	}
	return raw, nil, fmt.Errorf("hsm: %w: %+v", ErrUnsupported, m)
}

// sign is for keys that are not in service yet: in the caller's session.
func (in *instance) sign(j *cryptoki.Job, s p11.SessionHandle, m uint, key p11.ObjectHandle, parts ...[]byte) ([]byte, error) {
	j.Put(parts...)
	return in.mod.ctx.SignOnce(j, s, key, rawMechanism{typ: m})
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

func (in *instance) derive(s p11.SessionHandle, key p11.ObjectHandle, point []byte) ([]byte, error) {
	m := []*p11.Mechanism{p11.NewMechanism(p11.CKM_ECDH1_DERIVE, p11.NewECDH1DeriveParams(p11.CKD_NULL, nil, point))}
	h, err := in.mod.ctx.DeriveKey(s, m, key, zTemplate())
	if err != nil {
		return nil, err
	}
	v, err := in.attributes(s, h, p11.CKA_VALUE)
	if derr := in.mod.ctx.DestroyObject(s, h); err == nil {
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
