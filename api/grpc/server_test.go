package grpc_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/signet-hsm/signet/access"
	api "github.com/signet-hsm/signet/api/grpc"
	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/tenant"
)

// stub answers for both domains and both kinds of credentials.
type stub struct {
	api.Authority
	verify func(context.Context) error
}

func (s stub) Verify(ctx context.Context, _ tenant.ID, _ registration.VerifyRequest) (registration.Verdict, error) {
	return registration.Verdict{}, s.verify(ctx)
}

func (s stub) ListSigners(ctx context.Context, _ tenant.ID, _ ca.Page) ([]ca.Signer, int, error) {
	return nil, 0, s.verify(ctx)
}

type anyone struct{}

func (anyone) Authenticate(context.Context, string) (access.Principal, error) {
	return access.Principal{Tenant: pgtest.Alpha, Name: "op-1", Privileges: access.Any(access.AdminRead)}, nil
}

// writer is everybody, as an administrator of alpha.
type writer struct{}

func (writer) Authenticate(context.Context, string) (access.Principal, error) {
	return access.Principal{Tenant: pgtest.Alpha, Name: "op-1", Privileges: access.Any(access.AdminWrite)}, nil
}

type nobody struct{}

func (nobody) Authenticate(context.Context, string, string) (access.Principal, error) {
	return access.Principal{}, access.ErrUnauthenticated
}

func list(tb testing.TB, verify func(context.Context) error, c api.Config) error {
	tb.Helper()
	c.Authority, c.Verifier = stub{verify: verify}, stub{verify: verify}
	c.Realms, c.Basic = anyone{}, nobody{}
	conn := serve(tb, c)
	_, err := signetv1.NewSignerServiceClient(conn).ListSigners(bearer(tb, "s3cret-token"), &signetv1.ListSignersRequest{})
	return err
}

func TestPanicsErrorsAndLog(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	reg := prometheus.NewRegistry()
	err := list(t, func(context.Context) error { panic("hunter2") }, api.Config{Logger: slog.New(slog.NewJSONHandler(&log, nil)), Metrics: reg})
	require.Equal(t, codes.Internal, status.Code(err))
	require.NotContains(t, err.Error(), "hunter2")
	require.Regexp(t, `report id [0-9A-Z]{26}`, err.Error())
	require.NotContains(t, log.String(), "s3cret-token")
	require.Contains(t, log.String(), `"principal":"op-1"`)
	families, err := reg.Gather()
	require.NoError(t, err)
	names := ""
	for _, f := range families {
		names += f.GetName() + " "
	}
	require.Contains(t, names, "signet_grpc_panics_total")
	require.Contains(t, names, "signet_grpc_requests_total")

	require.Equal(t, codes.Internal, status.Code(list(t, func(context.Context) error { return errors.New("hunter2") }, api.Config{})))
}

func TestACallHasADeadline(t *testing.T) {
	t.Parallel()
	var left time.Duration
	require.NoError(t, list(t, func(ctx context.Context) error {
		at, ok := ctx.Deadline()
		require.True(t, ok)
		left = time.Until(at)
		return nil
	}, api.Config{}))
	require.InDelta(t, 10, left.Seconds(), 1)
	err := list(t, func(context.Context) error { return context.DeadlineExceeded }, api.Config{})
	requireStatus(t, err, codes.Unavailable, "UNAVAILABLE")
}

func TestHealthFollowsReadiness(t *testing.T) {
	t.Parallel()
	var out atomic.Bool
	conn := serve(t, api.Config{
		Authority: stub{}, Verifier: stub{}, Realms: anyone{}, Basic: nobody{},
		Ready: func(context.Context) error {
			if out.Load() {
				return errors.New("hsm is out")
			}
			return nil
		},
	})
	health := healthpb.NewHealthClient(conn)
	is := func(want healthpb.HealthCheckResponse_ServingStatus) func() bool {
		return func() bool {
			for _, name := range []string{"", "signet.v1.SignatureService"} {
				resp, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: name})
				require.NoError(t, err)
				if resp.GetStatus() != want {
					return false
				}
			}
			return true
		}
	}
	require.Eventually(t, is(healthpb.HealthCheckResponse_SERVING), time.Second, 10*time.Millisecond)
	out.Store(true)
	require.Eventually(t, is(healthpb.HealthCheckResponse_NOT_SERVING), 4*time.Second, 50*time.Millisecond)
}

