package powerauth

import (
	"net/http"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/internal/problem"
	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/api/powerauth/internal/spec"
	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/callback"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/operation"
	"github.com/signet-hsm/signet/push"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/token"
)

// errHeader: the X-PowerAuth-Authorization header does not parse. The cause tells
// the log which rule it broke.
var errHeader = fault.New(fault.Invalid, "SIGNATURE_HEADER", "Signature HTTP header validation failed")

// errEncryptionHeader: likewise X-PowerAuth-Encryption.
var errEncryptionHeader = fault.New(fault.Invalid, "ENCRYPTION_HEADER", "Encryption HTTP header validation failed")

// errTokenHeader: likewise X-PowerAuth-Token, the one that an application tier
// passes on.
var errTokenHeader = fault.New(fault.Invalid, "TOKEN_HEADER", "Token HTTP header validation failed")

// errSignatureMissing: a device sent a request that needs a signature without one.
var errSignatureMissing = fault.New(fault.Unauthenticated, "POWER_AUTH_HTTP_HEADER_MISSING", "The signature HTTP header is missing")

// row says how both callers are told of one failure. A sentinel without a row is
// a 500: so a domain's new error is never told by accident, and a test asks for
// its row.
type row struct {
	err     *fault.Error
	status  int
	code    spec.ErrorResponseResponseObjectCode
	message string // instead of the sentinel's
	device  deviceCode
}

type deviceCode string

// Codes of the reference server for devices.
const (
	deviceActivation   deviceCode = "ERR_ACTIVATION"
	deviceEncryption   deviceCode = "ERR_ENCRYPTION"
	deviceTemporaryKey deviceCode = "ERR_TEMPORARY_KEY"
	deviceSigned       deviceCode = "ERR_AUTHENTICATION"
	deviceRequest      deviceCode = "ERROR_REQUEST"
	deviceNotFound     deviceCode = "ERROR_NOT_FOUND"
	deviceGeneric      deviceCode = "ERROR_GENERIC"
)

// deviceMessages keep to the reference, and keep reasons from who guesses codes.
var deviceMessages = map[deviceCode]string{
	deviceActivation:   "POWER_AUTH_ACTIVATION_INVALID",
	deviceEncryption:   "POWER_AUTH_ENCRYPTION_FAILED",
	deviceTemporaryKey: "POWER_AUTH_TEMPORARY_KEY_FAILURE",
	deviceRequest:      "POWER_AUTH_REQUEST_INVALID",
	deviceNotFound:     "NOT_FOUND",
	deviceGeneric:      "UNKNOWN_ERROR",
}

const (
	bad  = http.StatusBadRequest
	fail = http.StatusInternalServerError

	unexplained = "Unknown error occurred while processing request"
	upstream    = "Unable to call upstream service"
)

