package powerauth

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"

	"github.com/signet-hsm/signet/signature"
)

// scope is whom a message is encrypted for.
type scope struct {
	params signature.EnvelopeParams // all but SharedInfo1
	server *ecdh.PublicKey
}

// applicationScope: the master key, from 3.3 on a temporary one.
func (d *Device) applicationScope(ctx context.Context) (scope, error) {
	s := scope{server: d.master, params: signature.EnvelopeParams{
		Version: d.version, Scope: signature.ApplicationScope, ApplicationKey: d.appKey,
		SharedInfo2: signature.ApplicationSharedInfo2(d.secret),
	}}
	return s, d.useTemporary(ctx, &s, nil)
}

// activationScope: the activation's server key, from 3.3 on a temporary one.
func (d *Device) activationScope(ctx context.Context) (scope, error) {
	a := d.current()
	if a == nil {
		return scope{}, ErrNotActive
	}
	s := scope{server: a.server, params: signature.EnvelopeParams{
		Version: d.version, Scope: signature.ActivationScope, ApplicationKey: d.appKey, ActivationID: a.id,
		SharedInfo2: a.keys.ActivationSharedInfo2(d.secret),
	}}
	return s, d.useTemporary(ctx, &s, a)
}

func (d *Device) useTemporary(ctx context.Context, s *scope, a *activation) error {
	if d.version < signature.V33 {
		return nil
	}
	key, err := d.temporaryKey(ctx, s.params.Scope, a)
	if err != nil {
		return fmt.Errorf("temporary key: %w", err)
	}
	s.params.TemporaryKeyID, s.server = key.id, key.public
	return nil
}

// current is the activation, nil before there is one. Its keys never change.
func (d *Device) current() *activation {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.activation
}

// seal encrypts the JSON of a message.
func (d *Device) seal(to scope, purpose string, message any) (signature.EncryptedRequest, *signature.Requester, error) {
	plain, err := json.Marshal(message)
	if err != nil {
		return signature.EncryptedRequest{}, nil, err
	}
	return d.sealText(to, purpose, plain)
}

func (d *Device) sealText(to scope, purpose string, plain []byte) (signature.EncryptedRequest, *signature.Requester, error) {
	var none signature.EncryptedRequest
	ephemeral, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return none, nil, err
	}
	stamp := signature.Stamp{Timestamp: d.now().UnixMilli()}
	if _, err := io.ReadFull(d.random, stamp.Nonce[:]); err != nil {
		return none, nil, err
	}
	p := to.params
	p.SharedInfo1 = purpose
	return signature.SealRequest(ephemeral, to.server, p, plain, stamp)
}

// signedExchange encrypts in activation scope, signs what it sends and reads the
// encrypted answer.
func (d *Device) signedExchange(ctx context.Context, e endpoint, f signature.Factor, message, answer any) error {
	to, err := d.activationScope(ctx)
	if err != nil {
		return err
	}
	plain, err := json.Marshal(message)
	if err != nil {
		return err
	}
	sealed, open, err := d.sealText(to, e.purpose, plain)
	if err != nil {
		return err
	}
	body, err := json.Marshal(sealed)
	if err != nil {
		return err
	}
	signed := body
	if e.signsPlaintext {
		signed = plain
	}
	header, err := d.Sign("POST", e.uriID, signed, f)
	if err != nil {
		return err
	}
	var resp signature.EncryptedResponse
	if err := d.send(ctx, e.path, signature.HeaderName, header, body, &resp); err != nil {
		return err
	}
	return unseal(open, resp, answer)
}

// signedPost signs an object and sends it in clear.
func (d *Device) signedPost(ctx context.Context, e endpoint, f signature.Factor, object, answer any) error {
	body, err := json.Marshal(objectRequest[any]{object})
	if err != nil {
		return err
	}
	header, err := d.Sign("POST", e.uriID, body, f)
	if err != nil {
		return err
	}
	return d.send(ctx, e.path, signature.HeaderName, header, body, answer)
}

// endpoint is a signed one; those with a purpose are encrypted too.
type endpoint struct {
	path, uriID, purpose string
	// signsPlaintext: the endpoints of the protocol itself sign what is sent, the
	// others what was encrypted.
	signsPlaintext bool
}

func unseal(r *signature.Requester, sealed signature.EncryptedResponse, message any) error {
	plain, err := r.Open(sealed)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if err := json.Unmarshal(plain, message); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return nil
}
