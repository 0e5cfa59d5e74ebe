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
	"slices"
	"sync"

	p11 "github.com/miekg/pkcs11"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm/internal/cryptoki"
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
	if spec.bits != 0 {
		if most := t.rsaBits.Load(); most != 0 && most < int64(spec.bits) {
			return KeyInfo{}, fmt.Errorf("hsm: %w: the token makes RSA keys of at most %d bits", ErrUnsupported, most)
		}
	}
	e, err := t.write(ctx, "generate", func(l *lane, s p11.SessionHandle) (any, error) {
		return l.inst.generate(l, s, KeyInfo{Ref: ref, ID: id, Algorithm: alg})
	})
	if err != nil {
		return KeyInfo{}, err
	}
	return t.index.put(e.(*entry)).info, nil
}

// write runs f in a read-write session of its own, one at a time per token
// (parallel key generation is racy in SoftHSM, and no HSM does it faster). A lost
// login or session is healed before f, never after: f is not repeated. When the
// context ends first, f may still go on, and the next one waits for it.
func (t *local) write(ctx context.Context, what string, f func(*lane, p11.SessionHandle) (any, error)) (any, error) {
	if err := take(ctx, t.creating); err != nil {
		return nil, err
	}
	if err := t.Check(ctx); err != nil {
		<-t.creating
		return nil, err
	}
	done := sync.OnceFunc(func() { <-t.creating })
	c := &call{op: OpGenerate, what: what, after: done, run: func(l *lane) (any, error) {
		s, err := l.inst.mod.ctx.OpenSession(l.inst.slot.id, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
		if err != nil {
			return nil, err
		}
		v, err := f(l, s)
		_ = l.inst.mod.ctx.CloseSession(s)
		var left *leftBehind
		if errors.As(err, &left) {
			// In a session of its own, when the first is closed: an operation that
			// the error left active may hold the key.
			err = errors.Join(err, l.inst.undo(left))
		}
		return v, err
	}}
	_, v, err := t.do(ctx, c, nil)
	if !c.left {
		done() // no lane was had, so nothing ran
	}
	return v, err
}

func (in *instance) generate(l *lane, s p11.SessionHandle, k KeyInfo) (*entry, error) {
	label := p11.NewAttribute(p11.CKA_LABEL, k.Ref.String())
	ident := p11.NewAttribute(p11.CKA_ID, k.ID[:])
	for _, a := range []*p11.Attribute{label, ident} {
		taken, err := in.find(s, []*p11.Attribute{a})
		if err != nil {
			return nil, err
		}
		if len(taken) > 0 {
			return nil, fmt.Errorf("%w: %s", ErrExists, k.Ref)
		}
	}
	how := newbornWhole
	if in.t.plain.Load() {
		how = newborn
	}
	err := in.create(s, k, how == newbornWhole, label, ident)
	if how == newbornWhole && notKnown(err) {
		// The module does not know one of the optional lines. It should have made
		// nothing; what it has made all the same is ours to sweep.
		if err := in.sweep(s, label, ident); err != nil {
			return nil, err
		}
		in.t.log.LogAttrs(l.ctx, slog.LevelWarn, "hsm: a key without COPYABLE and ALLOWED_MECHANISMS, which the module does not take",
			slog.String("label", k.Ref.String()), slog.Any("cause", err))
		how = newborn
		if err = in.create(s, k, false, label, ident); err == nil {
			in.t.plain.Store(true)
		}
	}
	if err == nil {
		var e *entry
		if e, err = in.prove(l.job, s, k, how); err == nil {
			return e, nil
		}
	}
	// The label and the id were free, so what has both is ours, whole or half.
	return nil, &leftBehind{error: full(err), match: []*p11.Attribute{label, ident}}
}

// full says so when that is why a key could not be made, or may be: SoftHSM answers
// a disk without room as it answers everything.
func full(err error) error {
	var rv p11.Error
	if !errors.As(err, &rv) || fault.Of(err) != nil {
		return err
	}
	switch rv {
	case p11.CKR_DEVICE_MEMORY, ckrTokenResourceExceeded:
		return fmt.Errorf("%w: %w: %w", ErrFull, fault.ErrUnavailable, err)
	case p11.CKR_FUNCTION_FAILED, p11.CKR_GENERAL_ERROR, p11.CKR_DEVICE_ERROR:
		return fmt.Errorf("%w, which a full token answers, too", err)
	}
	return err
}

// leftBehind is the failure of a creation that may have left objects.
type leftBehind struct {
	error
	match []*p11.Attribute
}

func (e *leftBehind) Unwrap() error { return e.error }

// undo sweeps what a failed creation left.
func (in *instance) undo(left *leftBehind) error {
	s, err := in.mod.ctx.OpenSession(in.slot.id, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err == nil {
		err = in.sweep(s, left.match...)
		_ = in.mod.ctx.CloseSession(s)
	}
	if err != nil {
		in.t.log.Error("hsm: a failed key is left behind", slog.String("label", string(left.match[0].Value)), slog.Any("cause", err))
	}
	return err
}

// notKnown reports whether a module so refuses an attribute that it does not know.
// The standard has ATTRIBUTE_TYPE_INVALID for it; NSS answers GENERAL_ERROR.
func notKnown(err error) bool {
	return errors.Is(err, p11.Error(p11.CKR_ATTRIBUTE_TYPE_INVALID)) || errors.Is(err, p11.Error(p11.CKR_GENERAL_ERROR))
}

func (in *instance) create(s p11.SessionHandle, k KeyInfo, optional bool, identity ...*p11.Attribute) error {
	r, spec := roles[k.Ref.Role], algorithms[k.Algorithm]
	m := []*p11.Mechanism{p11.NewMechanism(spec.generate, nil)}
	identity = append(identity, p11.NewAttribute(p11.CKA_KEY_TYPE, spec.keyType))
	if spec.secret != 0 {
		_, err := in.mod.ctx.GenerateKey(s, m, template(in.usage(r, halfSecret, k.Algorithm, in.guardOf(r)), optional, append(identity,
			p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_VALUE_LEN, spec.secret))...))
		return err
	}
	public := template(in.usage(r, halfPublic, k.Algorithm, guard{}), optional, append(identity, p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PUBLIC_KEY))...)
	if spec.bits != 0 {
		public = append(public, p11.NewAttribute(p11.CKA_MODULUS_BITS, spec.bits), p11.NewAttribute(p11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}))
	} else {
		public = append(public, p11.NewAttribute(p11.CKA_EC_PARAMS, spec.curve))
	}
	private := template(in.usage(r, halfPrivate, k.Algorithm, in.guardOf(r)), optional, append(identity, p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY))...)
	_, _, err := in.mod.ctx.GenerateKeyPair(s, m, public, private)
	return err
}

