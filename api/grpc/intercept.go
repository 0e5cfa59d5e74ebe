package grpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
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

	signetv1.SignatureService_VerifySignature_FullMethodName:       access.Any(access.PAIntegration),
	signetv1.RegistrationService_CreateRegistration_FullMethodName: access.Any(access.PAIntegration),
	signetv1.RegistrationService_CommitRegistration_FullMethodName: access.Any(access.PAIntegration),
	signetv1.RegistrationService_GetRegistration_FullMethodName:    access.Any(access.PAIntegration),
	signetv1.RegistrationService_ListRegistrations_FullMethodName:  access.Any(access.PAIntegration),
	signetv1.RegistrationService_ChangeRegistration_FullMethodName: access.Any(access.PAIntegration),
	signetv1.RegistrationService_ChangeFlags_FullMethodName:        access.Any(access.PAIntegration),
	signetv1.RegistrationService_ListEvents_FullMethodName:         access.Any(access.PAIntegration),
	signetv1.OperationService_CreateOperation_FullMethodName:       access.Any(access.PAIntegration),
	signetv1.OperationService_GetOperation_FullMethodName:          access.Any(access.PAIntegration),
	signetv1.OperationService_CancelOperation_FullMethodName:       access.Any(access.PAIntegration),
	signetv1.OperationService_GetOfflineQr_FullMethodName:          access.Any(access.PAIntegration),
	signetv1.OperationService_VerifyOfflineOtp_FullMethodName:      access.Any(access.PAIntegration),
	signetv1.TokenService_VerifyToken_FullMethodName:               access.Any(access.PAIntegration),

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

// call is one call on its way.
type call struct {
	id        string
	method    string
	started   time.Time
	principal access.Principal
}

type callKey struct{}

// callOf is the call that a handler serves. gRPC gives a handler no other place
// to find it.
func callOf(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return &call{}
}

// principal is the caller that the interceptor has authenticated.
func principal(ctx context.Context) access.Principal { return callOf(ctx).principal }

// unary is the path every call takes.
func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	c := newCall(ctx, info.FullMethod)
	s.metrics.inFlight.Inc()
	defer s.metrics.inFlight.Dec()
	ctx, cancel := deadline(reqid.With(ctx, c.id))
	defer cancel()
	_ = grpc.SetHeader(ctx, metadata.Pairs(reqid.Metadata, c.id)) // only without a transport it fails

	var resp any
	err := s.guarded(ctx, c, func(ctx context.Context) (err error) {
		if err := storable(req); err != nil {
			return err
		}
		resp, err = handler(ctx, req)
		return err
	})
	if err != nil {
		return nil, s.finish(ctx, c, err)
	}
	return resp, s.finish(ctx, c, nil)
}

// stream is the same for streams, which may last: what bounds one is its
// handler's, and so is the check of its messages' texts.
func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	c := newCall(ss.Context(), info.FullMethod)
	err := s.guarded(reqid.With(ss.Context(), c.id), c, func(ctx context.Context) error {
		return handler(srv, streamOf{ss, ctx})
	})
	return s.finish(ss.Context(), c, err)
}

// streamOf is a stream that knows its call.
type streamOf struct {
	grpc.ServerStream
	ctx context.Context
}

func (s streamOf) Context() context.Context { return s.ctx }

func newCall(ctx context.Context, method string) *call {
	offered := ""
	if ids := metadata.ValueFromIncomingContext(ctx, reqid.Metadata); len(ids) == 1 {
		offered = ids[0]
	}
	return &call{id: reqid.Pick(offered), method: method, started: time.Now()}
}

// deadline keeps a caller's deadline unless it is missing or too far.
func deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); !ok {
		return context.WithTimeout(ctx, defaultDeadline)
	}
	return context.WithTimeout(ctx, longestDeadline) // the nearer one counts
}

// guarded authenticates and authorises, runs f, and turns a panic into an error.
func (s *Server) guarded(ctx context.Context, c *call, f func(context.Context) error) (err error) {
	defer s.recovered(ctx, c, &err)
	wanted := privileges[c.method]
	if !wanted.Has(access.Public) {
		c.principal, err = s.authenticate(ctx)
		if err != nil {
			return err
		}
		if !c.principal.Privileges.Meets(wanted) {
			return fmt.Errorf("%w: needs %s", access.ErrForbidden, wanted)
		}
	}
	return f(context.WithValue(ctx, callKey{}, c))
}

// recovered is deferred where a call's code runs in a goroutine of its own.
func (s *Server) recovered(ctx context.Context, c *call, err *error) {
	if v := recover(); v != nil {
		s.metrics.panics.Inc()
		s.c.Logger.ErrorContext(ctx, "panic", "request_id", c.id, "method", c.method, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		*err = errors.New("panic in handler")
	}
}

func (s *Server) authenticate(ctx context.Context) (access.Principal, error) {
	h := http.Header{"Authorization": metadata.ValueFromIncomingContext(ctx, "authorization")}
	if token, ok := rest.Bearer(h); ok {
		return s.c.Realms.Authenticate(ctx, token)
	}
	if user, password, ok := rest.Basic(h); ok {
		return s.c.Basic.Authenticate(ctx, user, password)
	}
	return access.Principal{}, access.ErrUnauthenticated
}

// finish counts and logs, and makes the error what the caller may see.
func (s *Server) finish(ctx context.Context, c *call, err error) error {
	told := told(err, c.id)
	code := status.Code(told)
	took := time.Since(c.started)
	s.metrics.calls.WithLabelValues(c.method, code.String()).Inc()
	s.metrics.seconds.WithLabelValues(c.method).Observe(took.Seconds())
	attrs := []slog.Attr{
		slog.String("request_id", c.id), slog.String("api", "grpc"), slog.String("method", c.method),
		slog.String("code", code.String()), slog.Float64("ms", float64(took.Microseconds())/1000),
	}
	if c.principal.Name != "" {
		attrs = append(attrs, slog.String("tenant", c.principal.Tenant.String()), slog.String("principal", c.principal.Name))
	}
	level := slog.LevelInfo
	if err != nil {
		reason := "INTERNAL"
		if f := fault.Of(err); f != nil {
			reason = f.Reason
		}
		attrs = append(attrs, slog.String("reason", reason), slog.String("error", err.Error()))
		if serverFault(code) && !errors.Is(ctx.Err(), context.Canceled) {
			level = slog.LevelError
		}
	}
	s.c.Logger.LogAttrs(ctx, level, "request", attrs...)
	return told
}
