package grpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/internal/reqid"
	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/fault"
)

// privileges has a row for each method: one of the set is enough.
var privileges = map[string]access.Set{
	signetv1.SignerService_CreateSigner_FullMethodName:             access.Any(access.AdminWrite),
	signetv1.SignerService_GetSigner_FullMethodName:                access.Any(access.AdminRead, access.ASTClient),
	signetv1.SignerService_ListSigners_FullMethodName:              access.Any(access.AdminRead),
	signetv1.SignerService_DeleteSigner_FullMethodName:             access.Any(access.AdminWrite),
	signetv1.SignerService_GetSignerChain_FullMethodName:           access.Any(access.AdminRead, access.ASTClient),
	signetv1.SignerService_GetSignerPaths_FullMethodName:           access.Any(access.AdminRead, access.ASTClient),
	signetv1.SignerService_RenewSigner_FullMethodName:              access.Any(access.AdminWrite),
	signetv1.SignerService_RenewAllSigners_FullMethodName:          access.Any(access.AdminWrite), // and the operator's tenant
	signetv1.SignerService_RevokeSigner_FullMethodName:             access.Any(access.AdminWrite),
	signetv1.SignerService_RevokeIssuedCertificates_FullMethodName: access.Any(access.AdminWrite),
	signetv1.CertificateService_IssueCertificate_FullMethodName:    access.Any(access.AdminWrite),
	signetv1.CertificateService_IssueCertificates_FullMethodName:   access.Any(access.AdminWrite),
	signetv1.CertificateService_IssueStream_FullMethodName:         access.Any(access.AdminWrite),
	signetv1.CertificateService_GetCertificate_FullMethodName:      access.Any(access.AdminRead),
	signetv1.CertificateService_ListCertificates_FullMethodName:    access.Any(access.AdminRead),
	signetv1.CertificateService_RenewCertificate_FullMethodName:    access.Any(access.AdminWrite, access.ASTClient), // and the old certificate's key
	signetv1.CertificateService_RevokeCertificate_FullMethodName:   access.Any(access.AdminWrite),
	signetv1.SdkConfigService_CreateSdkConfig_FullMethodName:       access.Any(access.AdminWrite),

	signetv1.SignatureService_VerifySignature_FullMethodName:        access.Any(access.PAIntegration),
	signetv1.SignatureService_VerifySignatures_FullMethodName:       access.Any(access.PAIntegration),
	signetv1.SignatureService_VerifySignatureStream_FullMethodName:  access.Any(access.PAIntegration),
	signetv1.RegistrationService_CreateRegistration_FullMethodName:  access.Any(access.PAIntegration),
	signetv1.RegistrationService_CommitRegistration_FullMethodName:  access.Any(access.PAIntegration),
	signetv1.RegistrationService_GetRegistration_FullMethodName:     access.Any(access.PAIntegration),
	signetv1.RegistrationService_ListRegistrations_FullMethodName:   access.Any(access.PAIntegration),
	signetv1.RegistrationService_ChangeRegistration_FullMethodName:  access.Any(access.PAIntegration),
	signetv1.RegistrationService_ChangeFlags_FullMethodName:         access.Any(access.PAIntegration),
	signetv1.RegistrationService_ListEvents_FullMethodName:          access.Any(access.PAIntegration),
	signetv1.OperationService_CreateOperation_FullMethodName:        access.Any(access.PAIntegration),
	signetv1.OperationService_GetOperation_FullMethodName:           access.Any(access.PAIntegration),
	signetv1.OperationService_CancelOperation_FullMethodName:        access.Any(access.PAIntegration),
	signetv1.OperationService_GetOfflineQr_FullMethodName:           access.Any(access.PAIntegration),
	signetv1.OperationService_VerifyOfflineOtp_FullMethodName:       access.Any(access.PAIntegration),
	signetv1.OperationService_VerifyOfflineOtps_FullMethodName:      access.Any(access.PAIntegration),
	signetv1.OperationService_VerifyOfflineOtpStream_FullMethodName: access.Any(access.PAIntegration),
	signetv1.TokenService_VerifyToken_FullMethodName:                access.Any(access.PAIntegration),
	signetv1.TokenService_VerifyTokens_FullMethodName:               access.Any(access.PAIntegration),
	signetv1.TokenService_VerifyTokenStream_FullMethodName:          access.Any(access.PAIntegration),

	signetv1.MessageService_SendMessage_FullMethodName:           access.Any(access.PAIntegration),
	signetv1.MessageService_PostInboxMessage_FullMethodName:      access.Any(access.PAIntegration),
	signetv1.MessageService_ListInboxMessages_FullMethodName:     access.Any(access.PAIntegration),
	signetv1.MessageService_GetInboxMessage_FullMethodName:       access.Any(access.PAIntegration),
	signetv1.MessageService_MarkInboxMessageRead_FullMethodName:  access.Any(access.PAIntegration),
	signetv1.AuditService_QueryEvents_FullMethodName:             access.Any(access.PAIntegration),
	signetv1.CallbackService_CreateCallback_FullMethodName:       access.Any(access.PAIntegration),
	signetv1.CallbackService_ListCallbacks_FullMethodName:        access.Any(access.PAIntegration),
	signetv1.CallbackService_RemoveCallback_FullMethodName:       access.Any(access.PAIntegration),
	signetv1.CallbackService_RotateCallbackSecret_FullMethodName: access.Any(access.PAIntegration),
	signetv1.ApplicationService_CreateApplication_FullMethodName: access.Any(access.PAAdmin),
	signetv1.ApplicationService_ListApplications_FullMethodName:  access.Any(access.PAAdmin),
	signetv1.ApplicationService_GetApplication_FullMethodName:    access.Any(access.PAAdmin),
	signetv1.ApplicationService_AddRoles_FullMethodName:          access.Any(access.PAAdmin),
	signetv1.ApplicationService_RemoveRoles_FullMethodName:       access.Any(access.PAAdmin),
	signetv1.ApplicationService_CreateVersion_FullMethodName:     access.Any(access.PAAdmin),
	signetv1.ApplicationService_ListVersions_FullMethodName:      access.Any(access.PAAdmin),
	signetv1.ApplicationService_SetVersionSupport_FullMethodName: access.Any(access.PAAdmin),
	signetv1.ApplicationService_RotateMasterKey_FullMethodName:   access.Any(access.PAAdmin),
	signetv1.ApplicationService_SetApnsCredential_FullMethodName: access.Any(access.PAAdmin),
	signetv1.ApplicationService_SetFcmCredential_FullMethodName:  access.Any(access.PAAdmin),
	signetv1.ApplicationService_SetHmsCredential_FullMethodName:  access.Any(access.PAAdmin),
	signetv1.UserService_CreateUser_FullMethodName:               access.Any(access.PAAdmin),
	signetv1.UserService_GrantApplication_FullMethodName:         access.Any(access.PAAdmin),
	signetv1.TemplateService_CreateTemplate_FullMethodName:       access.Any(access.PAAdmin),
	signetv1.TemplateService_ListTemplates_FullMethodName:        access.Any(access.PAAdmin),
	signetv1.TemplateService_UpdateTemplate_FullMethodName:       access.Any(access.PAAdmin),
	signetv1.TemplateService_DeleteTemplate_FullMethodName:       access.Any(access.PAAdmin),

	"/grpc.health.v1.Health/Check":                                   access.Any(access.Public),
	"/grpc.health.v1.Health/List":                                    access.Any(access.Public),
	"/grpc.health.v1.Health/Watch":                                   access.Any(access.Public),
	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      access.Any(access.Public),
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": access.Any(access.Public),
}

