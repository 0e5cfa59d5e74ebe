package powerauth

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
)

// nullable are the members of an encrypted message: for SDKs null and absent are
// the same.
var nullable = []string{"temporaryKeyId", "ephemeralPublicKey", "encryptedData", "mac", "nonce", "timestamp"}

// object and answer wrap what is not an encrypted message.
type (
	object[T any] struct {
		Object T `json:"requestObject"`
	}
	answer[T any] struct {
		Status string `json:"status"`
		Object T      `json:"responseObject"`
	}
)

func answered[T any](v T) rest.Response { return rest.OK(answer[T]{"OK", v}) }

// activate is the key exchange, POST /pa/v3/activation/create.
func (h *handlers) activate(ctx context.Context, r *rest.Request) (rest.Response, error) {
	header, err := signature.ParseEncryptionHeader(r.Header("X-PowerAuth-Encryption"), signature.ApplicationScope)
	if err != nil {
		return rest.Response{}, fmt.Errorf("%w: %w", errEncryptionHeader, err)
	}
	message, err := rest.Decode[signature.EncryptedRequest](r, nullable...)
	if err != nil {
		return rest.Response{}, err
	}
	resp, err := h.registrations.Activate(ctx, registration.ActivateRequest{Header: header, Message: message})
	return rest.OK(resp), err
}

// deviceStatus is POST /pa/v3/activation/status.
func (h *handlers) deviceStatus(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := rest.DecodeKnown[object[struct {
		ActivationID string `json:"activationId"`
		Challenge    string `json:"challenge"`
	}]](r)
	if err != nil {
		return rest.Response{}, err
	}
	var c rest.Check
	c.Length("activationId", body.Object.ActivationID, 1, registration.MaxText)
	var challenge *[16]byte
	if body.Object.Challenge != "" {
		raw, err := signature.ParseBase64(body.Object.Challenge)
		if err != nil || len(raw) != 16 {
			c.Fail("challenge", nil, "must be Base64 of 16 bytes")
		} else {
			challenge = (*[16]byte)(raw)
		}
	}
	if err := c.Err(); err != nil {
		return rest.Response{}, err
	}
	a, err := h.registrations.Status(ctx, body.Object.ActivationID, challenge)
	if err != nil {
		return rest.Response{}, err
	}
	type status struct {
		ActivationID string `json:"activationId"`
		Blob         string `json:"encryptedStatusBlob"`
		Nonce        string `json:"nonce,omitzero"`
	}
	out := status{ActivationID: body.Object.ActivationID, Blob: signature.EncodeBase64(a.Blob[:])}
	if a.Nonce != nil {
		out.Nonce = signature.EncodeBase64(a.Nonce[:])
	}
	return answered(out), nil
}

// removeDevice is POST /pa/v3/activation/remove.
func (h *handlers) removeDevice(ctx context.Context, r *rest.Request) (rest.Response, error) {
	req, err := signed(r)
	if err != nil {
		return rest.Response{}, err
	}
	id, err := h.registrations.RemoveDevice(ctx, req)
	return answered(struct {
		ActivationID string `json:"activationId"`
	}{id}), err
}

// renameDevice is POST /pa/v3/activation/rename.
func (h *handlers) renameDevice(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return sealed(ctx, r, h.registrations.Rename)
}

// unlockVault is POST /pa/v3/vault/unlock.
func (h *handlers) unlockVault(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return sealed(ctx, r, h.registrations.VaultUnlock)
}

// validateSignature is /pa/v3/signature/validate with one method: apps try their
// signatures here before they send them where it matters.
func (h *handlers) validateSignature(method string) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (rest.Response, error) {
		req, err := signed(r)
		if err != nil {
			return rest.Response{}, err
		}
		if req.Method = method; method == http.MethodGet {
			if req.Body, req.Query, err = nil, nil, nil; r.RawQuery() != "" {
				req.Query, err = signedQuery(r.RawQuery())
			}
		}
		if err != nil {
			return rest.Response{}, err
		}
		return done, h.registrations.ValidateSignature(ctx, req)
	}
}

// signedQuery reads parameters as a device that signs a map of them has written
// them. A name that stands twice can be in no map, so nobody has signed it.
func signedQuery(raw string) (map[string]string, error) {
	canonical, err := signature.NormalizeRawGET(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", registration.ErrSignature, err)
	}
	values, err := url.ParseQuery(string(canonical))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", registration.ErrSignature, err)
	}
	query := make(map[string]string, len(values))
	for name, v := range values {
		if len(v) > 1 {
			return nil, fmt.Errorf("%w: a parameter stands twice", registration.ErrSignature)
		}
		query[name] = v[0]
	}
	return query, nil
}

// temporaryKey is POST /pa/v3/keystore/create.
func (h *handlers) temporaryKey(ctx context.Context, r *rest.Request) (rest.Response, error) {
	type token struct {
		JWT string `json:"jwt"`
	}
	body, err := rest.DecodeKnown[object[token]](r)
	if err != nil {
		return rest.Response{}, err
	}
	jwt, err := h.registrations.TemporaryKey(ctx, body.Object.JWT)
	return answered(token{jwt}), err
}

// serverStatus is POST /pa/v3/status: protocol 3.2 and later need the time.
func (h *handlers) serverStatus(context.Context, *rest.Request) (rest.Response, error) {
	return answered(struct {
		ServerTime int64 `json:"serverTime"`
	}{h.registrations.ServerTime()}), nil
}

// signed reads a request that the device signed as it was sent. A header that does
// not parse is a signature that does not match.
func signed(r *rest.Request) (registration.SignedRequest, error) {
	value := r.Header(signature.HeaderName)
	if value == "" {
		return registration.SignedRequest{}, errSignatureMissing
	}
	header, err := signature.ParseHeader(value)
	if err != nil {
		return registration.SignedRequest{}, fmt.Errorf("%w: %w", registration.ErrSignature, err)
	}
	return registration.SignedRequest{Header: header, Method: "POST", Body: r.Body()}, nil
}

// sealed serves an endpoint that is signed, and encrypted both ways.
func sealed(ctx context.Context, r *rest.Request, call func(context.Context, registration.SignedRequest) (signature.EncryptedResponse, error)) (rest.Response, error) {
	req, err := signed(r)
	if err != nil {
		return rest.Response{}, err
	}
	resp, err := call(ctx, req)
	return rest.OK(resp), err
}
