package grpc

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/internal/apitest"
	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/registration"
)

func TestEverySentinelHasARow(t *testing.T) {
	t.Parallel()
	apitest.RequireRows(t, rows.Reasons(), "fault", "access", "app", "audit", "ca", "ca/issuance", "ca/sdkconfig", "internal/filter", "callback", "operation", "push", "registration", "token")
}

func TestErrorsAsTold(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err    error
		code   codes.Code
		reason string
	}{
		"plain":            {errors.New("hunter2"), codes.Internal, ""},
		"sentinel, no row": {hsm.ErrKeyNotFound, codes.Internal, ""},
		"internal":         {fmt.Errorf("hunter2: %w", ca.ErrKey), codes.Internal, ""},
		"outage":           {fmt.Errorf("hunter2: %w", fault.ErrUnavailable), codes.Unavailable, "UNAVAILABLE"},
		"outage of HSM":    {hsm.ErrPIN, codes.Unavailable, "UNAVAILABLE"},
		"deadline":         {context.DeadlineExceeded, codes.Unavailable, "UNAVAILABLE"},
		"cancelled":        {fmt.Errorf("x: %w", context.Canceled), codes.Canceled, ""},
		"not found":        {fmt.Errorf("hunter2: %w", ca.ErrNoSigner), codes.NotFound, "SIGNER_NOT_FOUND"},
		"change":           {registration.ErrChange, codes.FailedPrecondition, "REGISTRATION_CHANGE"},
		"gRPC's own":       {status.Error(codes.NotFound, "unknown service"), codes.NotFound, ""},
	} {
		st := status.Convert(told(c.err, "ID"))
		require.Equal(t, c.code, st.Code(), name)
		require.NotContains(t, st.Proto().String(), "hunter2", name)
		reason := ""
		for _, d := range st.Details() {
			if info, ok := d.(*errdetails.ErrorInfo); ok {
				reason = info.GetReason()
				require.Equal(t, "signet", info.GetDomain())
			}
		}
		require.Equal(t, c.reason, reason, name)
	}
	require.NoError(t, told(nil, "ID"))
	require.Equal(t, "internal error, report id ID", status.Convert(told(errors.New("x"), "ID")).Message())
}

func TestEveryMethodNeedsItsRow(t *testing.T) {
	t.Parallel()
	services := map[string]grpc.ServiceInfo{"s.v1.S": {Methods: []grpc.MethodInfo{{Name: "A"}, {Name: "B"}}}}
	a, b := access.Any(access.AdminRead), access.Any(access.Public)
	require.NoError(t, checkPrivileges(services, map[string]access.Set{"/s.v1.S/A": a, "/s.v1.S/B": b}))
	for name, table := range map[string]map[string]access.Set{
		"no row":         {"/s.v1.S/A": a},
		"empty row":      {"/s.v1.S/A": a, "/s.v1.S/B": 0},
		"row of nothing": {"/s.v1.S/A": a, "/s.v1.S/B": b, "/s.v1.S/C": a},
	} {
		require.Error(t, checkPrivileges(services, table), name)
	}
}

// Public are only the two services of gRPC itself.
func TestPublicMethods(t *testing.T) {
	t.Parallel()
	for method, set := range privileges {
		require.Equal(t, method[:6] == "/grpc.", set.Has(access.Public), method)
	}
}
