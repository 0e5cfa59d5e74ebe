package hsm

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"github.com/signet-hsm/signet/internal/secret"
)

// WrapKeyLen is the length of the key that wraps a backup: AES-256.
const WrapKeyLen = 32

// ckmAESKeyWrapKWP is RFC 5649 in PKCS#11 3.0; CKM_AES_KEY_WRAP_PAD of 2.40 is the
// same in SoftHSM.
const ckmAESKeyWrapKWP = 0x210b

// GenerateBacked makes a key of which a wrapped copy exists. No key on the token
// can ever be wrapped, this one included: the key is born as a session object that
// may be, is wrapped once, and ends with the session; what stays on the token is
// the copy, unwrapped under the template of its role, which is not extractable.
// So the key in use has itself been restored from its backup, and differs from one
// of Generate in what it can say of its birth only (LOCAL, ALWAYS_SENSITIVE and
// NEVER_EXTRACTABLE are false). wrapKey is AES-256; the module holds it for the
// length of the call as two session objects, one that wraps and one that unwraps.
//
// Errors and repeats are those of Token.Generate.
func (o *Officer) GenerateBacked(ctx context.Context, ref Ref, alg Algorithm, id [16]byte, wrapKey secret.Bytes) (KeyInfo, []byte, error) {
	if err := o.admits(ref, alg, id, wrapKey); err != nil {
		return KeyInfo{}, nil, err
	}
	type backed struct {
		e       *entry
		wrapped []byte
	}
	v, err := o.t.write(ctx, "generate", func(l *lane, s p11.SessionHandle) (any, error) {
		in := l.inst
		if err := in.free(s, ref, id); err != nil {
			return nil, err
		}
		key, public, err := in.sessionKey(s, ref, alg)
		if err != nil {
			return nil, err
		}
		with, err := in.importWrapKey(s, wrapKey, p11.CKA_WRAP)
		if err != nil {
			return nil, err
		}
		wrapped, err := in.mod.ctx.WrapKey(s, o.wrapping(), with, key)
		if err == p11.Error(p11.CKR_KEY_NOT_WRAPPABLE) { // SoftHSM and Ed25519
			return nil, fmt.Errorf("%w: the token wraps no %s key: choose another algorithm or the maker's way of backup: %w", ErrUnsupported, alg, err)
		}
		if err != nil {
			return nil, err
		}
		if err := errors.Join(in.mod.ctx.DestroyObject(s, with), in.mod.ctx.DestroyObject(s, key)); err != nil {
			return nil, err
		}
		e, err := o.install(l, s, KeyInfo{Ref: ref, ID: id, Algorithm: alg, Public: public}, wrapKey, wrapped)
		return backed{e, wrapped}, err
	})
	if err != nil {
		return KeyInfo{}, nil, err
	}
	b := v.(backed)
	return o.t.index.put(b.e).info, b.wrapped, nil
}

// Restore puts a key back from what GenerateBacked wrapped, under its old label and
// id, on a token that has neither. The key signs for the given public key before
// it counts (nil for secret keys), else nothing stays: ErrSelfTest.
func (o *Officer) Restore(ctx context.Context, k KeyInfo, wrapKey secret.Bytes, wrapped []byte) (KeyInfo, error) {
	if err := o.admits(k.Ref, k.Algorithm, k.ID, wrapKey); err != nil {
		return KeyInfo{}, err
	}
	if (k.Public == nil) != (algorithms[k.Algorithm].secret != 0) {
		return KeyInfo{}, fmt.Errorf("hsm: %w: %s: public half", ErrRefused, k.Ref)
	}
	v, err := o.t.write(ctx, "restore", func(l *lane, s p11.SessionHandle) (any, error) {
		if err := l.inst.free(s, k.Ref, k.ID); err != nil {
			return nil, err
		}
		return o.install(l, s, k, wrapKey, wrapped)
	})
	if err != nil {
		return KeyInfo{}, err
	}
	return o.t.index.put(v.(*entry)).info, nil
}

