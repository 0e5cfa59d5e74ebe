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

	// ProximityOTP is from the code that the person scanned, for an operation that
	// wants to know that they are there. It is sent with the approval.
	ProximityOTP string `json:"-"`
}

const pathOperation = "/api/auth/token/app/operation/"

// Operations lists what waits for this device's user; the token answers for it.
func (d *Device) Operations(ctx context.Context, t Token) ([]Operation, error) {
	var out objectResponse[[]Operation]
	if err := d.byToken(ctx, t, pathOperation+"list", nil, &out); err != nil {
		return nil, fmt.Errorf("list operations: %w", err)
	}
	return out.Object, nil
}

// Operation shows one operation that waits; of one that has ended the error's code
// says how.
func (d *Device) Operation(ctx context.Context, t Token, id string) (Operation, error) {
	var out objectResponse[Operation]
	if err := d.byToken(ctx, t, pathOperation+"detail", map[string]string{"id": id}, &out); err != nil {
		return Operation{}, fmt.Errorf("show operation: %w", err)
	}
	return out.Object, nil
}

// History lists the user's operations of any state, the newest first; it takes two
// factors.
func (d *Device) History(ctx context.Context, f signature.Factor) ([]Operation, error) {
	var out objectResponse[[]Operation]
	if err := d.signedPost(ctx, endpoint{uriID: "/operation/history", path: pathOperation + "history"}, f, struct{}{}, &out); err != nil {
		return nil, fmt.Errorf("list history: %w", err)
	}
	return out.Object, nil
}

// Approve signs the operation exactly as it was listed.
func (d *Device) Approve(ctx context.Context, o Operation, f signature.Factor) error {
	what := approval{ID: o.ID, Data: o.Data}
	if o.ProximityOTP != "" {
		what.Proximity = &proximity{o.ProximityOTP, "QR_CODE"}
	}
	return d.decide(ctx, "authorize", what, f)
}

type (
	approval struct {
		ID        string     `json:"id"`
		Data      string     `json:"data"`
		Proximity *proximity `json:"proximityCheck,omitempty"`
	}
	proximity struct {
		OTP  string `json:"otp"`
		Type string `json:"type"`
	}
)

// Reject tells the server that the person said no. Reasons are the SDK's, such
// as UNKNOWN, INCORRECT_DATA and UNEXPECTED_OPERATION.
func (d *Device) Reject(ctx context.Context, o Operation, reason string) error {
	return d.decide(ctx, "cancel", map[string]string{"id": o.ID, "reason": reason}, signature.Possession)
}

func (d *Device) decide(ctx context.Context, verb string, what any, f signature.Factor) error {
	var out objectResponse[json.RawMessage]
	if err := d.signedPost(ctx, endpoint{uriID: "/operation/" + verb, path: pathOperation + verb}, f, what, &out); err != nil {
		return fmt.Errorf("%s operation: %w", verb, err)
	}
	return nil
}
