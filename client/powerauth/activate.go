package powerauth

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"fmt"

	"github.com/signet-hsm/signet/signature"
)

// ActivateOptions describe the device to the server. The zero value is fine.
type ActivateOptions struct {
	Name             string // shown to the person, e.g. "Petr's iPhone"
	OTP              string // when the registration asks for one at the key exchange
	Platform         string // "ios", "android", "hw"; "" is "unknown"
	DeviceInfo       string
	Extras           string
	CustomAttributes map[string]any
}

// The messages of POST /pa/v3/activation/create: layer 2 stands encrypted inside
// of layer 1.
type (
	layer1Request struct {
		ActivationType     string                     `json:"activationType"`
		IdentityAttributes map[string]any             `json:"identityAttributes"`
		CustomAttributes   map[string]any             `json:"customAttributes,omitempty"`
		ActivationData     signature.EncryptedRequest `json:"activationData"`
	}
	layer1Response struct {
		ActivationData signature.EncryptedResponse `json:"activationData"`
	}
	layer2Request struct {
		DevicePublicKey string `json:"devicePublicKey"`
		ActivationName  string `json:"activationName,omitempty"`
		ActivationOTP   string `json:"activationOtp,omitempty"`
		Platform        string `json:"platform,omitempty"`
		DeviceInfo      string `json:"deviceInfo,omitempty"`
		Extras          string `json:"extras,omitempty"`
	}
	layer2Response struct {
		ActivationID    string `json:"activationId"`
		ServerPublicKey string `json:"serverPublicKey"`
		CtrData         string `json:"ctrData"`
	}
)

// Activate exchanges keys with the server. code is what the person typed
// ("XXXXX-XXXXX-XXXXX-XXXXX") or the camera saw (the same, "#" and a signature of
// the master key, which is checked before anything is sent). A failed attempt
// leaves the device as it was; whether the server still knows the code then is
// the server's matter.
func (d *Device) Activate(ctx context.Context, code string, o ActivateOptions) error {
	code, der, err := signature.ParseActivationQR(code)
	if err != nil {
		return err
	}
	if der != nil && !d.signedByMaster(code, der) {
		return ErrQRSignature
	}
	return d.activate(ctx, "CODE", map[string]any{"code": code}, o)
}

// ActivateCustom exchanges keys on the strength of identity attributes that the
// server's own provider understands, instead of a code.
func (d *Device) ActivateCustom(ctx context.Context, identity map[string]any, o ActivateOptions) error {
	return d.activate(ctx, "CUSTOM", identity, o)
}

func (d *Device) activate(ctx context.Context, kind string, identity map[string]any, o ActivateOptions) error {
	if d.ActivationID() != "" {
		return ErrActivated
	}
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make the device key: %w", err)
	}
	answer, err := d.exchange(ctx, kind, identity, private.PublicKey(), o)
	if err != nil {
		return fmt.Errorf("activate: %w", err)
	}
	a, err := newActivation(answer.ActivationID, private, answer.ServerPublicKey, answer.CtrData)
	if err != nil {
		return fmt.Errorf("activate: %w: %w", ErrProtocol, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.activation != nil {
		return ErrActivated
	}
	d.activation = a
	return nil
}

// exchange is the round trip of the two layers.
func (d *Device) exchange(ctx context.Context, kind string, identity map[string]any, public *ecdh.PublicKey, o ActivateOptions) (layer2Response, error) {
	var answer layer2Response
	to, err := d.applicationScope(ctx)
	if err != nil {
		return answer, err
	}
	inner, open2, err := d.seal(to, signature.InfoLayer2, layer2Request{
		DevicePublicKey: signature.EncodeBase64(public.Bytes()),
		ActivationName:  o.Name, ActivationOTP: o.OTP, Platform: o.Platform, DeviceInfo: o.DeviceInfo, Extras: o.Extras,
	})
	if err != nil {
		return answer, err
	}
	outer, open1, err := d.seal(to, signature.InfoApplication, layer1Request{
		ActivationType: kind, IdentityAttributes: identity,
		CustomAttributes: o.CustomAttributes, ActivationData: inner,
	})
	if err != nil {
		return answer, err
	}
	header := signature.EncryptionHeader{ApplicationKey: d.appKey, Version: d.version}
	var sealed signature.EncryptedResponse
	err = d.post(ctx, "/pa/v3/activation/create", signature.EncryptionHeaderName, header.String(), outer, &sealed)
	if err != nil {
		return answer, err
	}
	var layer1 layer1Response
	if err := unseal(open1, sealed, &layer1); err != nil {
		return answer, fmt.Errorf("layer 1: %w", err)
	}
	if err := unseal(open2, layer1.ActivationData, &answer); err != nil {
		return answer, fmt.Errorf("layer 2: %w", err)
	}
	return answer, nil
}

// newActivation agrees on the keys.
func newActivation(id string, private *ecdh.PrivateKey, serverPublic, ctrData string) (*activation, error) {
	a := &activation{id: id, private: private}
	if id == "" {
		return nil, fmt.Errorf("no activation id")
	}
	var err error
	if a.server, err = parsePublic(serverPublic); err != nil {
		return nil, fmt.Errorf("server public key: %w", err)
	}
	if err := fill(a.counter[:], ctrData); err != nil {
		return nil, fmt.Errorf("counter: %w", err)
	}
	z, err := private.ECDH(a.server)
	if err != nil {
		return nil, fmt.Errorf("key agreement: %w", err)
	}
	a.keys = signature.DeriveKeys(signature.MasterSecret(z))
	clear(z)
	return a, nil
}
