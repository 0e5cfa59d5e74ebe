package powerauth

import (
	"context"
	"fmt"

	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/api/powerauth/internal/spec"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
)

// verifySignature is PA-AUTH-01. A wrong signature is 200 with signatureValid
// false.
func (h *handlers) verifySignature(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := readSignature(r)
	if err != nil {
		return rest.Response{}, err
	}
	req, err := verifyRequest(r, body)
	if err != nil {
		return rest.Response{}, err
	}
	v, err := h.registrations.Verify(ctx, r.Principal.Tenant, req)
	if err != nil {
		return rest.Response{}, err
	}
	return signatureAnswer(v), nil
}

func verifyRequest(r *rest.Request, body spec.VerifySignature) (registration.VerifyRequest, error) {
	req := registration.VerifyRequest{
		Apps: r.Principal.Apps, Method: string(body.Method), URIID: body.UriId,
		Query: value(body.QueryParams, nil), Actor: r.Principal.Name,
	}
	var c rest.Check
	rest.OneOf(&c, "method", body.Method, "GET", "POST", "PUT", "DELETE")
	c.Length("uriId", body.UriId, 1, registration.MaxURIID)
	if body.AuthHeader == "" {
		c.Fail("authHeader", nil, "must not be empty")
	}
	var err error
	if req.Body, err = signature.ParseBase64(value(body.RequestBody, "")); err != nil {
		c.Fail("requestBody", nil, "must be Base64")
	}
	if err := c.Err(); err != nil {
		return req, err
	}
	if req.Header, err = signature.ParseHeader(body.AuthHeader); err != nil {
		return req, fmt.Errorf("%w: %w", errHeader, err)
	}
	return req, nil
}
