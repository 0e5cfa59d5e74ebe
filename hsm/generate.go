package hsm

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"

	p11 "github.com/miekg/pkcs11"
)

// Generate implements Engine.
func (t *local) Generate(ctx context.Context, ref Ref, alg Algorithm, id [16]byte) (KeyInfo, error) {
	spec, known := algorithms[alg]
	if !known || !roles[ref.Role].allows(alg) {
		return KeyInfo{}, fmt.Errorf("hsm: %w: role %s does not allow %q", ErrUnsupported, ref.Role, alg)
	}
	for _, m := range append(roles[ref.Role].mechanisms(alg), spec.generate) {
		if !t.mechanisms[m] {
			return KeyInfo{}, fmt.Errorf("hsm: %w: the token has no mechanism 0x%x, which %s needs", ErrUnsupported, m, alg)
		}
	}
	var e *entry
	err := t.write(ctx, "generate", func(s p11.SessionHandle) (err error) {
		e, err = t.generate(ctx, s, KeyInfo{Ref: ref, ID: id, Algorithm: alg})
		return err
	})
	if err != nil {
		return KeyInfo{}, err
	}
	return t.index.put(e).info, nil
}

// write runs f in a read-write session of its own, one at a time per slot
// (parallel key generation is racy in SoftHSM, and no HSM does it faster). A lost
// login or session is healed before f, never after: f is not repeated.
func (t *local) write(ctx context.Context, what string, f func(p11.SessionHandle) error) error {
	if err := take(ctx, t.slot.creating); err != nil {
		return err
	}
	defer func() { <-t.slot.creating }()
	if err := t.Check(ctx); err != nil {
		return err
	}
	// A lane is held for its place in the count of calls, and so that Close waits.
	l, err := t.acquire(ctx)
	if err != nil {
		return err
	}
	defer t.release(l)
	s, err := t.mod.ctx.OpenSession(t.slot.id, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err == nil {
		defer func() { _ = t.mod.ctx.CloseSession(s) }()
		err = f(s)
	}
	return wrap(what, err)
}

func (t *local) generate(ctx context.Context, s p11.SessionHandle, k KeyInfo) (*entry, error) {
	label := p11.NewAttribute(p11.CKA_LABEL, k.Ref.String())
	ident := p11.NewAttribute(p11.CKA_ID, k.ID[:])
	for _, a := range []*p11.Attribute{label, ident} {
		taken, err := t.find(s, []*p11.Attribute{a})
		if err != nil {
			return nil, err
		}
		if len(taken) > 0 {
			return nil, fmt.Errorf("%w: %s", ErrExists, k.Ref)
		}
	}
	how := newbornWhole
	err := t.create(s, k, true, label, ident)
	if errors.Is(err, p11.Error(p11.CKR_ATTRIBUTE_TYPE_INVALID)) {
		// The module answered before it made anything: it does not know one of
		// the optional lines.
		t.log.LogAttrs(ctx, slog.LevelWarn, "hsm: module does not know COPYABLE or ALLOWED_MECHANISMS", slog.String("label", k.Ref.String()))
		how = newborn
		err = t.create(s, k, false, label, ident)
	}
	if err == nil {
		var e *entry
		if e, err = t.prove(s, k, how); err == nil {
			return e, nil
		}
	}
	// The label and the id were free, so what has both is ours, whole or half.
	if derr := t.sweep(s, label, ident); derr != nil {
		t.log.LogAttrs(ctx, slog.LevelError, "hsm: a failed key is left behind", slog.String("label", k.Ref.String()), slog.Any("cause", derr))
		err = errors.Join(err, derr)
	}
	return nil, err
}

func (t *local) create(s p11.SessionHandle, k KeyInfo, optional bool, identity ...*p11.Attribute) error {
	r, spec := roles[k.Ref.Role], algorithms[k.Algorithm]
	m := []*p11.Mechanism{p11.NewMechanism(spec.generate, nil)}
	identity = append(identity, p11.NewAttribute(p11.CKA_KEY_TYPE, spec.keyType))
	if spec.secret != 0 {
		_, err := t.mod.ctx.GenerateKey(s, m, template(r.usage(halfSecret, k.Algorithm), optional, append(identity,
			p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_VALUE_LEN, spec.secret))...))
		return err
	}
	public := template(r.usage(halfPublic, k.Algorithm), optional, append(identity, p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PUBLIC_KEY))...)
	if spec.bits != 0 {
		public = append(public, p11.NewAttribute(p11.CKA_MODULUS_BITS, spec.bits), p11.NewAttribute(p11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}))
	} else {
		public = append(public, p11.NewAttribute(p11.CKA_EC_PARAMS, spec.curve))
	}
	private := template(r.usage(halfPrivate, k.Algorithm), optional, append(identity, p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY))...)
	_, _, err := t.mod.ctx.GenerateKeyPair(s, m, public, private)
	return err
}

