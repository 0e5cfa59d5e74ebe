package powerauth

import (
	"context"
	"fmt"

	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
	"github.com/signet-hsm/signet/token"
)

// Tokens is the part of *token.Keeper that the dialect calls.
type Tokens interface {
	Create(ctx context.Context, r registration.SignedRequest) (signature.EncryptedResponse, error)
	Remove(ctx context.Context, r registration.SignedRequest) (tokenID string, err error)
	Verify(ctx context.Context, t tenant.ID, r token.VerifyRequest) (token.Verdict, error)
	Authenticate(ctx context.Context, h signature.TokenHeader) (registration.Caller, error)
}

var _ Tokens = (*token.Keeper)(nil)

// verifyToken is PA-AUTH-02. A token that is not accepted is 200 with tokenValid
// false; of one whose digest is wrong nothing is told.
func (h *handlers) verifyToken(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := readToken(r)
	if err != nil {
		return rest.Response{}, err
	}
	var c rest.Check
	present(&c, "authHeader", body.AuthHeader != "")
	if err := c.Err(); err != nil {
		return rest.Response{}, err
	}
	header, err := signature.ParseTokenHeader(body.AuthHeader)
	if err != nil {
		return rest.Response{}, fmt.Errorf("%w: %w", errTokenHeader, err)
	}
	v, err := h.tokens.Verify(ctx, r.Principal.Tenant, token.VerifyRequest{Apps: r.Principal.Apps, Header: header, Actor: r.Principal.Name})
	if err != nil {
		return rest.Response{}, err
	}
	if !v.Judged { // the contract wants a value
		v.Status, v.Factors = registration.StateRemoved, signature.Possession
	}
	return tokenAnswer(v), nil
}

// createToken is POST /pa/v3/token/create.
func (h *handlers) createToken(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return sealed(ctx, r, h.tokens.Create)
}

// removeToken is POST /pa/v3/token/remove.
func (h *handlers) removeToken(ctx context.Context, r *rest.Request) (rest.Response, error) {
	req, err := signed(r)
	if err != nil {
		return rest.Response{}, err
	}
	id, err := h.tokens.Remove(ctx, req)
	return answered(struct {
		TokenID string `json:"tokenId"`
	}{id}), err
}
