package powerauth

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/internal/apitest"
	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/api/powerauth/internal/spec"
	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/registration"
)

func TestEverySentinelHasARow(t *testing.T) {
	t.Parallel()
	apitest.RequireRows(t, rows.Reasons(), "fault", "access", "app", "audit", "callback", "operation", "push", "registration", "token", "api/internal/rest")
}

func TestMobileSentinelsHaveARow(t *testing.T) {
	t.Parallel()
	apitest.RequireRows(t, mobileRows.Reasons(), "fault", "operation", "token", "api/internal/rest")
}

func TestRowsStayInTheContract(t *testing.T) {
	t.Parallel()
	require.True(t, unknown.code.Valid())
	for _, r := range table {
		require.True(t, r.code.Valid(), "%s: %s", r.err.Reason, r.code)
		require.NotEmpty(t, r.forDevice(), r.err.Reason)
		if r.device == deviceSigned {
			require.True(t, strings.HasPrefix(r.err.Reason, "POWER_AUTH_"), r.err.Reason)
		}
		if r.status == fail {
			require.NotEmpty(t, r.message, "%s: an internal failure needs a text of its own", r.err.Reason)
		}
	}
}

// What nobody declared is a 500 without its text: a named interface as error type
// once made a peer tell every error as the caller's fault.
func TestUndeclaredErrorsAreInternal(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err    error
		status int
		code   spec.ErrorResponseResponseObjectCode
	}{
		"plain":              {errors.New("pq: password=hunter2"), 500, "ERROR_GENERIC"},
		"sentinel, no row":   {hsm.ErrKeyNotFound, 500, "ERROR_GENERIC"},
		"internal with row":  {fmt.Errorf("hunter2: %w", access.ErrConfig), 500, "ERROR_GENERIC"},
		"master key":         {app.ErrMaster, 500, "ERROR_INTERNAL_API"},
		"outage":             {fmt.Errorf("hunter2: %w", fault.ErrUnavailable), 500, "ERROR_INTERNAL_API"},
		"outage of the HSM":  {hsm.ErrPIN, 500, "ERROR_INTERNAL_API"},
		"wrapped sentinel":   {fmt.Errorf("hunter2: %w: %w", registration.ErrChange, errors.New("x")), 400, "ERROR_REGISTRATION_CHANGE"},
		"missing role":       {access.ErrForbidden, 401, "HTTP_401"},
		"domain then outage": {fmt.Errorf("%w: %w", registration.ErrNotFound, fault.ErrUnavailable), 400, "ERROR_REGISTRATION_NOT_FOUND"},
	} {
		resp := cloudProblem(c.err, "id")
		body, ok := resp.Body.(spec.ErrorResponse)
		require.True(t, ok)
		require.Equal(t, c.status, resp.Status, name)
		require.Equal(t, c.code, body.ResponseObject.Code, name)
		text, err := json.Marshal(body)
		require.NoError(t, err)
		require.NotContains(t, string(text), "hunter2", name)
	}
}

func TestViolationsAreTold(t *testing.T) {
	t.Parallel()
	err := rest.ErrRequest.With(
		fault.Violation{Field: "userId", Value: "", Hint: "must not be blank"},
		fault.Violation{Field: "otp", Hint: "must not be empty"})
	text, e := json.Marshal(cloudProblem(err, "id").Body)
	require.NoError(t, e)
	require.JSONEq(t, `{"status":"ERROR","responseObject":{"code":"ERROR_REQUEST","message":"the request is not valid","violations":[
		{"fieldName":"userId","hint":"must not be blank"},{"fieldName":"otp","hint":"must not be empty"}]}}`, string(text))
}

func TestDevicesLearnTheKindOfFailureOnly(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]string{
		registration.ErrActivation:    `400 ERR_ACTIVATION POWER_AUTH_ACTIVATION_INVALID`,
		registration.ErrExpired:       `400 ERR_ACTIVATION POWER_AUTH_ACTIVATION_INVALID`,
		registration.ErrOTP:           `400 ERR_ACTIVATION POWER_AUTH_ACTIVATION_INVALID`,
		registration.ErrFormat:        `400 ERR_ACTIVATION POWER_AUTH_ACTIVATION_INVALID`,
		registration.ErrDecrypt:       `400 ERR_ENCRYPTION POWER_AUTH_ENCRYPTION_FAILED`,
		registration.ErrRequest:       `400 ERR_ENCRYPTION POWER_AUTH_ENCRYPTION_FAILED`,
		registration.ErrTemporaryKey:  `400 ERR_TEMPORARY_KEY POWER_AUTH_TEMPORARY_KEY_FAILURE`,
		registration.ErrSignature:     `401 ERR_AUTHENTICATION POWER_AUTH_SIGNATURE_INVALID`,
		registration.ErrSignatureType: `401 ERR_AUTHENTICATION POWER_AUTH_SIGNATURE_TYPE_INVALID`,
		errSignatureMissing:           `401 ERR_AUTHENTICATION POWER_AUTH_HTTP_HEADER_MISSING`,
		errEncryptionHeader:           `400 ERR_ENCRYPTION POWER_AUTH_ENCRYPTION_FAILED`,
		rest.ErrURL:                   `404 ERROR_NOT_FOUND NOT_FOUND`,
		fault.ErrUnavailable:          `503 ERROR_GENERIC UNKNOWN_ERROR`,
		hsm.ErrPIN:                    `503 ERROR_GENERIC UNKNOWN_ERROR`,
		errors.New("hunter2"):         `500 ERROR_GENERIC UNKNOWN_ERROR`,
	} {
		resp := deviceProblem(err, "id")
		body, ok := resp.Body.(deviceError)
		require.True(t, ok)
		require.Equal(t, want, fmt.Sprint(resp.Status, " ", body.ResponseObject.Code, " ", body.ResponseObject.Message))
	}
}
