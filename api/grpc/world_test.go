package grpc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/signet-hsm/signet/access"
	api "github.com/signet-hsm/signet/api/grpc"
	"github.com/signet-hsm/signet/api/internal/apitest"
	rest "github.com/signet-hsm/signet/api/powerauth"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/registration"
)

func TestMain(m *testing.M) {
	if !apitest.Drive(driver) { // the other process of a benchmark
		pgtest.Main(m)
	}
}

const serviceURL = "https://pa.example.com"

// serve runs a server for the test and connects to it.
func serve(tb testing.TB, c api.Config, set ...func(*api.Server)) *grpc.ClientConn {
	tb.Helper()
	s, err := api.New(c)
	require.NoError(tb, err)
	for _, f := range set {
		f(s)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(tb, err)
	tb.Cleanup(func() {
		require.NoError(tb, conn.Close())
		stop()
		require.NoError(tb, <-done)
	})
	return conn
}

// world is the services over an installation.
type world struct {
	*apitest.Installation
	conn *grpc.ClientConn

	reader, writer, client, betaWriter context.Context // with credentials
	shop, betaShop, admin, betaAdmin   context.Context
	shopPassword                       string
}

func bearer(tb testing.TB, token string) context.Context {
	return metadata.AppendToOutgoingContext(tb.Context(), "authorization", "Bearer "+token)
}

func basic(tb testing.TB, user, password string) context.Context {
	return metadata.AppendToOutgoingContext(tb.Context(), "authorization",
		"Basic "+base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	in := apitest.NewInstallation(tb)
	w := &world{
		Installation: in,
		conn: serve(tb, api.Config{
			Authority: in.Authority, Verifier: in.Registrations, Realms: in.Realms, Basic: in.Basic,
			Registrations: in.Registrations, Operations: in.Operations, Tokens: in.Tokens, Push: in.Push, Callbacks: in.Callbacks,
			Audit: in.Audit, Applications: in.Applications, ServiceURL: serviceURL, Users: in.Basic, Operator: pgtest.Alpha,
		}),
		reader:     bearer(tb, in.Token(tb, pgtest.Alpha, time.Hour, "admin-read")),
		writer:     bearer(tb, in.Token(tb, pgtest.Alpha, time.Hour, "admin-write")),
		client:     bearer(tb, in.Token(tb, pgtest.Alpha, time.Hour, "ast-client")),
		betaWriter: bearer(tb, in.Token(tb, pgtest.Beta, time.Hour, "admin-write", "admin-read", "ast-client")),
		admin:      basic(tb, "admin", in.Login(tb, pgtest.Alpha, "admin", access.PAAdmin, "APP")),
		betaAdmin:  basic(tb, "beta-admin", in.Login(tb, pgtest.Beta, "beta-admin", access.PAAdmin)),
		betaShop:   basic(tb, "beta-shop", in.Login(tb, pgtest.Beta, "beta-shop", access.PAIntegration, "APP")),
	}
	w.shopPassword = in.Login(tb, pgtest.Alpha, "shop", access.PAIntegration, "APP")
	w.shop = basic(tb, "shop", w.shopPassword)
	return w
}

// requireStatus checks code, reason and the violated fields.
func requireStatus(tb testing.TB, err error, code codes.Code, reason string, fields ...string) {
	tb.Helper()
	st := status.Convert(err)
	require.Equal(tb, code, st.Code(), "%v", err)
	var gotReason string
	var gotFields []string
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			gotReason = d.GetReason()
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				gotFields = append(gotFields, v.GetField())
			}
		}
	}
	require.Equal(tb, reason, gotReason)
	require.Equal(tb, fields, gotFields)
}

// violation is the text of the first violated field.
func violation(err error) string {
	for _, d := range status.Convert(err).Details() {
		if d, ok := d.(*errdetails.BadRequest); ok {
			return d.GetFieldViolations()[0].GetDescription()
		}
	}
	return ""
}

func csr(tb testing.TB) []byte {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(tb, err)
	der, err := issuance.NewRequest(key)
	require.NoError(tb, err)
	return der
}

const clientID = "01J0000000000000000000000A"

// phone makes jane an ACTIVE device of alpha's APP, over REST as devices do.
func (w *world) phone(t *testing.T) *powerauth.Device {
	t.Helper()
	return w.phoneOf(t, "jane")
}

func (w *world) phoneOf(t *testing.T, user string) *powerauth.Device {
	t.Helper()
	served, err := rest.New(rest.Config{Registrations: w.Registrations, Basic: w.Basic, Tokens: w.Tokens})
	require.NoError(t, err)
	mux := http.NewServeMux()
	served.Mount(mux)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	v := w.Versions["alpha/APP"]
	d, err := powerauth.New(powerauth.Config{
		BaseURL: srv.URL, ApplicationKey: base64.StdEncoding.EncodeToString(v.Key[:]), ApplicationSecret: string(v.Secret.Reveal()),
		MasterPublicKey: base64.StdEncoding.EncodeToString(w.Masters["alpha/APP"]), HTTP: srv.Client(),
	})
	require.NoError(t, err)
	made, err := w.Registrations.Create(t.Context(), pgtest.Alpha, registration.CreateParams{Apps: []string{"APP"}, App: "APP", UserID: user})
	require.NoError(t, err)
	require.NoError(t, d.Activate(t.Context(), made.QRCodeData, powerauth.ActivateOptions{Platform: "ios"}))
	require.NoError(t, w.Registrations.Commit(t.Context(), pgtest.Alpha, registration.CommitParams{Apps: []string{"APP"}, ID: made.ID}))
	return d
}
