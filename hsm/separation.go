package hsm

import (
	"fmt"

	p11 "github.com/miekg/pkcs11"
)

// prober is what only the proof of separation calls of a module.
type prober interface {
	SignInit(p11.SessionHandle, []*p11.Mechanism, p11.ObjectHandle) error
	EncryptInit(p11.SessionHandle, []*p11.Mechanism, p11.ObjectHandle) error
	DecryptInit(p11.SessionHandle, []*p11.Mechanism, p11.ObjectHandle) error
	WrapKey(s p11.SessionHandle, m []*p11.Mechanism, wrapping, key p11.ObjectHandle) ([]byte, error)
	UnwrapKey(s p11.SessionHandle, m []*p11.Mechanism, unwrapping p11.ObjectHandle, wrapped []byte, t []*p11.Attribute) (p11.ObjectHandle, error)
	CopyObject(p11.SessionHandle, p11.ObjectHandle, []*p11.Attribute) (p11.ObjectHandle, error)
	SetAttributeValue(p11.SessionHandle, p11.ObjectHandle, []*p11.Attribute) error
}

// separation proves that the module keeps keys to their roles: it makes one
// throw-away key (a session object) for each kind of role and tries what no key of
// that role may do. A module that lets one of the 13 attempts pass is not served
// from. Keys of the token are not touched.
//
// What a module can not be asked (it makes no such session key) is returned by
// name: of its real keys the template is still read back, bit by bit.
type separation struct {
	api   api
	slot  uint
	have  map[uint]bool
	usage func(Role, half, Algorithm) []attribute

	unproven []string
}

// probes are the roles with each its kind of key; a role that is missing here has
// the template of another.
var probes = []struct {
	role Role
	alg  Algorithm
}{{RoleKEK, AES256}, {RoleMAC, HMACSHA256}, {RoleSigner, P256}, {RoleMaster, P256}}

func (p *separation) prove() error {
	s, err := p.api.OpenSession(p.slot, p11.CKF_SERIAL_SESSION)
	if err != nil {
		return err
	}
	defer func() { _ = p.api.CloseSession(s) }() // and with it all that was made
	for _, x := range probes {
		if !p.can(x.role, x.alg) {
			continue
		}
		key, err := p.throwAway(s, x.role, x.alg)
		if c := classify(err); c == classSession || c == classLogin {
			return err
		}
		if err != nil {
			p.unproven = append(p.unproven, fmt.Sprintf("%s: %v", x.role, err))
			continue
		}
		if err := p.tryAll(s, x.role, x.alg, key); err != nil {
			return err
		}
	}
	return nil
}

func (p *separation) can(r Role, a Algorithm) bool {
	for _, m := range append(roles[r].mechanisms(a), algorithms[a].generate) {
		if !p.have[m] {
			return false
		}
	}
	return true
}

// throwAway makes a session key from the role's template.
func (p *separation) throwAway(s p11.SessionHandle, r Role, a Algorithm) (key p11.ObjectHandle, err error) {
	spec := algorithms[a]
	m := []*p11.Mechanism{p11.NewMechanism(spec.generate, nil)}
	make := func(h half, class uint, optional bool, more ...*p11.Attribute) []*p11.Attribute {
		list := template(p.usage(r, h, a), optional, append(more, p11.NewAttribute(p11.CKA_CLASS, class), p11.NewAttribute(p11.CKA_KEY_TYPE, spec.keyType))...)
		for i, at := range list {
			if at.Type == p11.CKA_TOKEN {
				list[i] = p11.NewAttribute(p11.CKA_TOKEN, false)
			}
		}
		return list
	}
	for _, optional := range []bool{true, false} {
		if spec.secret != 0 {
			key, err = p.api.GenerateKey(s, m, make(halfSecret, p11.CKO_SECRET_KEY, optional, p11.NewAttribute(p11.CKA_VALUE_LEN, spec.secret)))
		} else {
			_, key, err = p.api.GenerateKeyPair(s, m,
				make(halfPublic, p11.CKO_PUBLIC_KEY, optional, p11.NewAttribute(p11.CKA_EC_PARAMS, spec.curve)), make(halfPrivate, p11.CKO_PRIVATE_KEY, optional))
		}
		if err == nil || !notKnown(err) {
			break
		}
	}
	return key, err
}

// helper makes an AES session key with one usage bit.
func (p *separation) helper(s p11.SessionHandle, bit uint) (p11.ObjectHandle, error) {
	return p.api.GenerateKey(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_GEN, nil)}, []*p11.Attribute{
		p11.NewAttribute(p11.CKA_TOKEN, false), p11.NewAttribute(p11.CKA_VALUE_LEN, 32), p11.NewAttribute(bit, true),
	})
}

// usageBits are what a key could gain.
var usageBits = []uint{p11.CKA_WRAP, p11.CKA_UNWRAP, p11.CKA_ENCRYPT, p11.CKA_DECRYPT, p11.CKA_SIGN, p11.CKA_DERIVE}

