package ast

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/ast/internal/spec"
	"github.com/signet-hsm/signet/api/internal/apitest"
	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
)

func TestEverySentinelHasARow(t *testing.T) {
	t.Parallel()
	apitest.RequireRows(t, rows.Reasons(), "fault", "access", "ca", "ca/issuance", "api/internal/rest")
}

// What nobody declared is a 500 without its text, but with the id under which the
// log has it.
func TestErrorsAsTold(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		want spec.Error
	}{
		"plain":            {errors.New("hunter2"), spec.Error{Code: "500", Subsystem: 599, Message: "internal error, report id ID"}},
		"sentinel, no row": {hsm.ErrKeyNotFound, spec.Error{Code: "500", Subsystem: 599, Message: "internal error, report id ID"}},
		"internal":         {fmt.Errorf("hunter2: %w", ca.ErrKey), spec.Error{Code: "500", Subsystem: 500, Message: "internal error, report id ID"}},
		"outage":           {fmt.Errorf("hunter2: %w", fault.ErrUnavailable), spec.Error{Code: "503", Subsystem: 599, Message: fault.ErrUnavailable.Message}},
		"outage of HSM":    {hsm.ErrPIN, spec.Error{Code: "503", Subsystem: 599, Message: fault.ErrUnavailable.Message}},
		"not found":        {fmt.Errorf("hunter2: %w", ca.ErrNoSigner), spec.Error{Code: "404", Subsystem: 500, Message: ca.ErrNoSigner.Message}},
		"weak key":         {issuance.ErrWeakKey, spec.Error{Code: "400", Subsystem: 500, Message: issuance.ErrWeakKey.Message}},
		"forbidden":        {access.ErrForbidden, spec.Error{Code: "403", Subsystem: 599, Message: access.ErrForbidden.Message}},
		"violations": {
			ca.ErrRequest.With(fault.Violation{Field: "name", Value: "hunter2", Hint: "must be short"}, fault.Violation{Field: "x", Hint: "y"}),
			spec.Error{Code: "400", Subsystem: 500, Message: "the request is not valid: name must be short; x y"},
		},
	} {
		resp := problemBody(c.err, "ID")
		require.Equal(t, c.want, resp.Body, name)
		require.Equal(t, c.want.Code, fmt.Sprint(resp.Status), name)
	}
	require.Equal(t, `Bearer realm="signet"`, problemBody(access.ErrUnauthenticated, "").Header["WWW-Authenticate"])
}
