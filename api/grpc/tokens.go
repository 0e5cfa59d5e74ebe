package grpc

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc"

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
	server *Server
}

func (s tokens) VerifyToken(ctx context.Context, req *signetv1.VerifyTokenRequest) (*signetv1.VerifyTokenResponse, error) {
	if req.GetCheck() == nil {
		return nil, missing("check")
	}
	verdict, err := s.verify(ctx, &callOf(ctx).principal, req.GetCheck())
	if err != nil {
		return nil, err
	}
	return &signetv1.VerifyTokenResponse{Verdict: verdict}, nil
}

// VerifyTokens judges each check on its own.
func (s tokens) VerifyTokens(ctx context.Context, req *signetv1.VerifyTokensRequest) (*signetv1.VerifyTokensResponse, error) {
	results, err := batch(ctx, s.server, req.GetChecks(), nil, s.judge)
	return &signetv1.VerifyTokensResponse{Results: results}, err
}

// VerifyTokenStream judges checks as they come.
func (s tokens) VerifyTokenStream(stream grpc.BidiStreamingServer[signetv1.VerifyTokenStreamRequest, signetv1.VerifyTokenStreamResponse]) error {
	return converse(s.server, stream, conversation[signetv1.VerifyTokenStreamRequest, signetv1.VerifyTokenStreamResponse]{
		atOnce: checksAtOnce,
		answer: func(ctx context.Context, r *signetv1.VerifyTokenStreamRequest) *signetv1.VerifyTokenStreamResponse {
			return &signetv1.VerifyTokenStreamResponse{Tag: r.GetTag(), Result: s.judge(ctx, r.GetCheck())}
		},
	})
}

// judge is one check of many.
func (s tokens) judge(ctx context.Context, c *signetv1.TokenCheck) *signetv1.TokenResult {
	verdict, err := one(ctx, s.server, c, func(ctx context.Context) (*signetv1.TokenVerdict, error) {
		return s.verify(ctx, &callOf(ctx).principal, c)
	})
	if err != nil {
		return &signetv1.TokenResult{Outcome: &signetv1.TokenResult_Error{Error: err}}
	}
	return &signetv1.TokenResult{Outcome: &signetv1.TokenResult_Verdict{Verdict: verdict}}
}

// verify serves one check.
func (s tokens) verify(ctx context.Context, p *access.Principal, c *signetv1.TokenCheck) (*signetv1.TokenVerdict, error) {
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

// typesByFactors has the type of each set of factors, since its name is made of
// theirs.
var typesByFactors = func() (out [8]signetv1.SignatureType) {
	for f := range out {
		out[f] = signetv1.SignatureType(signetv1.SignatureType_value["SIGNATURE_TYPE_"+strings.ToUpper(signature.Factor(f).String())])
	}
	return out
}()

func signatureType(f signature.Factor) signetv1.SignatureType {
	if int(f) >= len(typesByFactors) {
		return signetv1.SignatureType_SIGNATURE_TYPE_UNSPECIFIED
	}
	return typesByFactors[f]
}
