package grpc

import (
	"context"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/tenant"
)

// Registrations is the part of *registration.Registrar that RegistrationService
// calls.
type Registrations interface {
	Create(ctx context.Context, t tenant.ID, p registration.CreateParams) (registration.Created, error)
	Commit(ctx context.Context, t tenant.ID, p registration.CommitParams) error
	Get(ctx context.Context, t tenant.ID, apps []string, id string) (registration.Registration, error)
	List(ctx context.Context, t tenant.ID, apps []string, user string) ([]registration.Registration, error)
	Change(ctx context.Context, t tenant.ID, p registration.ChangeParams) error
	AddFlags(ctx context.Context, t tenant.ID, p registration.FlagParams) error
	SetFlags(ctx context.Context, t tenant.ID, p registration.FlagParams) error
	RemoveFlags(ctx context.Context, t tenant.ID, p registration.FlagParams) error
}

type registrations struct {
	signetv1.UnimplementedRegistrationServiceServer
	domain Registrations
	audit  Audit // nil: no history
}

// modes and changes: a number without a name is no mode, which the domain refuses.
var (
	modes = map[signetv1.OtpMode]registration.OTPMode{
		signetv1.OtpMode_OTP_MODE_UNSPECIFIED:     registration.OTPNone,
		signetv1.OtpMode_OTP_MODE_NONE:            registration.OTPNone,
		signetv1.OtpMode_OTP_MODE_ON_KEY_EXCHANGE: registration.OTPOnKeyExchange,
		signetv1.OtpMode_OTP_MODE_ON_COMMIT:       registration.OTPOnCommit,
	}
	changes = map[signetv1.RegistrationChange]registration.Change{
		signetv1.RegistrationChange_REGISTRATION_CHANGE_BLOCK:   registration.Block,
		signetv1.RegistrationChange_REGISTRATION_CHANGE_UNBLOCK: registration.Unblock,
		signetv1.RegistrationChange_REGISTRATION_CHANGE_REMOVE:  registration.Remove,
	}
)

func (s registrations) CreateRegistration(ctx context.Context, req *signetv1.CreateRegistrationRequest) (*signetv1.CreateRegistrationResponse, error) {
	p := principal(ctx)
	mode, ok := modes[req.GetOtpMode()]
	if !ok {
		return nil, missing("otp_mode")
	}
	made, err := s.domain.Create(ctx, p.Tenant, registration.CreateParams{
		Apps: p.Apps, App: req.GetApplication(), UserID: req.GetUserId(), OTPMode: mode, OTP: req.GetOtp(),
		Flags: req.GetFlags(), Actor: p.Name,
	})
	if err != nil {
		return nil, err
	}
	return &signetv1.CreateRegistrationResponse{RegistrationId: made.ID, ActivationQrCodeData: made.QRCodeData}, nil
}

func (s registrations) CommitRegistration(ctx context.Context, req *signetv1.CommitRegistrationRequest) (*signetv1.CommitRegistrationResponse, error) {
	p := principal(ctx)
	err := s.domain.Commit(ctx, p.Tenant, registration.CommitParams{
		Apps: p.Apps, ID: req.GetRegistrationId(), OTP: req.GetOtp(), ExternalUserID: req.GetExternalUserId(), Actor: p.Name,
	})
	return &signetv1.CommitRegistrationResponse{}, err
}

func (s registrations) GetRegistration(ctx context.Context, req *signetv1.GetRegistrationRequest) (*signetv1.GetRegistrationResponse, error) {
	p := principal(ctx)
	reg, err := s.domain.Get(ctx, p.Tenant, p.Apps, req.GetRegistrationId())
	if err != nil {
		return nil, err
	}
	out := registrationOf(reg)
	out.ActivationQrCodeData, out.Fingerprint = reg.QRCodeData, ""
	if reg.State == registration.StatePendingCommit {
		out.Fingerprint = reg.Fingerprint
	}
	return &signetv1.GetRegistrationResponse{Registration: out}, nil
}

