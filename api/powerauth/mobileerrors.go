package powerauth

import (
	"net/http"

	"github.com/signet-hsm/signet/api/internal/problem"
	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/operation"
	"github.com/signet-hsm/signet/push"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/token"
)

// mobileRow says how a phone is told of a failure in the mobile token API; the
// codes are that API's. A sentinel without a row is a 500.
type mobileRow struct {
	err    *fault.Error
	status int
	code   string
}

const (
	mobileRequest = "INVALID_REQUEST"
	mobileRefused = "POWERAUTH_AUTH_FAIL"
	mobileGeneric = "ERROR_GENERIC"
)

var mobileTable = []mobileRow{
	{rest.ErrURL, http.StatusNotFound, "ERROR_NOT_FOUND"},
	{rest.ErrMethod, http.StatusMethodNotAllowed, mobileRequest},
	{rest.ErrRequest, bad, mobileRequest},
	{rest.ErrTooLarge, http.StatusRequestEntityTooLarge, mobileRequest},
	{rest.ErrMediaType, http.StatusUnsupportedMediaType, mobileRequest},
	{rest.ErrBodyRead, bad, mobileRequest},

	{errSignatureMissing, http.StatusUnauthorized, mobileRefused},
	{token.ErrToken, http.StatusUnauthorized, mobileRefused},
	{registration.ErrSignature, http.StatusUnauthorized, mobileRefused},
	{registration.ErrSignatureType, http.StatusUnauthorized, mobileRefused},
	{registration.ErrInvalid, bad, mobileRequest},
	{registration.ErrNotFound, bad, "INVALID_ACTIVATION"},
	{app.ErrNotFound, http.StatusUnauthorized, mobileRefused}, // the key that leads to no tenant

	{operation.ErrNotFound, bad, "INVALID_OPERATION"},
	{operation.ErrState, bad, "INVALID_OPERATION"},
	{operation.ErrUndecided, bad, "INVALID_OPERATION"},
	{operation.ErrOTPForm, bad, mobileRequest},
	{operation.ErrInvalid, bad, mobileRequest},
	{operation.ErrData, bad, mobileRequest},
	{operation.ErrTemplateNotFound, bad, mobileRequest},
	{operation.ErrTemplateExists, bad, mobileRequest},
	{operation.ErrFinished, bad, operation.ErrFinished.Reason},
	{operation.ErrFailed, bad, operation.ErrFailed.Reason},
	{operation.ErrCanceled, bad, operation.ErrCanceled.Reason},
	{operation.ErrExpired, bad, operation.ErrExpired.Reason},
	{operation.ErrFlag, bad, operation.ErrFlag.Reason},
	{operation.ErrActivation, bad, operation.ErrActivation.Reason},
	{operation.ErrRefused, http.StatusUnauthorized, operation.ErrRefused.Reason},

	{push.ErrRequest, bad, mobileRequest},
	{push.ErrInboxNotFound, bad, push.ErrInboxNotFound.Reason},

	{fault.ErrUnavailable, http.StatusServiceUnavailable, mobileGeneric},
}

var mobileRows = problem.NewTable(mobileTable, func(r mobileRow) *fault.Error { return r.err })

func mobileProblem(err error, _ string) rest.Response {
	r, f, ok := mobileRows.Find(err)
	message := unexplained
	if !ok {
		r = mobileRow{status: fail, code: mobileGeneric}
	} else if r.status != http.StatusServiceUnavailable {
		message = f.Message
	}
	var body deviceError
	body.Status = "ERROR"
	body.ResponseObject.Code, body.ResponseObject.Message = deviceCode(r.code), message
	return rest.Response{Status: r.status, Body: body}
}
