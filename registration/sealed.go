package registration

import (
	"context"
	"crypto/ecdh"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// agreement is a private key: app.Master in the HSM, or softKey.
type agreement interface {
	ECDH(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error)
}

type softKey struct{ private *ecdh.PrivateKey }

func (k softKey) ECDH(_ context.Context, peer *ecdh.PublicKey) ([]byte, error) {
	return k.private.ECDH(peer)
}

// openWith decrypts one message with a private key.
func openWith(ctx context.Context, key agreement, p signature.EnvelopeParams, c *signature.Cryptogram) ([]byte, *signature.Responder, error) {
	z, err := key.ECDH(ctx, c.EphemeralKey)
	if err != nil {
		return nil, nil, err
	}
	plaintext, responder, err := signature.OpenRequest(z, p, c)
	clear(z)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrDecrypt, err)
	}
	return plaintext, responder, nil
}

// parsePlaintext reads the JSON of a message and wipes it: it may hold an OTP.
func parsePlaintext(plaintext []byte, out any) error {
	err := json.Unmarshal(plaintext, out)
	clear(plaintext)
	if err != nil {
		return ErrFormat // the cause would quote the text
	}
	return nil
}

// cryptogram checks the fields of a message and that it is fresh.
func (r *Registrar) cryptogram(v signature.Version, m signature.EncryptedRequest) (*signature.Cryptogram, error) {
	c, err := signature.ParseEncryptedRequest(v, m)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest.With(fault.Of(err).Violations...), err)
	}
	if v >= signature.V32 {
		if d := r.now().Sub(time.UnixMilli(c.Timestamp)); d > MaxClockSkew || d < -MaxClockSkew {
			return nil, ErrRequest.With(fault.Violation{Field: "timestamp", Value: c.Timestamp, Hint: "must be the current time"})
		}
	}
	return c, nil
}

// What a nonce was used for.
const (
	nonceApplication  = "APPLICATION"   // identifier: the application key, Base64
	nonceRegistration = "REGISTRATION"  // the registration id
	nonceTemporaryKey = "TEMPORARY_KEY" // the id of the temporary key
)

type nonceScope struct{ kind, identifier string }

// nodeSkew is how far the clocks of two nodes may be apart: a nonce is kept that
// much longer than any node accepts its timestamp.
const nodeSkew = time.Minute

// once admits an authenticated message of 3.2 or later a single time: older ones
// carry no time, so nothing says for how long to remember them. It comes after
// the MAC, or strangers could fill the table.
func (r *Registrar) once(ctx context.Context, t tenant.ID, s nonceScope, c *signature.Cryptogram) error {
	if c.Version < signature.V32 {
		return r.guard.Check(t)
	}
	made := time.UnixMilli(c.Timestamp)
	if err := r.guard.Fresh(t, made, MaxClockSkew); err != nil {
		return err
	}
	h := sha256.New()
	h.Write(c.EphemeralBytes)
	h.Write(c.Nonce)
	expires := made.Add(MaxClockSkew + nodeSkew)
	tag, err := r.db.Exec(ctx, sqlUseNonce, t.String(), s.kind, s.identifier, h.Sum(nil), expires)
	if err != nil {
		return pg.Unavailable(err)
	}
	if tag.RowsAffected() == 0 {
		return ErrRequest.With(fault.Violation{Field: "nonce", Hint: "must be fresh"})
	}
	return nil
}

// Opened is a decrypted message in activation scope. The caller answers it once,
// with Seal, and wipes Plaintext when it holds a secret.
type Opened struct {
	Plaintext []byte
	keys      *signature.Keys
	responder *signature.Responder
	now       func() time.Time
}

// Seal encrypts the JSON of an answer.
func (o *Opened) Seal(answer any) (signature.EncryptedResponse, error) {
	text, err := json.Marshal(answer)
	if err != nil {
		return signature.EncryptedResponse{}, err
	}
	defer clear(text)
	return o.responder.Seal(text, stamp(o.now()))
}