func (s registrations) ListRegistrations(ctx context.Context, req *signetv1.ListRegistrationsRequest) (*signetv1.ListRegistrationsResponse, error) {
	p := principal(ctx)
	if req.GetUserId() == "" {
		return nil, missing("user_id")
	}
	list, err := s.domain.List(ctx, p.Tenant, p.Apps, req.GetUserId())
	if err != nil {
		return nil, err
	}
	out := make([]*signetv1.Registration, len(list))
	for i, reg := range list {
		out[i] = registrationOf(reg)
	}
	return &signetv1.ListRegistrationsResponse{Registrations: out}, nil
}

func (s registrations) ChangeRegistration(ctx context.Context, req *signetv1.ChangeRegistrationRequest) (*signetv1.ChangeRegistrationResponse, error) {
	p := principal(ctx)
	change, ok := changes[req.GetChange()]
	if !ok {
		return nil, missing("change")
	}
	err := s.domain.Change(ctx, p.Tenant, registration.ChangeParams{
		Apps: p.Apps, ID: req.GetRegistrationId(), Change: change, BlockReason: req.GetBlockReason(),
		ExternalUserID: req.GetExternalUserId(), Actor: p.Name,
	})
	return &signetv1.ChangeRegistrationResponse{}, err
}

func (s registrations) ChangeFlags(ctx context.Context, req *signetv1.ChangeFlagsRequest) (*signetv1.ChangeFlagsResponse, error) {
	p := principal(ctx)
	change, ok := map[signetv1.FlagChange]func(context.Context, tenant.ID, registration.FlagParams) error{
		signetv1.FlagChange_FLAG_CHANGE_ADD:    s.domain.AddFlags,
		signetv1.FlagChange_FLAG_CHANGE_SET:    s.domain.SetFlags,
		signetv1.FlagChange_FLAG_CHANGE_REMOVE: s.domain.RemoveFlags,
	}[req.GetChange()]
	if !ok {
		return nil, missing("change")
	}
	err := change(ctx, p.Tenant, registration.FlagParams{Apps: p.Apps, ID: req.GetRegistrationId(), Flags: req.GetFlags(), Actor: p.Name})
	return &signetv1.ChangeFlagsResponse{}, err
}

// ListEvents is for registrations that GetRegistration shows.
func (s registrations) ListEvents(ctx context.Context, req *signetv1.ListEventsRequest) (*signetv1.ListEventsResponse, error) {
	if s.audit == nil {
		return s.UnimplementedRegistrationServiceServer.ListEvents(ctx, req)
	}
	p := principal(ctx)
	size, err := pageSize(req.GetPageSize(), audit.DefaultLimit, audit.MaxLimit)
	if err != nil {
		return nil, err
	}
	before, err := pageToken(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	reg, err := s.domain.Get(ctx, p.Tenant, p.Apps, req.GetRegistrationId())
	if err != nil {
		return nil, err
	}
	list, next, err := s.audit.History(ctx, p.Tenant, audit.HistoryQuery{
		Registration: reg.ID, UserID: reg.UserID, App: reg.App, Before: before, Limit: size,
	})
	if err != nil {
		return nil, err
	}
	resp := &signetv1.ListEventsResponse{Events: events(list)}
	if next != uuid.Nil {
		resp.NextPageToken = next.String()
	}
	return resp, nil
}

func registrationOf(r registration.Registration) *signetv1.Registration {
	return &signetv1.Registration{
		RegistrationId: r.ID, UserId: r.UserID, Application: r.App, Status: statuses[r.State], Name: r.Name,
		Platform: r.Platform, DeviceInfo: r.DeviceInfo, Flags: r.Flags, BlockedReason: r.BlockedReason,
		CreatedAt: timestamppb.New(r.CreatedAt), LastUsedAt: timestamppb.New(r.LastUsedAt),
	}
}
