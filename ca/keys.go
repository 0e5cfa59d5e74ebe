package ca

import (
	"context"
	"crypto"
	"errors"
	"io"

	"github.com/signet-hsm/signet/hsm"
)

// keys is what the authority asks of the HSM; tests put faults in between.
type keys interface {
	generate(ctx context.Context, ref hsm.Ref, alg hsm.Algorithm, id [16]byte) error
	signer(ctx context.Context, ref hsm.Ref) (key, error)
	// discard destroys the key at ref if it carries this id, or half of one that
	// was never finished, and nothing else: a label met by chance may be another
	// signer's.
	discard(ctx context.Context, ref hsm.Ref, id [16]byte) error
	// destroy destroys the key at ref, if it is still there.
	destroy(ctx context.Context, ref hsm.Ref) error
	// list finds the keys of all signers.
	list(ctx context.Context) ([]hsm.KeyInfo, error)
}

// key is *hsm.Signer.
type key interface {
	Public() crypto.PublicKey
	SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error)
}

type tokenKeys struct{ token *hsm.Token }

func (k tokenKeys) generate(ctx context.Context, ref hsm.Ref, alg hsm.Algorithm, id [16]byte) error {
	_, err := k.token.Generate(ctx, ref, alg, id)
	return err
}

func (k tokenKeys) signer(ctx context.Context, ref hsm.Ref) (key, error) {
	s, err := k.token.Signer(ctx, ref)
	if err != nil {
		return nil, err // not s: a nil *hsm.Signer would be a key
	}
	return s, nil
}

func (k tokenKeys) discard(ctx context.Context, ref hsm.Ref, id [16]byte) error {
	info, err := k.token.Lookup(ctx, ref)
	switch {
	case err != nil && !errors.Is(err, hsm.ErrKeyNotFound):
		return err
	case err == nil && info.ID != id:
		return nil
	}
	return k.destroy(ctx, ref)
}

func (k tokenKeys) destroy(ctx context.Context, ref hsm.Ref) error {
	if err := k.token.Destroy(ctx, ref); !errors.Is(err, hsm.ErrKeyNotFound) {
		return err
	}
	return nil // another node destroyed it, and this one remembered it
}

func (k tokenKeys) list(ctx context.Context) ([]hsm.KeyInfo, error) {
	return k.token.Keys(ctx, func(r hsm.Ref) bool { return r.Role == hsm.RoleSigner })
}

// bound is a key with the request's context, as a crypto.Signer: the pure engine
// knows no contexts, but the wait for a lane must end with the request.
type bound struct {
	ctx context.Context //nolint:containedctx // lives for one Sign
	key key
}

func (b bound) Public() crypto.PublicKey { return b.key.Public() }

func (b bound) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return b.key.SignContext(b.ctx, digest, opts)
}
