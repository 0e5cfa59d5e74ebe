package powerauth

import (
	"context"
	"fmt"

	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
)

// nullable are the members of an encrypted message: for SDKs null and absent are
// the same.
var nullable = []string{"temporaryKeyId", "ephemeralPublicKey", "encryptedData", "mac", "nonce", "timestamp"}

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
	answer, err := h.registrations.Activate(ctx, registration.ActivateRequest{Header: header, Message: message})
	return rest.OK(answer), err
}
