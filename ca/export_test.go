package ca

import (
	"context"
	"crypto"

	"github.com/signet-hsm/signet/hsm"
)

// Faults are put between the authority and the HSM; nil fields let calls pass.
type Faults struct {
	Making   func(ref hsm.Ref) error              // runs before a key is made
	Generate func(ref hsm.Ref, id [16]byte) error // runs after the key was made
	Signer   func(ref hsm.Ref) error
	Sign     func(ctx context.Context, ref hsm.Ref) error // runs before the HSM signs
	Signed   func(ref hsm.Ref)                            // runs after the HSM has signed
	Discard  func(ref hsm.Ref) error                      // runs before a key is destroyed
	Gone     func(ref hsm.Ref)                            // runs after a key is destroyed
}

// SetRevokeBatch changes how many certificates one transaction revokes.
func (a *Authority) SetRevokeBatch(n int) { a.revokeBatch = n }

// Inject must be called before the authority is used.
func (a *Authority) Inject(f *Faults, issuer hsm.Ref) {
	a.issuerKey = faultyKey{a.issuerKey, f, issuer}
	a.keys = faultyKeys{a.keys, f}
}

type faultyKeys struct {
	keys
	f *Faults
}

func (k faultyKeys) generate(ctx context.Context, ref hsm.Ref, alg hsm.Algorithm, id [16]byte) error {
	if k.f.Making != nil {
		if err := k.f.Making(ref); err != nil {
			return err
		}
	}
	err := k.keys.generate(ctx, ref, alg, id)
	if err == nil && k.f.Generate != nil {
		err = k.f.Generate(ref, id)
	}
	return err
}

func (k faultyKeys) discard(ctx context.Context, ref hsm.Ref, id [16]byte) error {
	if k.f.Discard != nil {
		if err := k.f.Discard(ref); err != nil {
			return err
		}
	}
	err := k.keys.discard(ctx, ref, id)
	if err == nil && k.f.Gone != nil {
		k.f.Gone(ref)
	}
	return err
}

func (k faultyKeys) destroy(ctx context.Context, ref hsm.Ref) error {
	if k.f.Discard != nil {
		if err := k.f.Discard(ref); err != nil {
			return err
		}
	}
	err := k.keys.destroy(ctx, ref)
	if err == nil && k.f.Gone != nil {
		k.f.Gone(ref)
	}
	return err
}

func (k faultyKeys) signer(ctx context.Context, ref hsm.Ref) (key, error) {
	if k.f.Signer != nil {
		if err := k.f.Signer(ref); err != nil {
			return nil, err
		}
	}
	s, err := k.keys.signer(ctx, ref)
	if err != nil {
		return nil, err
	}
	return faultyKey{s, k.f, ref}, nil
}

type faultyKey struct {
	key
	f   *Faults
	ref hsm.Ref
}

func (k faultyKey) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if k.f.Sign != nil {
		if err := k.f.Sign(ctx, k.ref); err != nil {
			return nil, err
		}
	}
	signature, err := k.key.SignContext(ctx, digest, opts)
	if err == nil && k.f.Signed != nil {
		k.f.Signed(k.ref)
	}
	return signature, err
}
