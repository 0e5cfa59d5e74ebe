package registration

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg"
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
	ActivationType     string `json:"activationType"`
	IdentityAttributes struct {
		Code string `json:"code"`
	} `json:"identityAttributes"`
	ActivationData signature.EncryptedRequest `json:"activationData"`
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
	device       innerRequest
	outer, inner *signature.Responder
}

// Activate serves a key exchange with an activation code (device, POST
// /pa/v3/activation/create). The order of the checks and the codes of the errors
// are those of the reference: ErrTemporaryKey, ErrRequest, ErrExpired for an
// unknown application key, ErrDecrypt, ErrFormat, ErrActivation, ErrExpired,
// ErrOTP.
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

// open decrypts both layers.
func (r *Registrar) open(ctx context.Context, req ActivateRequest) (*exchange, error) {
	if req.Header.Version >= signature.V33 {
		return nil, ErrTemporaryKey
	}
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
	master, err := r.apps.Master(ctx, v.Tenant, v.App)
	if err != nil {
		return nil, err
	}
	x := &exchange{version: v, protocol: req.Header.Version}
	params := signature.EnvelopeParams{
		Version: x.protocol, Scope: signature.ApplicationScope, SharedInfo1: signature.InfoApplication,
		ApplicationKey: v.Key, SharedInfo2: signature.ApplicationSharedInfo2(v.Secret.Reveal()),
	}
	var outer outerRequest
	if x.outer, err = openLayer(ctx, master, params, layer1, &outer); err != nil {
		return nil, err
	}
	if outer.ActivationType != "CODE" {
		return nil, ErrRequest.With(fault.Violation{Field: "activationType", Value: outer.ActivationType, Hint: "must be CODE"})
	}
	layer2, err := r.cryptogram(x.protocol, outer.ActivationData)
	if err != nil {
		return nil, err
	}
	params.SharedInfo1 = signature.InfoLayer2
	if x.inner, err = openLayer(ctx, master, params, layer2, &x.device); err != nil {
		return nil, err
	}
	x.code = outer.IdentityAttributes.Code
	return x, x.device.normalise()
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

// openLayer decrypts one layer with the master key and parses its JSON.
func openLayer(ctx context.Context, m app.Master, p signature.EnvelopeParams, c *signature.Cryptogram, out any) (*signature.Responder, error) {
	z, err := m.ECDH(ctx, c.EphemeralKey)
	if err != nil {
		return nil, err
	}
	plaintext, responder, err := signature.OpenRequest(z, p, c)
	clear(z)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDecrypt, err)
	}
	err = json.Unmarshal(plaintext, out)
	clear(plaintext) // it may hold the OTP
	if err != nil {
		return nil, ErrFormat // the cause would quote the text
	}
	return responder, nil
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

// exchange moves the registration and answers the device.
func (r *Registrar) exchange(ctx context.Context, x *exchange) (signature.EncryptedResponse, error) {
	var none signature.EncryptedResponse
	if _, err := signature.ParseActivationCode(x.code); err != nil {
		return none, fmt.Errorf("%w: %w", ErrActivation, err)
	}
	guess := otpGuess{text: x.device.ActivationOTP}
	for ; ; r.metrics.retries.Inc() {
		row, err := r.one(ctx, x.version.Tenant, sqlByCode, x.version.App, x.code)
		switch {
		case errors.Is(err, ErrNotFound):
			return none, ErrActivation
		case err != nil:
			return none, err
		case row.expired(r.now()):
			if err := r.expire(ctx, row); err != nil {
				return none, err
			}
			return none, ErrExpired
		}
		otp, err := r.judgeOTP(ctx, row, OTPOnKeyExchange, &guess)
		if err != nil {
			return none, err
		}
		switch otp {
		case otpRefuse:
			return none, ErrOTP
		case otpWrong:
			won, err := r.failOTP(ctx, row, "registration.exchange", "device")
			if err != nil {
				return none, err
			}
			if won {
				return none, ErrOTP
			}
			continue
		}
		device, ok := deviceKey(x.device.DevicePublicKey)
		if !ok {
			won, err := r.removeBadKey(ctx, row)
			if err != nil {
				return none, err
			}
			if won {
				return none, fmt.Errorf("%w: device key", ErrActivation)
			}
			continue
		}
		resp, won, err := r.move(ctx, x, row, device, otp == otpGood)
		if err != nil || won {
			return resp, err
		}
	}
}