// Open decrypts a message that a device encrypted for its registration
// ("activation scope"): with the registration's server key, from 3.3 on with a
// temporary key. body is the JSON of the message, info one of the
// signature.Info constants. A message of 3.2 or later opens once. Errors:
// ErrRequest for fields, time and reuse; ErrTemporaryKey; ErrDecrypt for all
// else, an unknown or not ACTIVE registration included.
func (r *Registrar) Open(ctx context.Context, h signature.EncryptionHeader, info string, body []byte) (*Opened, error) {
	o, err := r.openScoped(ctx, h, info, body)
	if err != nil {
		return nil, fmt.Errorf("registration: open: %w", err)
	}
	return o, nil
}

func (r *Registrar) openScoped(ctx context.Context, h signature.EncryptionHeader, info string, body []byte) (*Opened, error) {
	var m signature.EncryptedRequest
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, fmt.Errorf("%w: not the JSON of an encrypted message", ErrRequest)
	}
	c, err := r.cryptogram(h.Version, m)
	if err != nil {
		return nil, err
	}
	v, err := r.apps.ByKey(ctx, h.ApplicationKey)
	switch {
	case errors.Is(err, app.ErrNotFound), err == nil && !v.Supported:
		return nil, fmt.Errorf("%w: application key", ErrDecrypt)
	case err != nil:
		return nil, err
	}
	id, ok := parseID(h.ActivationID)
	if !ok {
		return nil, fmt.Errorf("%w: registration id", ErrDecrypt)
	}
	s, err := r.readSealed(ctx, v.Tenant, id)
	if err != nil {
		return nil, err
	}
	if s == nil || s.app != v.App || s.state != StateActive {
		return nil, fmt.Errorf("%w: no such registration", ErrDecrypt)
	}
	keys, err := r.keysOf(ctx, v.Tenant, id, s.master)
	if err != nil {
		return nil, err
	}
	key, err := r.scopedKey(ctx, v, id, s, c)
	if err != nil {
		return nil, err
	}
	o := &Opened{keys: keys, now: r.now}
	o.Plaintext, o.responder, err = openWith(ctx, key, signature.EnvelopeParams{
		Version: c.Version, Scope: signature.ActivationScope, SharedInfo1: info, ApplicationKey: v.Key,
		ActivationID:   h.ActivationID, // in the spelling that the device used
		TemporaryKeyID: c.TemporaryKeyID, SharedInfo2: keys.ActivationSharedInfo2(v.Secret.Reveal()),
	}, c)
	if err != nil {
		return nil, err
	}
	scope := nonceScope{nonceRegistration, id.String()}
	if c.TemporaryKeyID != "" {
		scope = nonceScope{nonceTemporaryKey, c.TemporaryKeyID}
	}
	return o, r.once(ctx, v.Tenant, scope, c)
}

// scopedKey is the private key of a message in activation scope.
func (r *Registrar) scopedKey(ctx context.Context, v app.Version, id uuid.UUID, s *sealedRow, c *signature.Cryptogram) (agreement, error) {
	if c.TemporaryKeyID != "" {
		return r.temporaryKey(ctx, v, uuid.NullUUID{UUID: id, Valid: true}, c.TemporaryKeyID)
	}
	scalar, err := r.envelope.Open(ctx, privateField(v.Tenant, id), s.private)
	if err != nil {
		return nil, err
	}
	defer scalar.Wipe()
	private, err := ecdh.P256().NewPrivateKey(scalar.Reveal())
	if err != nil {
		return nil, fmt.Errorf("%w: server key", errStored)
	}
	return softKey{private}, nil
}

// sealedRow is what opening a message needs of a registration.
type sealedRow struct {
	app             string
	state           State
	master, private []byte // sealed; master is nil before the key exchange
}

// readSealed returns nil for an unknown registration.
func (r *Registrar) readSealed(ctx context.Context, t tenant.ID, id uuid.UUID) (*sealedRow, error) {
	var s sealedRow
	err := r.db.QueryRow(ctx, sqlSealed, t.String(), id).Scan(&s.app, &s.state, &s.master, &s.private)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, pg.Unavailable(err)
	}
	return &s, nil
}
