package grpc

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/operation"
	"github.com/signet-hsm/signet/tenant"
)

// Operations is the part of *operation.Ledger that OperationService calls.
type Operations interface {
	Create(ctx context.Context, t tenant.ID, p operation.CreateParams) (operation.Operation, error)
	Get(ctx context.Context, t tenant.ID, apps []string, id string) (operation.Operation, error)
	Cancel(ctx context.Context, t tenant.ID, p operation.CancelParams) error
	OfflineQR(ctx context.Context, t tenant.ID, p operation.QRParams) (operation.QR, error)
	OfflineOTP(ctx context.Context, t tenant.ID, p operation.OTPParams) (operation.OTPVerdict, error)
	Templates
}

type operations struct {
	signetv1.UnimplementedOperationServiceServer
	domain Operations
	server *Server
}

func (s operations) CreateOperation(ctx context.Context, req *signetv1.CreateOperationRequest) (*signetv1.CreateOperationResponse, error) {
	if req.GetOrder() == nil {
		return nil, missing("order")
	}
	op, err := s.create(ctx, principal(ctx), req.GetOrder())
	if err != nil {
		return nil, err
	}
	return &signetv1.CreateOperationResponse{Operation: op}, nil
}

// create serves one order; a batch call will repeat it.
func (s operations) create(ctx context.Context, p access.Principal, o *signetv1.OperationOrder) (*signetv1.Operation, error) {
	op, err := s.domain.Create(ctx, p.Tenant, operation.CreateParams{
		Apps: p.Apps, UserID: o.GetUserId(), Template: o.GetTemplate(), Language: o.GetLanguage(), ExternalID: o.GetExternalId(),
		Flag: o.GetFlag(), Parameters: o.GetParameters(), Actor: p.Name,
	})
	if err != nil {
		return nil, err
	}
	return operationOf(op), nil
}

func (s operations) GetOperation(ctx context.Context, req *signetv1.GetOperationRequest) (*signetv1.GetOperationResponse, error) {
	p := principal(ctx)
	op, err := s.domain.Get(ctx, p.Tenant, p.Apps, req.GetOperationId())
	if err != nil {
		return nil, err
	}
	return &signetv1.GetOperationResponse{Operation: operationOf(op)}, nil
}

func (s operations) CancelOperation(ctx context.Context, req *signetv1.CancelOperationRequest) (*signetv1.CancelOperationResponse, error) {
	p := principal(ctx)
	err := s.domain.Cancel(ctx, p.Tenant, operation.CancelParams{Apps: p.Apps, ID: req.GetOperationId(), Reason: req.GetReason(), Actor: p.Name})
	return &signetv1.CancelOperationResponse{}, err
}

func (s operations) GetOfflineQr(ctx context.Context, req *signetv1.GetOfflineQrRequest) (*signetv1.GetOfflineQrResponse, error) {
	p := principal(ctx)
	if req.GetRegistrationId() != "" && req.GetApplication() != "" {
		return nil, bad("application", "must be empty with a registration")
	}
	code, err := s.domain.OfflineQR(ctx, p.Tenant, operation.QRParams{
		Apps: p.Apps, ID: req.GetOperationId(), Registration: req.GetRegistrationId(), App: req.GetApplication(),
	})
	if err != nil {
		return nil, err
	}
	return &signetv1.GetOfflineQrResponse{Data: code.Data, Nonce: code.Nonce}, nil
}

func (s operations) VerifyOfflineOtp(ctx context.Context, req *signetv1.VerifyOfflineOtpRequest) (*signetv1.VerifyOfflineOtpResponse, error) {
	if req.GetCheck() == nil {
		return nil, missing("check")
	}
	verdict, err := s.verify(ctx, &callOf(ctx).principal, req.GetCheck())
	if err != nil {
		return nil, err
	}
	return &signetv1.VerifyOfflineOtpResponse{Verdict: verdict}, nil
}