// call is one call on its way, and the context of its work: what a handler and the
// packages below may ask of it stands in fields, so that a call costs one object.
type call struct {
	context.Context //nolint:containedctx // it is one
	id              string
	method          *method
	started         time.Time
	principal       access.Principal
}

type callKey struct{}

// Value finds the call itself and the request's id.
func (c *call) Value(key any) any {
	if _, own := key.(callKey); own {
		return c
	}
	if reqid.IsKey(key) {
		return c.id
	}
	return c.Context.Value(key)
}

// callOf is the call that a handler serves. gRPC gives a handler no other place
// to find it.
func callOf(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return &call{Context: ctx, method: &method{}}
}

// principal is the caller that the interceptor has authenticated.
func principal(ctx context.Context) access.Principal { return callOf(ctx).principal }

// unary is the path every call takes.
func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	c := s.newCall(ctx, info.FullMethod)
	s.metrics.inFlight.Inc()
	defer s.metrics.inFlight.Dec()
	if within, shorten := s.deadline(ctx); shorten {
		limited, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		c.Context = limited
	}
	_ = grpc.SetHeader(ctx, metadata.MD{reqid.Metadata: {c.id}}) // only without a transport it fails
	resp, err := s.answer(c, req, handler)
	if err != nil {
		return nil, s.finish(c, err)
	}
	return resp, s.finish(c, nil)
}

