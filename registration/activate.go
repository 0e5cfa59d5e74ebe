package registration

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/signature"
)

// ActivateRequest is a key exchange as the device sent it: the header
// X-PowerAuth-Encryption in application scope and the body, layer 1.
type ActivateRequest struct {
	Header  signature.EncryptionHeader
	Message signature.EncryptedRequest
}

// outerRequest is the plaintext of layer 1. Devices send more than we read, and
// newer ones more than we know: unknown members are ignored, repeated ones not.
type outerRequest struct {
	ActivationType     string                     `json:"activationType"`
	IdentityAttributes map[string]any             `json:"identityAttributes"` // "code", or what the provider knows
	CustomAttributes   map[string]any             `json:"customAttributes"`
	ActivationData     signature.EncryptedRequest `json:"activationData"`
}

type outerResponse struct {
	ActivationData signature.EncryptedResponse `json:"activationData"`
}

// innerRequest is the plaintext of layer 2.
type innerRequest struct {
	DevicePublicKey string `json:"devicePublicKey"` // Base64, SEC1 point
	ActivationName  string `json:"activationName"`
	ActivationOTP   string `json:"activationOtp"`
	Platform        string `json:"platform"`
	DeviceInfo      string `json:"deviceInfo"`
}

type innerResponse struct {
	ActivationID    string `json:"activationId"`
	ServerPublicKey string `json:"serverPublicKey"` // Base64 of 65 bytes
	CtrData         string `json:"ctrData"`         // Base64 of 16 bytes
}

// exchange is one key exchange on its way.
type exchange struct {
	version      app.Version
	protocol     signature.Version
	code         string
	commit       bool // a provider vouches for the user: no commit is waited for
	device       innerRequest
	outer, inner *signature.Responder
}

// Activate serves a key exchange (device, POST /pa/v3/activation/create) of type
// CODE, or CUSTOM when there is an ActivationProvider. The order of the checks
// and the codes of the errors are those of the reference: ErrRequest, ErrExpired
// for an unknown application key, ErrTemporaryKey, ErrDecrypt, ErrFormat,
// ErrActivation, ErrExpired, ErrOTP.
func (r *Registrar) Activate(ctx context.Context, req ActivateRequest) (signature.EncryptedResponse, error) {
	x, err := r.open(ctx, req)
	if err == nil {
		var resp signature.EncryptedResponse
		if resp, err = r.exchange(ctx, x); err == nil {
			return resp, nil
		}
	}
	return signature.EncryptedResponse{}, fmt.Errorf("registration: activate: %w", err)
}

// open decrypts both layers and finds the code.
func (r *Registrar) open(ctx context.Context, req ActivateRequest) (*exchange, error) {
	layer1, err := r.cryptogram(req.Header.Version, req.Message)
	if err != nil {
		return nil, err
	}
	v, err := r.apps.ByKey(ctx, req.Header.ApplicationKey)
	switch {
	case errors.Is(err, app.ErrNotFound), err == nil && !v.Supported:
		return nil, fmt.Errorf("%w: application key", ErrExpired)
	case err != nil:
		return nil, err
	}
	x := &exchange{version: v, protocol: req.Header.Version}
	keys := &applicationKeys{r: r, version: v}
	params := signature.EnvelopeParams{
		Version: x.protocol, Scope: signature.ApplicationScope, SharedInfo1: signature.InfoApplication,
		ApplicationKey: v.Key, SharedInfo2: signature.ApplicationSharedInfo2(v.Secret.Reveal()),
	}
	var outer outerRequest
	if x.outer, err = keys.open(ctx, params, layer1, &outer); err != nil {
		return nil, err
	}
	// Once is enough for both layers: layer 2 lies inside of layer 1.
	if err := r.once(ctx, v.Tenant, keys.scope(layer1), layer1); err != nil {
		return nil, err
	}
	layer2, err := r.cryptogram(x.protocol, outer.ActivationData)
	if err != nil {
		return nil, err
	}
	params.SharedInfo1 = signature.InfoLayer2
	if x.inner, err = keys.open(ctx, params, layer2, &x.device); err != nil {
		return nil, err
	}
	if err := x.device.normalise(); err != nil {
		return nil, err
	}
	switch outer.ActivationType {
	case "CODE":
		x.code, _ = outer.IdentityAttributes["code"].(string)
		return x, nil
	case "CUSTOM":
		return x, r.custom(ctx, x, outer)
	}
	return nil, ErrRequest.With(fault.Violation{Field: "activationType", Value: outer.ActivationType, Hint: "must be CODE or CUSTOM"})
}

// applicationKeys opens messages in application scope: for the master key in the
// HSM, from 3.3 on for the temporary key that the message names.
type applicationKeys struct {
	r       *Registrar
	version app.Version
	id      string // of the temporary key in key; both layers use one
	key     agreement
}

func (k *applicationKeys) open(ctx context.Context, p signature.EnvelopeParams, c *signature.Cryptogram, out any) (*signature.Responder, error) {
	if k.key == nil || k.id != c.TemporaryKeyID {
		var err error
		if c.TemporaryKeyID == "" {
			k.key, err = k.r.deviceMaster(ctx, k.version)
		} else {
			k.key, err = k.r.temporaryKey(ctx, k.version, uuid.NullUUID{}, c.TemporaryKeyID)
		}
		if err != nil {
			return nil, err
		}
		k.id = c.TemporaryKeyID
	}
	p.TemporaryKeyID = c.TemporaryKeyID
	plaintext, responder, err := openWith(ctx, k.key, p, c)
	if err != nil {
		return nil, err
	}
	return responder, parsePlaintext(plaintext, out)
}

func (k *applicationKeys) scope(c *signature.Cryptogram) nonceScope {
	if c.TemporaryKeyID != "" {
		return nonceScope{nonceTemporaryKey, c.TemporaryKeyID}
	}
	return nonceScope{nonceApplication, signature.EncodeBase64(k.version.Key[:])}
}

// normalise bounds the texts of the device and lower-cases the platform.
func (d *innerRequest) normalise() error {
	var v []fault.Violation
	if d.DevicePublicKey == "" {
		v = append(v, fault.Violation{Field: "devicePublicKey", Hint: "must be present"})
	}
	for _, f := range []struct{ name, value string }{
		{"activationName", d.ActivationName},
		{"activationOtp", d.ActivationOTP},
		{"platform", d.Platform},
		{"deviceInfo", d.DeviceInfo},
	} {
		if !optionalText(f.value) {
			v = append(v, fault.Violation{Field: f.name, Hint: "must be at most 255 characters"})
		}
	}
	if v != nil {
		return ErrRequest.With(v...)
	}
	if d.Platform = strings.ToLower(d.Platform); d.Platform == "" {
		d.Platform = "unknown"
	}
	return nil
}
