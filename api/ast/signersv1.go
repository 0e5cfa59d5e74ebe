package ast

import (
	"context"

	"github.com/signet-hsm/signet/api/ast/internal/spec"
	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/ca"
)

// The operations from when a tenant had one signer; that is now the current one.

// getSignerV1 is CA-01.
func (h *handlers) getSignerV1(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return h.showSigner(ctx, r, ca.Current)
}

// createSignerV1 is CA-02: CA-06 with a name that must be given.
func (h *handlers) createSignerV1(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := rest.Decode[struct {
		Name *string `json:"name"`
	}](r)
	if err != nil {
		return rest.Response{}, err
	}
	if body.Name == nil {
		var c rest.Check
		c.Fail("name", nil, "must be given")
		return rest.Response{}, c.Err()
	}
	return h.makeSigner(ctx, r, spec.CreateSignerV2{Name: body.Name})
}
