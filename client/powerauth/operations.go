package powerauth

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/signet-hsm/signet/signature"
)

// Operation is what waits for the person's decision. Data is what is signed;
// the rest is for showing.
type Operation struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Data   string `json:"data"`
	Status string `json:"status"`
	Form   struct {
		Title   string `json:"title"`
		Message string `json:"message"`
	} `json:"formData"`
}

// Operations lists what waits for this device's user; the token answers for it.
func (d *Device) Operations(ctx context.Context, t Token) ([]Operation, error) {
	header, err := d.TokenHeader(t)
	if err != nil {
		return nil, err
	}
	var out objectResponse[[]Operation]
	err = d.send(ctx, "/api/auth/token/app/operation/list", signature.TokenHeaderName, header, []byte("{}"), &out)
	if err != nil {
		return nil, fmt.Errorf("list operations: %w", err)
	}
	return out.Object, nil
}

// Approve signs the operation exactly as it was listed.
func (d *Device) Approve(ctx context.Context, o Operation, f signature.Factor) error {
	return d.decide(ctx, "authorize", map[string]string{"id": o.ID, "data": o.Data}, f)
}

// Reject tells the server that the person said no. Reasons are the SDK's, such
// as UNKNOWN, INCORRECT_DATA and UNEXPECTED_OPERATION.
func (d *Device) Reject(ctx context.Context, o Operation, reason string) error {
	return d.decide(ctx, "cancel", map[string]string{"id": o.ID, "reason": reason}, signature.Possession)
}

func (d *Device) decide(ctx context.Context, verb string, what map[string]string, f signature.Factor) error {
	body, err := json.Marshal(objectRequest[map[string]string]{what})
	if err != nil {
		return err
	}
	header, err := d.Sign("POST", "/operation/"+verb, body, f)
	if err != nil {
		return err
	}
	var out objectResponse[json.RawMessage]
	if err := d.send(ctx, "/api/auth/token/app/operation/"+verb, signature.HeaderName, header, body, &out); err != nil {
		return fmt.Errorf("%s operation: %w", verb, err)
	}
	return nil
}