var table = []row{
	{rest.ErrURL, http.StatusNotFound, "ERROR_NOT_FOUND", "", deviceNotFound},
	{rest.ErrMethod, http.StatusMethodNotAllowed, "ERROR_REQUEST", "", deviceRequest},
	{rest.ErrRequest, bad, "ERROR_REQUEST", "", deviceRequest},
	{rest.ErrTooLarge, http.StatusRequestEntityTooLarge, "ERROR_REQUEST", "", deviceRequest},
	{rest.ErrMediaType, http.StatusUnsupportedMediaType, "ERROR_REQUEST", "", deviceRequest},
	{rest.ErrBodyRead, bad, "ERROR_REQUEST", "", deviceRequest},

	{access.ErrUnauthenticated, http.StatusUnauthorized, "HTTP_401", "Unauthorized", deviceRequest},
	{access.ErrForbidden, http.StatusUnauthorized, "HTTP_401", "Unauthorized", deviceRequest},
	{access.ErrCredential, bad, "ERROR_REQUEST", "", deviceRequest},
	{access.ErrUserExists, bad, "ERROR_ADMIN", "", deviceRequest},
	{access.ErrUserUnknown, bad, "ERROR_ADMIN", "", deviceRequest},
	{access.ErrBusy, http.StatusTooManyRequests, "ERROR_REQUEST", "", deviceRequest},
	{access.ErrConfig, fail, "ERROR_GENERIC", unexplained, deviceGeneric},

	{app.ErrNotFound, bad, "ERROR_ADMIN", "", deviceActivation},
	{app.ErrExists, bad, "ERROR_ADMIN", "", deviceRequest},
	{app.ErrInvalid, bad, "ERROR_REQUEST", "", deviceRequest},
	{app.ErrVersion, bad, "ERROR_ADMIN", "", deviceRequest},
	{app.ErrVersionExists, bad, "ERROR_ADMIN", "", deviceRequest},
	{app.ErrRotated, bad, "ERROR_ADMIN", "", deviceRequest},
	{app.ErrMaster, fail, "ERROR_INTERNAL_API", upstream, deviceGeneric},

	{errHeader, bad, "ERROR_SIGNATURE_INVALID", "", deviceRequest},
	{errSignatureMissing, http.StatusUnauthorized, "ERROR_SIGNATURE_INVALID", "", deviceSigned},
	{errEncryptionHeader, bad, "ERROR_REQUEST", "", deviceEncryption},
	{errTokenHeader, bad, "ERROR_TOKEN_INVALID", "", deviceRequest},
	{token.ErrToken, http.StatusUnauthorized, "ERROR_TOKEN_INVALID", "", deviceSigned},

	{push.ErrMessage, bad, "ERROR_PUSH_MESSAGE", "", deviceRequest},
	{push.ErrRequest, bad, "ERROR_REQUEST", "", deviceRequest},
	{push.ErrInboxNotFound, bad, "ERROR_REQUEST", "", deviceRequest},
	{push.ErrCredential, fail, "ERROR_INTERNAL_API", upstream, deviceGeneric},

	{callback.ErrInvalid, bad, "ERROR_REQUEST", "", deviceRequest},
	{callback.ErrExists, bad, "ERROR_ADMIN", "", deviceRequest},
	{callback.ErrLimit, bad, "ERROR_ADMIN", "", deviceRequest},
	{callback.ErrNotFound, bad, "ERROR_ADMIN", "", deviceRequest},

	{audit.ErrPeriod, bad, "ERROR_AUDIT", "", deviceRequest},
	{audit.ErrUser, bad, "ERROR_AUDIT", "", deviceRequest},
	{audit.ErrInvalid, bad, "ERROR_REQUEST", "", deviceRequest},
	{audit.ErrBroken, fail, "ERROR_GENERIC", unexplained, deviceGeneric},

	{operation.ErrNotFound, bad, "ERROR_OPERATION_NOT_FOUND", "", deviceRequest},
	{operation.ErrState, bad, "ERROR_OPERATION_STATE_CHANGE", "", deviceRequest},
	{operation.ErrUndecided, bad, "ERROR_OPERATION_STATE_CHANGE", "", deviceRequest},
	{operation.ErrOTPForm, bad, "ERROR_OTP_INVALID", "", deviceRequest},
	{operation.ErrInvalid, bad, "ERROR_REQUEST", "", deviceRequest},
	{operation.ErrData, bad, "ERROR_REQUEST", "", deviceRequest},
	{operation.ErrTemplateNotFound, bad, "ERROR_ADMIN", "", deviceRequest},
	{operation.ErrTemplateExists, bad, "ERROR_ADMIN", "", deviceRequest},
	{operation.ErrFinished, bad, "ERROR_OPERATION_STATE_CHANGE", "", deviceRequest},
	{operation.ErrFailed, bad, "ERROR_OPERATION_STATE_CHANGE", "", deviceRequest},
	{operation.ErrCanceled, bad, "ERROR_OPERATION_STATE_CHANGE", "", deviceRequest},
	{operation.ErrExpired, bad, "ERROR_OPERATION_STATE_CHANGE", "", deviceRequest},
	{operation.ErrFlag, bad, "ERROR_OPERATION_STATE_CHANGE", "", deviceRequest},
	{operation.ErrActivation, bad, "ERROR_OPERATION_STATE_CHANGE", "", deviceRequest},
	{operation.ErrRefused, bad, "ERROR_OPERATION_STATE_CHANGE", "", deviceRequest},

	{registration.ErrNotFound, bad, "ERROR_REGISTRATION_NOT_FOUND", "", deviceActivation},
	{registration.ErrNotAllowed, bad, "ERROR_REGISTRATION_NOT_ALLOWED", "", deviceActivation},
	{registration.ErrChange, bad, "ERROR_REGISTRATION_CHANGE", "", deviceActivation},
	{registration.ErrInvalid, bad, "ERROR_REQUEST", "", deviceActivation},
	{registration.ErrOTP, bad, "ERROR_REQUEST", "", deviceActivation},
	{registration.ErrExpired, bad, "ERROR_REGISTRATION", "", deviceActivation},
	{registration.ErrActivation, bad, "ERROR_REGISTRATION", "", deviceActivation},
	{registration.ErrFormat, bad, "ERROR_REGISTRATION", "", deviceActivation},
	{registration.ErrDecrypt, bad, "ERROR_REGISTRATION", "", deviceEncryption},
	{registration.ErrRequest, bad, "ERROR_REGISTRATION", "", deviceEncryption},
	{registration.ErrTemporaryKey, bad, "ERROR_REGISTRATION", "", deviceTemporaryKey},
	{registration.ErrSignature, http.StatusUnauthorized, "ERROR_SIGNATURE_INVALID", "", deviceSigned},
	{registration.ErrSignatureType, http.StatusUnauthorized, "ERROR_SIGNATURE_INVALID", "", deviceSigned},

	{fault.ErrUnavailable, fail, "ERROR_INTERNAL_API", upstream, deviceGeneric},
}

