package app

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/tenant"
)

// Master is the handle of an application's master key. The private key stays in
// the HSM; each Sign and ECDH is one operation there.
type Master struct {
	Public []byte // 65 bytes, uncompressed P-256 point

	signer    *hsm.Signer
	agreement *hsm.Agreement
}

// Master returns the handle of the application's newest master key, which signs
// what is new: activation codes and offline codes. Its public half in the HSM is
// compared with the row: ErrMaster when they differ.
func (r *Registry) Master(ctx context.Context, t tenant.ID, id string) (Master, error) {
	a, err := r.cached(ctx, t, id)
	if err != nil {
		return Master{}, err
	}
	return r.open(ctx, generationKey{appKey{t, id}, a.MasterGeneration}, a.MasterPublic)
}

// MasterOf returns the master key that phones with v carry, which need not be the
// newest: what they encrypt to the application, they encrypt to this one.
func (r *Registry) MasterOf(ctx context.Context, v Version) (Master, error) {
	return r.MasterGeneration(ctx, v.Tenant, v.App, v.MasterGeneration)
}

// MasterGeneration returns the master key of one generation; all of them stay
// usable. ErrNotFound when there is none.
func (r *Registry) MasterGeneration(ctx context.Context, t tenant.ID, id string, generation int) (Master, error) {
	key := generationKey{appKey{t, id}, generation}
	public, err := r.masters.get(key, func() ([]byte, error) { return r.masterPublic(ctx, key) })
	if err != nil {
		return Master{}, err
	}
	return r.open(ctx, key, public)
}

type generationKey struct {
	app        appKey
	generation int
}

func (r *Registry) masterPublic(ctx context.Context, k generationKey) ([]byte, error) {
	var public []byte
	err := r.db.QueryRow(ctx, sqlMasterPublic, k.app.tenant.String(), k.app.id, k.generation).Scan(&public)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, fmt.Errorf("app: master key: %w", ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("app: master key: %w: %w", fault.ErrUnavailable, err)
	}
	return public, nil
}

// open finds the key in the HSM and compares it with what the row says.
func (r *Registry) open(ctx context.Context, k generationKey, want []byte) (Master, error) {
	ref := masterRef(k.app.tenant, k.app.id)
	ref.Generation = k.generation
	s, err := r.hsm.Signer(ctx, ref)
	switch {
	case errors.Is(err, hsm.ErrKeyNotFound): // our trouble, not a "not found" for the client
		return Master{}, fmt.Errorf("app: %w: %w", ErrMaster, err)
	case err != nil:
		return Master{}, fmt.Errorf("app: master key: %w", err)
	}
	public, err := point(s.Public())
	if err != nil {
		return Master{}, err
	}
	if !bytes.Equal(public, want) {
		return Master{}, fmt.Errorf("app: %w: %s", ErrMaster, ref)
	}
	agreement, err := r.hsm.Agreement(ctx, ref)
	if err != nil {
		return Master{}, fmt.Errorf("app: master key: %w", err)
	}
	return Master{Public: public, signer: s, agreement: agreement}, nil
}

// Sign returns the ECDSA signature, ASN.1 DER, over SHA-256 of data. It is
// randomised: two calls differ.
func (m Master) Sign(ctx context.Context, data []byte) ([]byte, error) {
	digest := sha256.Sum256(data)
	return m.signer.SignContext(ctx, digest[:], crypto.SHA256)
}

// ECDH returns the 32-byte x coordinate of the product of the master private key
// and peer. The caller wipes it.
func (m Master) ECDH(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error) {
	return m.agreement.ECDH(ctx, peer)
}

// masterRef names the first key of an application. Application ids are free text, HSM
// names are not: an id that can not be one is named by its hash, and '=' can not
// start an id that is used as it is.
func masterRef(t tenant.ID, id string) hsm.Ref {
	name := id
	if !plain(id) {
		sum := sha256.Sum256([]byte(id))
		name = "=" + hex.EncodeToString(sum[:])
	}
	return hsm.Ref{Tenant: t.String(), Role: hsm.RoleMaster, Name: name}
}

func plain(id string) bool {
	for i := 0; i < len(id); i++ {
		c := id[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return len(id) <= 64
}

// point is the uncompressed form of a P-256 key that the HSM reports.
func point(pub crypto.PublicKey) ([]byte, error) {
	k, ok := pub.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("app: %w: the HSM reports a %T", ErrMaster, pub)
	}
	p, err := k.ECDH()
	if err != nil || p.Curve() != ecdh.P256() {
		return nil, fmt.Errorf("app: %w: not a P-256 key", ErrMaster)
	}
	return p.Bytes(), nil
}