// VerifyOfflineOtps judges each check on its own.
func (s operations) VerifyOfflineOtps(ctx context.Context, req *signetv1.VerifyOfflineOtpsRequest) (*signetv1.VerifyOfflineOtpsResponse, error) {
	results, err := batch(ctx, s.server, req.GetChecks(), s.key, s.judge)
	return &signetv1.VerifyOfflineOtpsResponse{Results: results}, err
}

// VerifyOfflineOtpStream judges checks as they come.
func (s operations) VerifyOfflineOtpStream(stream grpc.BidiStreamingServer[signetv1.VerifyOfflineOtpStreamRequest, signetv1.VerifyOfflineOtpStreamResponse]) error {
	return converse(s.server, stream, conversation[signetv1.VerifyOfflineOtpStreamRequest, signetv1.VerifyOfflineOtpStreamResponse]{
		atOnce: checksAtOnce,
		key:    func(r *signetv1.VerifyOfflineOtpStreamRequest) string { return s.key(r.GetCheck()) },
		answer: func(ctx context.Context, r *signetv1.VerifyOfflineOtpStreamRequest) *signetv1.VerifyOfflineOtpStreamResponse {
			return &signetv1.VerifyOfflineOtpStreamResponse{Tag: r.GetTag(), Result: s.judge(ctx, r.GetCheck())}
		},
	})
}

// key: the checks of one registration are judged in their order.
func (s operations) key(c *signetv1.OtpCheck) string { return strings.ToLower(c.GetRegistrationId()) }

// judge is one check of many.
func (s operations) judge(ctx context.Context, c *signetv1.OtpCheck) *signetv1.OtpResult {
	verdict, err := one(ctx, s.server, c, func(ctx context.Context) (*signetv1.OtpVerdict, error) {
		return s.verify(ctx, &callOf(ctx).principal, c)
	})
	if err != nil {
		return &signetv1.OtpResult{Outcome: &signetv1.OtpResult_Error{Error: err}}
	}
	return &signetv1.OtpResult{Outcome: &signetv1.OtpResult_Verdict{Verdict: verdict}}
}

// verify serves one check.
func (s operations) verify(ctx context.Context, p *access.Principal, c *signetv1.OtpCheck) (*signetv1.OtpVerdict, error) {
	v, err := s.domain.OfflineOTP(ctx, p.Tenant, operation.OTPParams{
		Apps: p.Apps, ID: c.GetOperationId(), OTP: c.GetOtp(), Nonce: c.GetNonce(), Registration: c.GetRegistrationId(), Actor: p.Name,
	})
	if err != nil {
		return nil, err
	}
	return &signetv1.OtpVerdict{
		Valid: v.Valid, OperationState: operationState(v.State), UserId: v.UserID, RegistrationId: v.Registration,
		RegistrationStatus: statuses[v.Status], SignatureType: signatureType(v.Factors),
		RemainingAttempts: int32(v.RemainingAttempts), Flags: v.Flags,
		Application: &signetv1.Application{Name: v.App, Roles: v.Roles},
	}, nil
}

func operationState(s operation.State) signetv1.OperationState {
	return signetv1.OperationState(signetv1.OperationState_value["OPERATION_STATE_"+string(s)])
}

func operationOf(op operation.Operation) *signetv1.Operation {
	return &signetv1.Operation{
		OperationId: op.ID, UserId: op.UserID, ExternalId: op.ExternalID, Flag: op.Flag, Template: op.Template,
		OperationType: op.Type, Parameters: op.Parameters, State: operationState(op.State), AdditionalData: op.Additional,
		FailureCount: op.Failures, MaxFailureCount: op.MaxFailures, ProximityOtp: op.ProximityOTP,
		CreatedAt: timestamppb.New(op.CreatedAt), ExpiresAt: timestamppb.New(op.ExpiresAt), FinishedAt: instant(op.FinishedAt),
		Reason: op.Reason, Data: op.Data, SignatureTypes: signatureTypes(op.Types), Language: op.Language,
	}
}