// answer authenticates and authorises, lets the handler work, and turns a panic
// into an error.
func (s *Server) answer(c *call, req any, handler grpc.UnaryHandler) (resp any, err error) {
	defer s.recovered(c, c, &err)
	if err := s.admit(c); err != nil {
		return nil, err
	}
	if !c.method.public {
		pass, err := s.c.Limiter.Enter(&c.principal, weight(req))
		if err != nil {
			return nil, err
		}
		defer pass.Leave()
	}
	if err := storable(req); err != nil {
		return nil, err
	}
	return handler(c, req)
}

// stream is the same for streams, which may last: what bounds one is its
// handler's, and so is the check of its messages' texts.
func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	c := s.newCall(ss.Context(), info.FullMethod)
	return s.finish(c, s.attend(c, srv, ss, handler))
}

func (s *Server) attend(c *call, srv any, ss grpc.ServerStream, handler grpc.StreamHandler) (err error) {
	defer s.recovered(c, c, &err)
	if err := s.admit(c); err != nil {
		return err
	}
	return handler(srv, streamOf{ss, c})
}

// streamOf is a stream that knows its call.
type streamOf struct {
	grpc.ServerStream
	ctx context.Context
}

func (s streamOf) Context() context.Context { return s.ctx }

func (s *Server) newCall(ctx context.Context, method string) *call {
	offered := ""
	if ids := metadata.ValueFromIncomingContext(ctx, reqid.Metadata); len(ids) == 1 {
		offered = ids[0]
	}
	return &call{Context: ctx, id: reqid.Pick(offered), method: s.metrics.of(method), started: time.Now()}
}

// deadline keeps a caller's deadline unless it is missing or too far.
func (s *Server) deadline(ctx context.Context) (within time.Duration, shorten bool) {
	at, ok := ctx.Deadline()
	if !ok {
		return min(defaultDeadline, s.c.MaxDeadline), true
	}
	return s.c.MaxDeadline, time.Until(at) > s.c.MaxDeadline
}

// admit authenticates and authorises.
func (s *Server) admit(c *call) (err error) {
	if c.method.public {
		return nil
	}
	c.principal, err = s.authenticate(c)
	if err != nil {
		return err
	}
	if !c.principal.Privileges.Meets(c.method.allow) {
		return fmt.Errorf("%w: needs %s", access.ErrForbidden, c.method.allow)
	}
	return nil
}

// recovered is deferred where a call's code runs in a goroutine of its own.
func (s *Server) recovered(ctx context.Context, c *call, err *error) {
	if v := recover(); v != nil {
		s.metrics.panics.Inc()
		s.c.Logger.ErrorContext(ctx, "panic", "request_id", c.id, "method", c.method.name, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		*err = errors.New("panic in handler")
	}
}

func (s *Server) authenticate(ctx context.Context) (access.Principal, error) {
	a := rest.Authorization(metadata.ValueFromIncomingContext(ctx, "authorization"))
	if user, password, ok := a.Basic(); ok {
		return s.c.Basic.Authenticate(ctx, user, password)
	}
	if token, ok := a.Bearer(); ok {
		return s.c.Realms.Authenticate(ctx, token)
	}
	return access.Principal{}, access.ErrUnauthenticated
}

// finish counts and logs, and makes the error what the caller may see.
func (s *Server) finish(c *call, err error) error {
	told := told(err, c.id)
	code := status.Code(told)
	took := time.Since(c.started)
	c.method.code(code).Inc()
	c.method.took().Observe(took.Seconds())
	level := slog.LevelInfo
	if err != nil && serverFault(code) && !errors.Is(c.Err(), context.Canceled) {
		level = slog.LevelError
	}
	if !s.c.Logger.Enabled(c, level) {
		return told
	}
	attrs := []slog.Attr{
		slog.String("request_id", c.id), slog.String("api", "grpc"), slog.String("method", c.method.name),
		slog.String("code", code.String()), slog.Float64("ms", float64(took.Microseconds())/1000),
	}
	if c.principal.Name != "" {
		attrs = append(attrs, slog.String("tenant", c.principal.Tenant.String()), slog.String("principal", c.principal.Name))
	}
	if err != nil {
		reason := "INTERNAL"
		if f := fault.Of(err); f != nil {
			reason = f.Reason
		}
		attrs = append(attrs, slog.String("reason", reason), slog.String("error", err.Error()))
	}
	s.c.Logger.LogAttrs(c, level, "request", attrs...)
	return told
}
