package registration

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// TemporaryKeyValidity is how long devices may encrypt for a temporary key.
const TemporaryKeyValidity = 5 * time.Minute

// temporaryRequest is the payload of the device's JWT.
type temporaryRequest struct {
	ApplicationKey string `json:"applicationKey"` // Base64 of 16 bytes
	ActivationID   string `json:"activationId"`   // in activation scope only
	Challenge      string `json:"challenge"`      // Base64; comes back in the answer
}

type temporaryResponse struct {
	Subject        string `json:"sub"` // the id of the key
	ApplicationKey string `json:"applicationKey"`
	ActivationID   string `json:"activationId,omitzero"`
	Challenge      string `json:"challenge"`
	PublicKey      string `json:"publicKey"` // Base64 of 65 bytes
	IssuedAt       int64  `json:"iat"`       // seconds
	Expires        int64  `json:"exp"`
	IssuedAtMs     int64  `json:"iat_ms"`
	ExpiresMs      int64  `json:"exp_ms"`
}

// TemporaryKey makes a key pair that devices encrypt for in protocol 3.3
// (device, POST /pa/v3/keystore/create). request is a JWT with HS256 under the
// application secret, or, when it names a registration, under a key derived from
// the registration's; the answer is a JWT with ES256 by the application's master
// key in the HSM, or by the registration's server key. Errors: ErrRequest for
// what is no such JWT; ErrTemporaryKey, uniformly, for an unknown application or
// registration, one that is neither ACTIVE nor BLOCKED, and a wrong MAC.
func (r *Registrar) TemporaryKey(ctx context.Context, request string) (string, error) {
	answer, err := r.makeTemporaryKey(ctx, request)
	if err != nil {
		return "", fmt.Errorf("registration: temporary key: %w", err)
	}
	return answer, nil
}

func (r *Registrar) makeTemporaryKey(ctx context.Context, request string) (string, error) {
	token, claims, err := parseTemporaryRequest(request)
	if err != nil {
		return "", err
	}
	var key [16]byte
	if raw, err := signature.ParseBase64(claims.ApplicationKey); err != nil || copy(key[:], raw) != 16 || len(raw) != 16 {
		return "", fmt.Errorf("%w: application key", ErrRequest)
	}
	v, err := r.apps.ByKey(ctx, key)
	switch {
	case errors.Is(err, app.ErrNotFound), err == nil && !v.Supported:
		return "", fmt.Errorf("%w: application key", ErrTemporaryKey)
	case err != nil:
		return "", err
	}
	if err := r.guard.Check(v.Tenant); err != nil {
		return "", err
	}
	owner, sign, err := r.temporaryOwner(ctx, v, claims.ActivationID, token)
	if err != nil {
		return "", err
	}
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	id, now := uuid.New(), r.clock()
	expires := now.Add(TemporaryKeyValidity)
	scalar := private.Bytes()
	sealed, err := r.envelope.Seal(ctx, temporaryField(v, owner, id), scalar)
	clear(scalar)
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(temporaryResponse{
		Subject: id.String(), ApplicationKey: claims.ApplicationKey, ActivationID: claims.ActivationID, Challenge: claims.Challenge,
		PublicKey: signature.EncodeBase64(private.PublicKey().Bytes()),
		IssuedAt:  now.Unix(), Expires: expires.Unix(), IssuedAtMs: now.UnixMilli(), ExpiresMs: expires.UnixMilli(),
	})
	if err != nil {
		return "", err
	}
	// Signed before it is stored: what the HSM did not sign nobody can use.
	answer, err := signES256(ctx, payload, sign)
	if err != nil {
		return "", err
	}
	_, err = r.db.Exec(ctx, sqlKeepTemporary, v.Tenant.String(), id, v.Key[:], owner, sealed, expires, now)
	return answer, pg.Unavailable(err)
}

