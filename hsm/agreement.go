package hsm

import (
	"context"
	"crypto/ecdh"
	"fmt"
	"time"
)

// Agreement is a P-256 private key in the token that makes shared secrets.
type Agreement struct {
	token *Token
	key   *known
}

// Agreement returns a handle for ECDH with a key of RoleMaster. A module without
// ECDH never made such a key.
func (t *Token) Agreement(ctx context.Context, ref Ref) (*Agreement, error) {
	k, err := t.known(ctx, ref)
	if err != nil {
		return nil, err
	}
	if !roles[ref.Role].derive {
		return nil, wrongRole(ref, "key agreement")
	}
	return &Agreement{t, k}, nil
}

// Info describes the key.
func (a *Agreement) Info() KeyInfo { return a.key.info }

// ECDH returns the 32-byte x-coordinate of the shared point. peer must be P-256;
// crypto/ecdh has already checked that it is on the curve.
func (a *Agreement) ECDH(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error) {
	if peer == nil || peer.Curve() != ecdh.P256() {
		return nil, fmt.Errorf("hsm: %w: the peer's key must be P-256", ErrUnsupported)
	}
	start := time.Now()
	z, err := a.token.engine.Agree(ctx, a.key.key, nil, peer.Bytes())
	a.token.used(a.key, OpAgree, 0, start, err)
	return z, err
}