// deviceKey decodes and validates the device's key.
func deviceKey(text string) (*ecdh.PublicKey, bool) {
	raw, err := signature.ParseBase64(text)
	if err != nil {
		return nil, false
	}
	key, err := signature.ParsePublicKey(raw)
	return key, err == nil
}

func (r *Registrar) removeBadKey(ctx context.Context, row *record) (won bool, err error) {
	now := r.clock()
	return r.transit(ctx, sqlSettle, []any{row.tenant.String(), row.id, row.revision, StateRemoved, row.failed, now},
		row.event(now, "registration.exchange", "device", "device_key_invalid"), row.told(StateRemoved, ""))
}

// move computes the keys, stores them and then seals the answer, which can not
// fail for an envelope that is used once.
func (r *Registrar) move(ctx context.Context, x *exchange, row *record, device *ecdh.PublicKey, otpVerified bool) (resp signature.EncryptedResponse, won bool, err error) {
	master, err := r.masterSecret(ctx, row, device)
	if err != nil {
		return resp, false, err
	}
	sealed, err := r.envelope.Seal(ctx, masterField(row.tenant, row.id), master[:])
	clear(master[:])
	if err != nil {
		return resp, false, err
	}
	var ctr signature.Counter
	_, _ = rand.Read(ctr[:])
	state := StatePendingCommit
	if row.otpMode == OTPOnKeyExchange && otpVerified {
		state = StateActive
	}
	now := r.clock()
	e := row.event(now, "registration.exchange", "device", "ok")
	e.Detail = map[string]any{
		"version": x.protocol.String(), "platform": x.device.Platform, "status": state, "applicationVersion": x.version.Name,
	}
	won, err = r.transit(ctx, sqlExchange, []any{
		row.tenant.String(), row.id, row.revision, state, x.device.ActivationName, x.device.Platform, x.device.DeviceInfo,
		device.Bytes(), sealed, ctr[:], x.protocol.String(), now,
	}, e, row.told(state, ""))
	if err != nil || !won {
		return resp, false, err
	}
	resp, err = x.answer(row, ctr, now)
	return resp, true, err
}

// masterSecret is the one ECDH of a registration's life.
func (r *Registrar) masterSecret(ctx context.Context, row *record, device *ecdh.PublicKey) (master [16]byte, err error) {
	var (
		sealed []byte
		state  State
	)
	if err := r.db.QueryRow(ctx, sqlServerPrivate, row.tenant.String(), row.id).Scan(&sealed, &state); err != nil {
		return master, pg.Unavailable(err)
	}
	scalar, err := r.envelope.Open(ctx, privateField(row.tenant, row.id), sealed)
	if err != nil {
		return master, err
	}
	defer scalar.Wipe()
	private, err := ecdh.P256().NewPrivateKey(scalar.Reveal())
	if err != nil {
		return master, fmt.Errorf("%w: server key", errStored)
	}
	x, err := private.ECDH(device)
	if err != nil {
		return master, fmt.Errorf("%w: agreement", errStored)
	}
	defer clear(x)
	return signature.MasterSecret(x), nil
}

// answer seals both layers of the response.
func (x *exchange) answer(row *record, ctr signature.Counter, now time.Time) (signature.EncryptedResponse, error) {
	inner, err := json.Marshal(innerResponse{
		ActivationID:    row.id.String(),
		ServerPublicKey: signature.EncodeBase64(row.serverPublic),
		CtrData:         signature.EncodeBase64(ctr[:]),
	})
	if err != nil {
		return signature.EncryptedResponse{}, err
	}
	layer2, err := x.inner.Seal(inner, stamp(now))
	clear(inner)
	if err != nil {
		return signature.EncryptedResponse{}, err
	}
	outer, err := json.Marshal(outerResponse{ActivationData: layer2})
	if err != nil {
		return signature.EncryptedResponse{}, err
	}
	return x.outer.Seal(outer, stamp(now))
}

func stamp(now time.Time) (s signature.Stamp) {
	_, _ = rand.Read(s.Nonce[:])
	s.Timestamp = now.UnixMilli()
	return s
}