// signer makes an ECDSA signature (DER) over SHA-256 of data.
type signer func(ctx context.Context, data []byte) ([]byte, error)

// temporaryOwner authenticates the request and finds whose key is wanted and who
// signs the answer.
func (r *Registrar) temporaryOwner(ctx context.Context, v app.Version, activation string, token *hs256) (uuid.NullUUID, signer, error) {
	var none uuid.NullUUID
	secret, err := signature.ParseBase64(string(v.Secret.Reveal()))
	if err != nil {
		return none, nil, fmt.Errorf("%w: application secret", errStored)
	}
	defer clear(secret)
	if activation == "" {
		if !token.verify(secret) {
			return none, nil, fmt.Errorf("%w: wrong MAC", ErrTemporaryKey)
		}
		master, err := r.deviceMaster(ctx, v)
		return none, master.Sign, err
	}
	id, ok := parseID(activation)
	if !ok {
		return none, nil, fmt.Errorf("%w: registration id", ErrTemporaryKey)
	}
	s, err := r.readSealed(ctx, v.Tenant, id)
	if err != nil {
		return none, nil, err
	}
	if s == nil || s.app != v.App || s.state != StateActive && s.state != StateBlocked {
		return none, nil, fmt.Errorf("%w: no such registration", ErrTemporaryKey)
	}
	keys, err := r.keysOf(ctx, v.Tenant, id, s.master)
	if err != nil {
		return none, nil, err
	}
	key := keys.TemporaryKeySecret(secret)
	if !token.verify(key[:]) {
		return none, nil, fmt.Errorf("%w: wrong MAC", ErrTemporaryKey)
	}
	return uuid.NullUUID{UUID: id, Valid: true}, func(ctx context.Context, data []byte) ([]byte, error) {
		return r.signAs(ctx, v.Tenant, id, s.private, data)
	}, nil
}

// signAs signs with the registration's server key.
func (r *Registrar) signAs(ctx context.Context, t tenant.ID, id uuid.UUID, sealed, data []byte) ([]byte, error) {
	scalar, err := r.envelope.Open(ctx, privateField(t, id), sealed)
	if err != nil {
		return nil, err
	}
	defer scalar.Wipe()
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar.Reveal())
	if err != nil {
		return nil, fmt.Errorf("%w: server key", errStored)
	}
	digest := sha256.Sum256(data)
	return ecdsa.SignASN1(rand.Reader, private, digest[:])
}

// temporaryKey opens the key that a message names: it must be of the same
// application version and of the same registration, or of none.
func (r *Registrar) temporaryKey(ctx context.Context, v app.Version, owner uuid.NullUUID, name string) (agreement, error) {
	id, ok := parseID(name)
	if !ok {
		return nil, fmt.Errorf("%w: id", ErrTemporaryKey)
	}
	var sealed []byte
	err := r.db.QueryRow(ctx, sqlTemporary, v.Tenant.String(), id, v.Key[:], owner, r.clock()).Scan(&sealed)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, ErrTemporaryKey
	case err != nil:
		return nil, pg.Unavailable(err)
	}
	scalar, err := r.envelope.Open(ctx, temporaryField(v, owner, id), sealed)
	if err != nil {
		return nil, err
	}
	defer scalar.Wipe()
	private, err := ecdh.P256().NewPrivateKey(scalar.Reveal())
	if err != nil {
		return nil, fmt.Errorf("%w: temporary key", errStored)
	}
	return softKey{private}, nil
}

// temporaryField binds the key to its owners as well: a row that was moved to
// another application or registration does not open.
func temporaryField(v app.Version, owner uuid.NullUUID, id uuid.UUID) envelope.Field {
	row := id.String() + "/" + hex.EncodeToString(v.Key[:])
	if owner.Valid {
		row += "/" + owner.UUID.String()
	}
	return envelope.Field{Tenant: v.Tenant, Table: "temporary_key", Column: "private_sealed", Row: row}
}
