package grpc

import (
	"context"
	"fmt"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
)

type signatures struct {
	signetv1.UnimplementedSignatureServiceServer
	verifier Verifier
}

func (s signatures) VerifySignature(ctx context.Context, req *signetv1.VerifySignatureRequest) (*signetv1.VerifySignatureResponse, error) {
	if req.GetCheck() == nil {
		return nil, missing("check")
	}
	verdict, err := s.verify(ctx, principal(ctx), req.GetCheck())
	if err != nil {
		return nil, err
	}
	return &signetv1.VerifySignatureResponse{Verdict: verdict}, nil
}

// verify serves one check; a batch call will repeat it.
func (s signatures) verify(ctx context.Context, p access.Principal, c *signetv1.SignatureCheck) (*signetv1.SignatureVerdict, error) {
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