// prove finds the new key as any later user will, compares all its attributes
// and uses it once.
func (t *local) prove(s p11.SessionHandle, k KeyInfo, how strictness) (*entry, error) {
	objects, err := t.objects(s, []*p11.Attribute{p11.NewAttribute(p11.CKA_LABEL, k.Ref.String())})
	if err != nil {
		return nil, err
	}
	for i := range objects {
		o := &objects[i]
		if o.class == p11.CKO_PRIVATE_KEY {
			o.algorithm = k.Algorithm
		}
		mismatch, err := t.compare(s, o, how)
		if err != nil {
			return nil, err
		}
		if mismatch != nil {
			return nil, mismatch
		}
	}
	e := pair(k.Ref, objects, t.slot.epoch.Load())
	switch {
	case e == nil:
		return nil, fmt.Errorf("%w: %s is not found after its creation", ErrTemplate, k.Ref)
	case e.bad != nil:
		return nil, e.bad
	case e.info.ID != k.ID || e.info.Algorithm != k.Algorithm:
		return nil, fmt.Errorf("%w: %s has another id or algorithm", ErrTemplate, k.Ref)
	}
	return e, t.selfTest(s, e)
}

// selfTest signs and verifies, seals and opens, or agrees with a software key.
func (t *local) selfTest(s p11.SessionHandle, e *entry) error {
	key, text := e.at.Load().private, []byte("signet self test")
	digest := sha256.Sum256(text)
	mech := []*p11.Mechanism{p11.NewMechanism(algorithms[e.info.Algorithm].use[0], nil)}
	var good bool
	switch pub := e.info.Public.(type) {
	case *ecdsa.PublicKey:
		raw, err := t.sign(s, mech, key, digest[:])
		if err != nil {
			return err
		}
		der, err := derSignature(raw, 0)
		good = err == nil && ecdsa.VerifyASN1(pub, digest[:], der)
	case *rsa.PublicKey:
		sig, err := t.sign(s, mech, key, append(append([]byte(nil), digestInfo[crypto.SHA256]...), digest[:]...))
		if err != nil {
			return err
		}
		good = rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], sig) == nil
	case ed25519.PublicKey:
		sig, err := t.sign(s, mech, key, text)
		if err != nil {
			return err
		}
		good = ed25519.Verify(pub, text, sig)
	default:
		if roles[e.info.Ref.Role].encrypt {
			return t.probeSeal(s, key)
		}
		mac, err := t.sign(s, mech, key, text)
		if err != nil {
			return err
		}
		good = len(mac) == sha256.Size
	}
	if good && roles[e.info.Ref.Role].derive {
		var err error
		if good, err = t.agrees(s, e); err != nil {
			return err
		}
	}
	if !good {
		return fmt.Errorf("%w: %s", ErrSelfTest, e.info.Ref)
	}
	return nil
}

// agrees compares one shared secret with the software's.
func (t *local) agrees(s p11.SessionHandle, e *entry) (bool, error) {
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return false, err
	}
	pub, err := e.info.Public.(*ecdsa.PublicKey).ECDH()
	if err != nil {
		return false, err
	}
	want, err := peer.ECDH(pub)
	if err != nil {
		return false, err
	}
	got, err := t.derive(s, e.at.Load().private, peer.PublicKey().Bytes())
	return err == nil && string(got) == string(want), err
}

// sweep destroys every object with all the given attributes.
func (t *local) sweep(s p11.SessionHandle, match ...*p11.Attribute) error {
	handles, err := t.find(s, match)
	if err != nil {
		return err
	}
	for _, h := range handles {
		err = errors.Join(err, t.mod.ctx.DestroyObject(s, h))
	}
	return err
}

// Destroy implements Engine.
func (t *local) Destroy(ctx context.Context, ref Ref) error {
	return t.write(ctx, "destroy", func(s p11.SessionHandle) error {
		e, err := t.search(s, ref, t.slot.epoch.Load())
		if err != nil {
			return err
		}
		if errors.Is(e.bad, ErrAmbiguous) {
			return e.bad
		}
		err = t.sweep(s, p11.NewAttribute(p11.CKA_LABEL, ref.String()))
		if old := t.index.get(ref); old != nil {
			t.index.forget(old)
		}
		return err
	})
}