// tryAll makes the 13 attempts on one key.
func (p *separation) tryAll(s p11.SessionHandle, r Role, a Algorithm, key p11.ObjectHandle) error {
	is := roles[r]
	secret := algorithms[a].secret != 0
	wrapper, err := p.helper(s, p11.CKA_WRAP)
	victim, err2 := p.helper(s, p11.CKA_EXTRACTABLE)
	canWrap := err == nil && err2 == nil && p.have[p11.CKM_AES_KEY_WRAP]
	params := p11.NewGCMParams(make([]byte, nonceLen), []byte("a"), tagLen*8)
	defer params.Free()
	gcm := []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_GCM, params)}
	plain := func(m uint) []*p11.Mechanism { return []*p11.Mechanism{p11.NewMechanism(m, nil)} }
	wrap, sign := plain(p11.CKM_AES_KEY_WRAP), plain(p11.CKM_SHA256_HMAC)
	if !secret {
		sign = plain(p11.CKM_ECDSA)
	}
	session := p11.NewAttribute(p11.CKA_TOKEN, false)
	attempts := []struct {
		what    string
		allowed bool
		do      func(p11.SessionHandle) error
	}{
		{"be read", false, func(s p11.SessionHandle) error {
			v, err := p.api.GetAttributeValue(s, key, []*p11.Attribute{p11.NewAttribute(p11.CKA_VALUE, nil)})
			if err == nil && len(v[0].Value) == 0 {
				return errNothing
			}
			return err
		}},
		{"be wrapped", !canWrap, func(s p11.SessionHandle) error { _, err := p.api.WrapKey(s, wrap, wrapper, key); return err }},
		{"wrap", !canWrap, func(s p11.SessionHandle) error { _, err := p.api.WrapKey(s, wrap, key, victim); return err }},
		{"unwrap", !p.have[p11.CKM_AES_KEY_WRAP], func(s p11.SessionHandle) error {
			// Not a wrapped key: what tells is whether the module looks at it at all.
			_, err := p.api.UnwrapKey(s, wrap, key, make([]byte, 40), []*p11.Attribute{
				p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_AES), session,
			})
			if err == p11.Error(p11.CKR_WRAPPED_KEY_INVALID) {
				return nil
			}
			return err
		}},
		{"encrypt", is.encrypt, func(s p11.SessionHandle) error { return p.api.EncryptInit(s, gcm, key) }},
		{"decrypt", is.encrypt, func(s p11.SessionHandle) error { return p.api.DecryptInit(s, gcm, key) }},
		{"sign", is.sign, func(s p11.SessionHandle) error { return p.api.SignInit(s, sign, key) }},
		{"derive", is.derive, func(s p11.SessionHandle) error {
			ecdh := p11.NewMechanism(p11.CKM_ECDH1_DERIVE, p11.NewECDH1DeriveParams(p11.CKD_NULL, nil, p256Generator))
			_, err := p.api.DeriveKey(s, []*p11.Mechanism{ecdh}, key, []*p11.Attribute{
				p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_GENERIC_SECRET),
				p11.NewAttribute(p11.CKA_VALUE_LEN, 32), session,
			})
			return err
		}},
		{"be copied into a key that can be read", false, func(s p11.SessionHandle) error {
			for _, weaker := range []*p11.Attribute{p11.NewAttribute(p11.CKA_EXTRACTABLE, true), p11.NewAttribute(p11.CKA_SENSITIVE, false)} {
				c, err := p.api.CopyObject(s, key, []*p11.Attribute{session, weaker})
				if err != nil {
					continue
				}
				if p.is(s, c, weaker.Type, weaker.Value[0]) {
					return nil
				}
			}
			return errNothing
		}},
		{"gain EXTRACTABLE", false, func(s p11.SessionHandle) error { return p.gain(s, key, p11.CKA_EXTRACTABLE, true) }},
		{"lose SENSITIVE", false, func(s p11.SessionHandle) error { return p.gain(s, key, p11.CKA_SENSITIVE, false) }},
		{"gain another use", false, func(s p11.SessionHandle) error {
			for _, bit := range usageBits {
				if !p.is(s, key, bit, 0) {
					continue
				}
				if err := p.gain(s, key, bit, true); err == nil {
					return nil
				}
			}
			return errNothing
		}},
		{"gain MODIFIABLE", false, func(s p11.SessionHandle) error { return p.gain(s, key, p11.CKA_MODIFIABLE, true) }},
	}
	for _, at := range attempts {
		if at.allowed {
			continue
		}
		// In a session of its own: what was begun stays active in it.
		own, err := p.api.OpenSession(p.slot, p11.CKF_SERIAL_SESSION)
		if err != nil {
			return err
		}
		err = at.do(own)
		_ = p.api.CloseSession(own)
		switch c := classify(err); {
		case err == nil:
			return fmt.Errorf("%w: a key of role %s can %s", ErrSeparation, r, at.what)
		case c == classSession || c == classLogin || c == classPIN:
			return err // it was not refused but lost
		}
	}
	return nil
}

// errNothing stands for an attempt that the module let pass without effect.
var errNothing = fmt.Errorf("%w: without effect", ErrRefused)

// gain tries to change an attribute, and looks whether it did.
func (p *separation) gain(s p11.SessionHandle, key p11.ObjectHandle, typ uint, value bool) error {
	want := p11.NewAttribute(typ, value)
	if err := p.api.SetAttributeValue(s, key, []*p11.Attribute{want}); err != nil {
		return err
	}
	if !p.is(s, key, typ, want.Value[0]) {
		return errNothing
	}
	return nil
}

func (p *separation) is(s p11.SessionHandle, key p11.ObjectHandle, typ uint, value byte) bool {
	v, err := p.api.GetAttributeValue(s, key, []*p11.Attribute{p11.NewAttribute(typ, nil)})
	return err == nil && len(v[0].Value) == 1 && v[0].Value[0] == value
}

// p256Generator is the base point of P-256, as a DER OCTET STRING.
var p256Generator = append([]byte{0x04, 0x41}, pointG...)

var pointG = []byte{
	0x04,
	0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2,
	0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96,
	0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16,
	0x2b, 0xce, 0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5,
}
