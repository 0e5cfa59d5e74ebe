package grpc

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
)

type signatures struct {
	signetv1.UnimplementedSignatureServiceServer
	verifier Verifier
	server   *Server
}

func (s signatures) VerifySignature(ctx context.Context, req *signetv1.VerifySignatureRequest) (*signetv1.VerifySignatureResponse, error) {
	if req.GetCheck() == nil {
		return nil, missing("check")
	}
	verdict, err := s.verify(ctx, &callOf(ctx).principal, req.GetCheck())
	if err != nil {
		return nil, err
	}
	return &signetv1.VerifySignatureResponse{Verdict: verdict}, nil
}

// VerifySignatures judges each check on its own.
func (s signatures) VerifySignatures(ctx context.Context, req *signetv1.VerifySignaturesRequest) (*signetv1.VerifySignaturesResponse, error) {
	results, err := batch(ctx, s.server, req.GetChecks(), s.key, s.judge)
	return &signetv1.VerifySignaturesResponse{Results: results}, err
}

// VerifySignatureStream judges checks as they come.
func (s signatures) VerifySignatureStream(stream grpc.BidiStreamingServer[signetv1.VerifySignatureStreamRequest, signetv1.VerifySignatureStreamResponse]) error {
	return converse(s.server, stream, conversation[signetv1.VerifySignatureStreamRequest, signetv1.VerifySignatureStreamResponse]{
		atOnce: checksAtOnce,
		key:    func(r *signetv1.VerifySignatureStreamRequest) string { return s.key(r.GetCheck()) },
		answer: func(ctx context.Context, r *signetv1.VerifySignatureStreamRequest) *signetv1.VerifySignatureStreamResponse {
			return &signetv1.VerifySignatureStreamResponse{Tag: r.GetTag(), Result: s.judge(ctx, r.GetCheck())}
		},
	})
}

// key: the checks of one registration are judged in their order.
func (s signatures) key(c *signetv1.SignatureCheck) string {
	header, err := signature.ParseHeader(c.GetAuthHeader())
	if err != nil {
		return "" // it will be told why
	}
	return strings.ToLower(header.ActivationID)
}

// judge is one check of many.
func (s signatures) judge(ctx context.Context, c *signetv1.SignatureCheck) *signetv1.SignatureResult {
	verdict, err := one(ctx, s.server, c, func(ctx context.Context) (*signetv1.SignatureVerdict, error) {
		return s.verify(ctx, &callOf(ctx).principal, c)
	})
	if err != nil {
		return &signetv1.SignatureResult{Outcome: &signetv1.SignatureResult_Error{Error: err}}
	}
	return &signetv1.SignatureResult{Outcome: &signetv1.SignatureResult_Verdict{Verdict: verdict}}
}

// verify serves one check.
func (s signatures) verify(ctx context.Context, p *access.Principal, c *signetv1.SignatureCheck) (*signetv1.SignatureVerdict, error) {
	header, err := signature.ParseHeader(c.GetAuthHeader())
	if err != nil {
		hint := "must be an X-PowerAuth-Authorization header"
		if f := fault.Of(err); f != nil {
			hint = f.Reason
		}
		return nil, fmt.Errorf("%w: %w", errHeader.With(fault.Violation{Field: "authHeader", Hint: hint}), err)
	}
	v, err := s.verifier.Verify(ctx, p.Tenant, registration.VerifyRequest{
		Apps: p.Apps, Header: header, Method: c.GetMethod(), URIID: c.GetUriId(), Body: c.GetBody(),
		Query: c.GetQueryParams(), Actor: p.Name,
	})
	if err != nil {
		return nil, err
	}
	return &signetv1.SignatureVerdict{
		Valid: v.Valid, UserId: v.UserID, RegistrationId: v.ID, RegistrationStatus: statuses[v.Status],
		SignatureType:     signatureType(v.Factors),
		RemainingAttempts: int32(v.RemainingAttempts), Flags: v.Flags,
		Application: &signetv1.Application{Name: v.App, Roles: v.Roles},
	}, nil
}

var statuses = map[registration.State]signetv1.RegistrationStatus{
	registration.StateCreated:       signetv1.RegistrationStatus_REGISTRATION_STATUS_CREATED,
	registration.StatePendingCommit: signetv1.RegistrationStatus_REGISTRATION_STATUS_PENDING_COMMIT,
	registration.StateActive:        signetv1.RegistrationStatus_REGISTRATION_STATUS_ACTIVE,
	registration.StateBlocked:       signetv1.RegistrationStatus_REGISTRATION_STATUS_BLOCKED,
	registration.StateRemoved:       signetv1.RegistrationStatus_REGISTRATION_STATUS_REMOVED,
}