// prove finds the new key as any later user will, compares all its attributes
// and uses it once.
func (in *instance) prove(j *cryptoki.Job, s p11.SessionHandle, k KeyInfo, how strictness) (*entry, error) {
	objects, err := in.objects(s, []*p11.Attribute{p11.NewAttribute(p11.CKA_LABEL, k.Ref.String())})
	if err != nil {
		return nil, err
	}
	for i := range objects {
		o := &objects[i]
		if o.class == p11.CKO_PRIVATE_KEY {
			o.algorithm = k.Algorithm
		}
		mismatch, err := in.compare(s, o, how)
		if err != nil {
			return nil, err
		}
		if mismatch != nil {
			return nil, mismatch
		}
	}
	e := in.pair(k.Ref, objects, in.slot.epoch.Load())
	switch {
	case e == nil:
		return nil, fmt.Errorf("%w: %s is not found after its creation", ErrTemplate, k.Ref)
	case e.bad != nil:
		return nil, e.bad
	case e.info.ID != k.ID || e.info.Algorithm != k.Algorithm:
		return nil, fmt.Errorf("%w: %s has another id or algorithm", ErrTemplate, k.Ref)
	}
	return e, in.selfTest(j, s, e)
}

// selfTest signs and verifies, seals and opens, or agrees with a software key.
func (in *instance) selfTest(j *cryptoki.Job, s p11.SessionHandle, e *entry) error {
	key, text := e.at[in.place].Load().private, []byte("signet self test")
	digest := sha256.Sum256(text)
	mech := algorithms[e.info.Algorithm].use[0]
	var good bool
	switch pub := e.info.Public.(type) {
	case *ecdsa.PublicKey:
		raw, err := in.sign(j, s, mech, key, digest[:])
		if err != nil {
			return err
		}
		der, err := derSignature(raw, 0)
		good = err == nil && ecdsa.VerifyASN1(pub, digest[:], der)
	case *rsa.PublicKey:
		sig, err := in.sign(j, s, mech, key, digestInfo[crypto.SHA256], digest[:])
		if err != nil {
			return err
		}
		good = rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], sig) == nil
	case ed25519.PublicKey:
		sig, err := in.sign(j, s, mech, key, text)
		if err != nil {
			return err
		}
		good = ed25519.Verify(pub, text, sig)
	default:
		if roles[e.info.Ref.Role].encrypt {
			return in.probeSeal(j, s, key)
		}
		mac, err := in.sign(j, s, mech, key, text)
		if err != nil {
			return err
		}
		good = len(mac) == sha256.Size
	}
	if good && roles[e.info.Ref.Role].derive {
		var err error
		if good, err = in.agrees(s, e); err != nil {
			return err
		}
	}
	if !good {
		return fmt.Errorf("%w: %s", ErrSelfTest, e.info.Ref)
	}
	return nil
}

