package grpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/internal/problem"
	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/ca/sdkconfig"
	"github.com/signet-hsm/signet/callback"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/filter"
	"github.com/signet-hsm/signet/operation"
	"github.com/signet-hsm/signet/push"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/token"
)

// errDomain stands in every ErrorInfo.
const errDomain = "signet"

// retryAfter is what an outage recommends.
const retryAfter = 2 * time.Second

// Sentinels of the adapter itself.
var (
	errRequest = fault.New(fault.Invalid, "REQUEST_INVALID", "the request is not valid")
	errHeader  = fault.New(fault.Invalid, "SIGNATURE_HEADER", "the signature header is not valid")
)

var errTokenHeader = fault.New(fault.Invalid, "TOKEN_HEADER", "the token header is not valid")

var errStreamOver = fault.New(fault.Exhausted, "STREAM_OVER", "the stream takes no more, open another one")

// row says how one failure is told. A sentinel without a row is INTERNAL.
type row struct {
	err  *fault.Error
	code codes.Code
}

var table = []row{
	{errRequest, codes.InvalidArgument},
	{errHeader, codes.InvalidArgument},
	{errTokenHeader, codes.InvalidArgument},
	{errStreamOver, codes.Aborted},

	{access.ErrUnauthenticated, codes.Unauthenticated},
	{access.ErrForbidden, codes.PermissionDenied},
	{access.ErrCredential, codes.InvalidArgument},
	{access.ErrUserExists, codes.AlreadyExists},
	{access.ErrUserUnknown, codes.NotFound},
	{access.ErrBusy, codes.ResourceExhausted},
	{access.ErrConfig, codes.Internal},

	{app.ErrNotFound, codes.NotFound},
	{app.ErrExists, codes.AlreadyExists},
	{app.ErrInvalid, codes.InvalidArgument},
	{app.ErrVersion, codes.NotFound},
	{app.ErrVersionExists, codes.AlreadyExists},
	{app.ErrRotated, codes.Aborted},
	{app.ErrMaster, codes.Internal},

	{ca.ErrNoSigner, codes.NotFound},
	{ca.ErrNotIssued, codes.FailedPrecondition},
	{ca.ErrSignerUsed, codes.FailedPrecondition},
	{ca.ErrSignerRevoked, codes.FailedPrecondition},
	{ca.ErrQueued, codes.FailedPrecondition},
	{ca.ErrNoCertificate, codes.NotFound},
	{ca.ErrCertificateState, codes.FailedPrecondition},
	{ca.ErrSignerCertificate, codes.FailedPrecondition},
	{ca.ErrPeer, codes.PermissionDenied},
	{ca.ErrRenewals, codes.ResourceExhausted},
	{ca.ErrSuperseded, codes.Aborted},
	{ca.ErrBusy, codes.Aborted},
	{ca.ErrOtherIssuer, codes.FailedPrecondition},
	{ca.ErrRequest, codes.InvalidArgument},
	{ca.ErrConfig, codes.Internal},
	{ca.ErrKey, codes.Internal},
	{ca.ErrRecord, codes.Internal},

	{filter.ErrProperty, codes.InvalidArgument},
	{filter.ErrSyntax, codes.InvalidArgument},
	{sdkconfig.ErrRequest, codes.InvalidArgument},
	{sdkconfig.ErrNoSigner, codes.FailedPrecondition},
	{revocation.ErrReason, codes.InvalidArgument},
	{revocation.ErrRecord, codes.Internal},

	{issuance.ErrRequest, codes.InvalidArgument},
	{issuance.ErrRequestSignature, codes.InvalidArgument},
	{issuance.ErrKeyAlgorithm, codes.InvalidArgument},
	{issuance.ErrWeakKey, codes.InvalidArgument},
	{issuance.ErrKeyBlocked, codes.InvalidArgument},
	{issuance.ErrExtension, codes.InvalidArgument},
	{issuance.ErrAltName, codes.InvalidArgument},
	{issuance.ErrSubject, codes.InvalidArgument},
	{issuance.ErrIssuerExpired, codes.FailedPrecondition},
	{issuance.ErrProfile, codes.Internal},
	{issuance.ErrIssuer, codes.Internal},
	{issuance.ErrLocation, codes.Internal},
	{issuance.ErrLint, codes.Internal},
	{issuance.ErrSerial, codes.Internal},
	{issuance.ErrDraftUsed, codes.Internal},
	{issuance.ErrSigning, codes.Internal},
	{issuance.ErrChain, codes.Internal},

	{registration.ErrNotFound, codes.NotFound},
	{registration.ErrNotAllowed, codes.FailedPrecondition},
	{registration.ErrChange, codes.FailedPrecondition},
	{registration.ErrInvalid, codes.InvalidArgument},
	{registration.ErrExpired, codes.FailedPrecondition},
	{registration.ErrActivation, codes.NotFound},
	{registration.ErrFormat, codes.InvalidArgument},
	{registration.ErrDecrypt, codes.InvalidArgument},
	{registration.ErrRequest, codes.InvalidArgument},
	{registration.ErrOTP, codes.InvalidArgument},
	{registration.ErrTemporaryKey, codes.InvalidArgument},
	{registration.ErrSignature, codes.Unauthenticated},
	{registration.ErrSignatureType, codes.Unauthenticated},

	{operation.ErrNotFound, codes.NotFound},
	{operation.ErrState, codes.FailedPrecondition},
	{operation.ErrUndecided, codes.FailedPrecondition},
	{operation.ErrOTPForm, codes.InvalidArgument},
	{operation.ErrInvalid, codes.InvalidArgument},
	{operation.ErrData, codes.InvalidArgument},
	{operation.ErrTemplateNotFound, codes.NotFound},
	{operation.ErrTemplateExists, codes.AlreadyExists},
	{operation.ErrFinished, codes.FailedPrecondition},
	{operation.ErrFailed, codes.FailedPrecondition},
	{operation.ErrCanceled, codes.FailedPrecondition},
	{operation.ErrExpired, codes.FailedPrecondition},
	{operation.ErrFlag, codes.FailedPrecondition},
	{operation.ErrActivation, codes.FailedPrecondition},
	{operation.ErrRefused, codes.FailedPrecondition},

	{token.ErrToken, codes.Unauthenticated},

	{push.ErrMessage, codes.InvalidArgument},
	{push.ErrRequest, codes.InvalidArgument},
	{push.ErrInboxNotFound, codes.NotFound},
	{push.ErrCredential, codes.Internal},

	{callback.ErrInvalid, codes.InvalidArgument},
	{callback.ErrExists, codes.AlreadyExists},
	{callback.ErrLimit, codes.ResourceExhausted},
	{callback.ErrNotFound, codes.NotFound},

	{audit.ErrPeriod, codes.InvalidArgument},
	{audit.ErrUser, codes.NotFound},
	{audit.ErrInvalid, codes.InvalidArgument},
	{audit.ErrBroken, codes.Internal},

	{fault.ErrUnavailable, codes.Unavailable},
}