var rows = problem.NewTable(table, func(r row) *fault.Error { return r.err })

var unknown = row{status: fail, code: "ERROR_GENERIC", message: unexplained, device: deviceGeneric}

// find gives the row of err, its message filled in, and err's violations.
func find(err error) (row, []fault.Violation) {
	r, f, ok := rows.Find(err)
	if !ok {
		return unknown, nil
	}
	if r.message == "" {
		r.message = f.Message
	}
	return r, f.Violations
}

func cloudProblem(err error, _ string) rest.Response {
	r, violations := find(err)
	body := spec.ErrorResponse{Status: "ERROR"}
	body.ResponseObject.Code = r.code
	body.ResponseObject.Message = r.message
	if r.code == "ERROR_REQUEST" && len(violations) > 0 {
		list := make([]spec.Violation, len(violations))
		for i, v := range violations {
			list[i] = spec.Violation{FieldName: v.Field, InvalidValue: v.Value, Hint: v.Hint}
		}
		body.ResponseObject.Violations = &list
	}
	resp := rest.Response{Status: r.status, Body: body}
	if r.status == http.StatusUnauthorized {
		resp.Header = map[string]string{"WWW-Authenticate": `Basic realm="signet", charset="UTF-8"`}
	}
	return resp
}

// forDevice is the message. Of a refused signature the reason is the reference's
// text already.
func (r row) forDevice() string {
	if r.device == deviceSigned {
		return r.err.Reason
	}
	return deviceMessages[r.device]
}

// deviceError is the error body of the protocol endpoints.
type deviceError struct {
	Status         string `json:"status"`
	ResponseObject struct {
		Code    deviceCode `json:"code"`
		Message string     `json:"message"`
	} `json:"responseObject"`
}

func deviceProblem(err error, _ string) rest.Response {
	r, _ := find(err)
	if r.err == fault.ErrUnavailable { // devices retry on this, and have no contract against it
		r.status = http.StatusServiceUnavailable
	}
	body := deviceError{Status: "ERROR"}
	body.ResponseObject.Code = r.device
	body.ResponseObject.Message = r.forDevice()
	return rest.Response{Status: r.status, Body: body}
}
