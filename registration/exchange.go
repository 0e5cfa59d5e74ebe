package registration

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/signature"
)

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
			won, err := r.expire(ctx, row)
			if err != nil {
				return none, err
			}
			if !won {
				continue
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
			won, err := r.failOTP(ctx, row, "registration.exchange", actorDevice)
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
		row.event(now, "registration.exchange", actorDevice, "device_key_invalid"), row.told(StateRemoved, ""))
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
	if x.commit || row.otpMode == OTPOnKeyExchange && otpVerified {
		state = StateActive
	}
	now := r.clock()
	e := row.event(now, "registration.exchange", actorDevice, "ok")
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