func TestReflectionListsTheServices(t *testing.T) {
	t.Parallel()
	conn := serve(t, api.Config{Authority: stub{}, Verifier: stub{}, Realms: anyone{}, Basic: nobody{}})
	stream, err := reflectpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	require.NoError(t, err)
	require.NoError(t, stream.Send(&reflectpb.ServerReflectionRequest{MessageRequest: &reflectpb.ServerReflectionRequest_ListServices{}}))
	resp, err := stream.Recv()
	require.NoError(t, err)
	var names []string
	for _, s := range resp.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	require.Subset(t, names, []string{"signet.v1.SignerService", "signet.v1.CertificateService", "signet.v1.SignatureService", "signet.v1.SdkConfigService", "grpc.health.v1.Health"})
	require.NoError(t, stream.CloseSend())
}

// An outage is no verdict, whatever was asked.
func TestOutageIsUnavailable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	calls := w.goodCalls()
	// A login that was judged lately needs no database, so that calls reach their
	// domain.
	require.NoError(t, w.conn.Invoke(w.shop, signetv1.RegistrationService_ListRegistrations_FullMethodName,
		&signetv1.ListRegistrationsRequest{UserId: "jane"}, &signetv1.ListRegistrationsResponse{}))
	require.NoError(t, w.conn.Invoke(w.admin, signetv1.TemplateService_ListTemplates_FullMethodName,
		&signetv1.ListTemplatesRequest{}, &signetv1.ListTemplatesResponse{}))
	w.DB.Close()
	for method, call := range calls {
		err := w.conn.Invoke(call.ctx, method, call.req, call.resp)
		requireStatus(t, err, codes.Unavailable, "UNAVAILABLE")
	}
	_, err := signetv1.NewSignerServiceClient(w.conn).ListSigners(w.reader, &signetv1.ListSignersRequest{})
	requireStatus(t, err, codes.Unavailable, "UNAVAILABLE")
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	_, err := api.New(api.Config{})
	require.Error(t, err)
	_, err = api.New(api.Config{Authority: stub{}, Verifier: stub{}, Realms: anyone{}, Basic: nobody{}, Applications: new(app.Registry), ServiceURL: "pa"})
	require.ErrorContains(t, err, "service URL")
}

func TestAServiceWithoutItsDomainIsUnimplemented(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	conn := serve(t, api.Config{Authority: w.Authority, Verifier: w.Registrations, Realms: w.Realms, Basic: w.Basic})
	for method, call := range w.goodCalls() {
		if _, set := method, api.Privileges()[method]; !set.Has(access.PAIntegration) && !set.Has(access.PAAdmin) ||
			method == signetv1.SignatureService_VerifySignature_FullMethodName {
			continue // always there
		}
		require.Equal(t, codes.Unimplemented, status.Code(conn.Invoke(call.ctx, method, call.req, call.resp)), method)
	}
	conn = serve(t, api.Config{
		Authority: w.Authority, Verifier: w.Registrations, Realms: w.Realms, Basic: w.Basic,
		Registrations: w.Registrations, Applications: w.Applications, ServiceURL: serviceURL,
	})
	_, err := signetv1.NewRegistrationServiceClient(conn).ListEvents(w.shop, &signetv1.ListEventsRequest{})
	require.Equal(t, codes.Unimplemented, status.Code(err), "without the audit log")
	_, err = signetv1.NewApplicationServiceClient(conn).SetHmsCredential(w.admin, &signetv1.SetHmsCredentialRequest{})
	require.Equal(t, codes.Unimplemented, status.Code(err), "without pushes")
}
