package grpc

import (
	"context"
	"fmt"
	"strings"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
	"github.com/signet-hsm/signet/token"
)

// Tokens is the part of *token.Keeper that TokenService calls.
type Tokens interface {
	Verify(ctx context.Context, t tenant.ID, r token.VerifyRequest) (token.Verdict, error)
}

type tokens struct {
	signetv1.UnimplementedTokenServiceServer
	domain Tokens
}

func (s tokens) VerifyToken(ctx context.Context, req *signetv1.VerifyTokenRequest) (*signetv1.VerifyTokenResponse, error) {
	if req.GetCheck() == nil {
		return nil, missing("check")
	}
	verdict, err := s.verify(ctx, principal(ctx), req.GetCheck())
	if err != nil {
		return nil, err
	}
	return &signetv1.VerifyTokenResponse{Verdict: verdict}, nil
}

// verify serves one check; a batch call will repeat it.
func (s tokens) verify(ctx context.Context, p access.Principal, c *signetv1.TokenCheck) (*signetv1.TokenVerdict, error) {
	header, err := signature.ParseTokenHeader(c.GetAuthHeader())
	if err != nil {
		hint := "must be an X-PowerAuth-Token header"
		if f := fault.Of(err); f != nil {
			hint = f.Reason
		}
		return nil, fmt.Errorf("%w: %w", errTokenHeader.With(fault.Violation{Field: "authHeader", Hint: hint}), err)
	}
	v, err := s.domain.Verify(ctx, p.Tenant, token.VerifyRequest{Apps: p.Apps, Header: header, Actor: p.Name})
	if err != nil || !v.Judged {
		return &signetv1.TokenVerdict{}, err
	}
	return &signetv1.TokenVerdict{
		Valid: v.Valid, UserId: v.UserID, RegistrationId: v.RegistrationID, RegistrationStatus: statuses[v.Status],
		SignatureType: signatureType(v.Factors), Flags: v.Flags, Application: &signetv1.Application{Name: v.App, Roles: v.Roles},
	}, nil
}

func signatureType(f signature.Factor) signetv1.SignatureType {
	return signetv1.SignatureType(signetv1.SignatureType_value["SIGNATURE_TYPE_"+strings.ToUpper(f.String())])
}