func (o *Officer) admits(ref Ref, alg Algorithm, id [16]byte, wrapKey secret.Bytes) error {
	if err := ref.Validate(); err != nil {
		return err
	}
	spec, known := algorithms[alg]
	switch {
	case !known || !roles[ref.Role].allows(alg):
		return fmt.Errorf("hsm: %w: role %s does not allow %q", ErrUnsupported, ref.Role, alg)
	case wrapKey.Len() != WrapKeyLen || id == [16]byte{}:
		return fmt.Errorf("hsm: %w: a backup needs an id and a wrapping key of %d bytes", ErrConfig, WrapKeyLen)
	case o.wrapping() == nil:
		return fmt.Errorf("hsm: %w: the token has no AES key wrap with padding (RFC 5649): use the maker's way of backup", ErrUnsupported)
	}
	for _, m := range append(roles[ref.Role].mechanisms(alg), spec.generate) {
		if !o.t.mechanisms[m] {
			return fmt.Errorf("hsm: %w: the token has no mechanism 0x%x, which %s needs", ErrUnsupported, m, alg)
		}
	}
	return nil
}

func (o *Officer) wrapping() []*p11.Mechanism {
	for _, m := range []uint{ckmAESKeyWrapKWP, p11.CKM_AES_KEY_WRAP_PAD} {
		if o.t.mechanisms[m] {
			return []*p11.Mechanism{p11.NewMechanism(m, nil)}
		}
	}
	return nil
}

// free refuses a label or an id that is taken.
func (in *instance) free(s p11.SessionHandle, ref Ref, id [16]byte) error {
	for _, a := range identity(ref, id) {
		taken, err := in.find(s, []*p11.Attribute{a})
		if err != nil {
			return err
		}
		if len(taken) > 0 {
			return fmt.Errorf("%w: %s", ErrExists, ref)
		}
	}
	return nil
}

func identity(ref Ref, id [16]byte) []*p11.Attribute {
	return []*p11.Attribute{p11.NewAttribute(p11.CKA_LABEL, ref.String()), p11.NewAttribute(p11.CKA_ID, id[:])}
}

// sessionKey makes the extractable key that lives as long as the session. It has
// no label, so that nothing takes it for the key it is going to be.
func (in *instance) sessionKey(s p11.SessionHandle, ref Ref, alg Algorithm) (p11.ObjectHandle, crypto.PublicKey, error) {
	r, spec := roles[ref.Role], algorithms[alg]
	change := func(list []attribute) (out []*p11.Attribute) {
		for _, a := range list {
			switch {
			case a.born || a.optional || a.typ == p11.CKA_TOKEN || a.typ == p11.CKA_EXTRACTABLE:
			default:
				out = append(out, p11.NewAttribute(a.typ, a.want))
			}
		}
		return append(out, p11.NewAttribute(p11.CKA_TOKEN, false), p11.NewAttribute(p11.CKA_KEY_TYPE, spec.keyType))
	}
	m := []*p11.Mechanism{p11.NewMechanism(spec.generate, nil)}
	extractable := p11.NewAttribute(p11.CKA_EXTRACTABLE, true)
	if spec.secret != 0 {
		h, err := in.mod.ctx.GenerateKey(s, m, append(change(r.usage(halfSecret, alg, guard{})), extractable,
			p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_VALUE_LEN, spec.secret)))
		return h, nil, err
	}
	public := append(change(r.usage(halfPublic, alg, guard{})), p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PUBLIC_KEY))
	if spec.bits != 0 {
		public = append(public, p11.NewAttribute(p11.CKA_MODULUS_BITS, spec.bits), p11.NewAttribute(p11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}))
	} else {
		public = append(public, p11.NewAttribute(p11.CKA_EC_PARAMS, spec.curve))
	}
	private := append(change(r.usage(halfPrivate, alg, guard{})), extractable, p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY))
	pub, priv, err := in.mod.ctx.GenerateKeyPair(s, m, public, private)
	if err != nil {
		return 0, nil, err
	}
	key, _, err := in.public(s, pub, spec.keyType)
	if err == nil {
		err = in.mod.ctx.DestroyObject(s, pub)
	}
	return priv, key, err
}

// importWrapKey makes a session object that does the one thing.
func (in *instance) importWrapKey(s p11.SessionHandle, wrapKey secret.Bytes, use uint) (p11.ObjectHandle, error) {
	list := []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_AES),
		p11.NewAttribute(p11.CKA_VALUE, wrapKey.Reveal()),
		p11.NewAttribute(p11.CKA_TOKEN, false), p11.NewAttribute(p11.CKA_PRIVATE, true), p11.NewAttribute(p11.CKA_SENSITIVE, true),
		p11.NewAttribute(p11.CKA_EXTRACTABLE, false),
	}
	for _, bit := range []uint{p11.CKA_WRAP, p11.CKA_UNWRAP, p11.CKA_ENCRYPT, p11.CKA_DECRYPT, p11.CKA_SIGN, p11.CKA_VERIFY, p11.CKA_DERIVE} {
		list = append(list, p11.NewAttribute(bit, bit == use))
	}
	return in.mod.ctx.CreateObject(s, list)
}