// probeSeal opens what it sealed.
func (in *instance) probeSeal(j *cryptoki.Job, s p11.SessionHandle, key p11.ObjectHandle) error {
	const text, aad = "signet self test", "signet self test aad"
	j.Put([]byte(text))
	j.PutAAD([]byte(aad))
	nonce, sealed, err := in.mod.ctx.SealOnce(j, s, key)
	if err != nil {
		return err
	}
	nonce, sealed = slices.Clone(nonce), slices.Clone(sealed)
	j.Put(sealed)
	plain, err := in.mod.ctx.OpenOnce(j, s, key, nonce)
	if err != nil {
		return err
	}
	if len(sealed) != len(text)+tagLen || string(plain) != text {
		return fmt.Errorf("%w: GCM does not open what it sealed", ErrSelfTest)
	}
	return nil
}

// agrees compares one shared secret with the software's.
func (in *instance) agrees(s p11.SessionHandle, e *entry) (bool, error) {
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
	got, err := in.derive(s, e.at[in.place].Load().private, peer.PublicKey().Bytes())
	return err == nil && string(got) == string(want), err
}

// sweep destroys every object with all the given attributes.
func (in *instance) sweep(s p11.SessionHandle, match ...*p11.Attribute) error {
	handles, err := in.find(s, match)
	if err != nil {
		return err
	}
	for _, h := range handles {
		err = errors.Join(err, in.mod.ctx.DestroyObject(s, h))
	}
	return err
}

// Destroy implements Engine.
func (t *local) Destroy(ctx context.Context, ref Ref) error {
	_, err := t.write(ctx, "destroy", func(l *lane, s p11.SessionHandle) (any, error) {
		e, err := l.inst.search(s, ref, l.inst.slot.epoch.Load())
		if err != nil {
			return nil, err
		}
		if errors.Is(e.bad, ErrAmbiguous) {
			return nil, e.bad
		}
		err = l.inst.sweep(s, p11.NewAttribute(p11.CKA_LABEL, ref.String()))
		if old := t.index.get(ref); old != nil {
			t.index.forget(old)
		}
		return nil, err
	})
	return err
}