var rows = problem.NewTable(table, func(r row) *fault.Error { return r.err })

// fields are the names of REST that signet.v1 spells otherwise.
var fields = map[string]string{
	"method": "check.method", "uriId": "check.uri_id", "authHeader": "check.auth_header",
	"requestBody": "check.body", "queryParams": "check.query_params",
	"templateName": "template.name", "operationType": "template.operation_type", "dataTemplate": "template.data_template",
	"signatureType": "template.signature_types", "maxFailureCount": "template.max_failure_count",
	"expiration": "template.expiration", "riskFlags": "template.risk_flags", "texts": "template.texts",
	"id": "application", "appId": "application", "otpValidation": "otp_mode", "privateKeyBase64": "private_key", "csr": "order.csr", "user": "order.user", "client": "order.client",
	"profile": "order.profile", "requests": "orders",
}

// told turns an error into the status a caller may see.
func told(err error, id string) error {
	if err == nil {
		return nil
	}
	if fault.Of(err) == nil {
		// A status is gRPC's own (reflection, health); an ended context is no verdict.
		if _, own := status.FromError(err); own {
			return err
		}
		if errors.Is(err, context.Canceled) {
			return status.Error(codes.Canceled, "the call was cancelled")
		}
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("%w: %w", fault.ErrUnavailable, err)
		}
	}
	r, f, ok := rows.Find(err)
	if !ok || r.code == codes.Internal {
		return status.Error(codes.Internal, "internal error, report id "+id)
	}
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: r.err.Reason, Domain: errDomain}}
	if len(f.Violations) > 0 {
		details = append(details, badRequest(f))
	}
	if r.code == codes.Unavailable || r.err == access.ErrBusy {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)})
	}
	message := r.err.Message
	if f.Reason == r.err.Reason { // the text of this very failure; that of an inner outage is not for callers
		message = f.Message
	}
	st, err := status.New(r.code, message).WithDetails(details...)
	if err != nil {
		return status.Error(r.code, message)
	}
	return st.Err()
}

func badRequest(f *fault.Error) *errdetails.BadRequest {
	b := &errdetails.BadRequest{}
	for _, v := range f.Violations {
		field := v.Field
		if f.Reason != errRequest.Reason { // ours are spelled as they shall be
			field = spelled(field)
		}
		b.FieldViolations = append(b.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: field, Description: v.Hint})
	}
	return b
}

// spelled is a name of REST as signet.v1 spells it. What stands behind the first
// dot or bracket may be the caller's own, the name of a parameter, and stays.
func spelled(field string) string {
	first, rest := field, ""
	if i := strings.IndexAny(field, ".["); i >= 0 {
		first, rest = field[:i], field[i:]
	}
	name, ok := fields[first]
	if !ok {
		name = snake(first)
	}
	return name + rest
}

// snake writes a name of REST as signet.v1 spells names.
func snake(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsUpper(r) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

func serverFault(c codes.Code) bool {
	return c == codes.Internal || c == codes.Unavailable || c == codes.Unknown || c == codes.DataLoss
}

// missing is a message that a request lacks.
func missing(field string) error {
	return bad(field, "must be present")
}

// bad is a field of a request that breaks a rule.
func bad(field, hint string) error {
	return errRequest.With(fault.Violation{Field: field, Hint: hint})
}