// install unwraps a key into the token under the template of its role, with its
// public half beside it, and proves it. Whatever fails, nothing stays.
func (o *Officer) install(l *lane, s p11.SessionHandle, k KeyInfo, wrapKey secret.Bytes, wrapped []byte) (*entry, error) {
	in := l.inst
	with, err := in.importWrapKey(s, wrapKey, p11.CKA_UNWRAP)
	if err != nil {
		return nil, err
	}
	how := restored
	err = o.unwrap(in, s, k, with, wrapped, true)
	if errors.Is(err, p11.Error(p11.CKR_ATTRIBUTE_TYPE_INVALID)) {
		how = standing // see Token.Generate: the module does not know the optional lines
		err = o.unwrap(in, s, k, with, wrapped, false)
	}
	if derr := in.mod.ctx.DestroyObject(s, with); err == nil {
		err = derr
	}
	var e *entry
	if err == nil {
		e, err = in.prove(l.job, s, k, how)
	}
	if err == nil && !samePublic(e.info.Public, k.Public) {
		err = fmt.Errorf("%w: %s has another public key", ErrSelfTest, k.Ref)
	}
	if err != nil {
		return nil, errors.Join(err, in.sweep(s, identity(k.Ref, k.ID)...))
	}
	return e, nil
}

func (o *Officer) unwrap(in *instance, s p11.SessionHandle, k KeyInfo, with p11.ObjectHandle, wrapped []byte, optional bool) error {
	r, spec := roles[k.Ref.Role], algorithms[k.Algorithm]
	ident := append(identity(k.Ref, k.ID), p11.NewAttribute(p11.CKA_KEY_TYPE, spec.keyType))
	half, class := halfPrivate, p11.CKO_PRIVATE_KEY
	if spec.secret != 0 {
		half, class = halfSecret, p11.CKO_SECRET_KEY
	}
	private := template(r.usage(half, k.Algorithm, in.guardOf(r)), optional, append(ident, p11.NewAttribute(p11.CKA_CLASS, class))...)
	// SoftHSM takes a template line by line, and of an object being unwrapped it
	// changes nothing more once it is not modifiable: that line comes last.
	slices.SortStableFunc(private, func(a, b *p11.Attribute) int {
		return cmp.Compare(btoi(a.Type == p11.CKA_MODIFIABLE), btoi(b.Type == p11.CKA_MODIFIABLE))
	})
	if _, err := in.mod.ctx.UnwrapKey(s, o.wrapping(), with, wrapped, private); err != nil {
		return err
	}
	if spec.secret != 0 {
		return nil
	}
	public := template(r.usage(halfPublic, k.Algorithm, guard{}), optional, append(ident, p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PUBLIC_KEY))...)
	material, err := publicMaterial(k.Public)
	if err != nil {
		return err
	}
	_, err = in.mod.ctx.CreateObject(s, append(public, material...))
	return err
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// publicMaterial is the public key as PKCS#11 attributes.
func publicMaterial(public crypto.PublicKey) ([]*p11.Attribute, error) {
	point := func(curve, raw []byte) ([]*p11.Attribute, error) {
		der, err := asn1.Marshal(raw)
		return []*p11.Attribute{p11.NewAttribute(p11.CKA_EC_PARAMS, curve), p11.NewAttribute(p11.CKA_EC_POINT, der)}, err
	}
	switch k := public.(type) {
	case *rsa.PublicKey:
		return []*p11.Attribute{
			p11.NewAttribute(p11.CKA_MODULUS, k.N.Bytes()), p11.NewAttribute(p11.CKA_PUBLIC_EXPONENT, big.NewInt(int64(k.E)).Bytes()),
		}, nil
	case ed25519.PublicKey:
		return point(algorithms[Ed25519].curve, k)
	case *ecdsa.PublicKey:
		raw, err := k.Bytes()
		if err != nil {
			return nil, err
		}
		alg := P256
		if k.Curve.Params().BitSize == 384 {
			alg = P384
		}
		return point(algorithms[alg].curve, raw)
	}
	return nil, fmt.Errorf("%w: a public key of type %T", ErrTemplate, public)
}
