package grpc_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/signet-hsm/signet/access"
	api "github.com/signet-hsm/signet/api/grpc"
	"github.com/signet-hsm/signet/api/internal/apitest"
	rest "github.com/signet-hsm/signet/api/powerauth"
	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
	"github.com/signet-hsm/signet/token"
)

// BenchmarkServing measures the two hot calls against a bare echo of the same
// messages on a server of the same options without our work: "served" answers from
// memory and is our own work of serving (credentials, parsing, metrics, mapping);
// "durable" has the whole installation behind it, on a database that syncs, and is
// what a caller gets. 8 connections with 32 streams each, from another process.
func BenchmarkServing(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // as `signet serve` sets it
	in := apitest.NewDurable(b)
	limiter, err := access.NewLimiter(access.LimiterConfig{})
	require.NoError(b, err)
	config := api.Config{
		Authority: in.Authority, Verifier: in.Registrations, Realms: in.Realms, Basic: in.Basic,
		Operations: in.Operations, Tokens: in.Tokens, Limiter: limiter, Metrics: prometheus.NewRegistry(),
	}
	memory := config
	memory.Metrics = prometheus.NewRegistry()
	memory.Verifier, memory.Tokens = known{}, knownTokens{}
	setup := driverSetup{Username: "shop", Password: in.Login(b, pgtest.Alpha, "shop", access.PAIntegration, "APP")}
	setup.phones(b, in, 256)
	echo, served, durable := echoServer(b), serveFor(b, memory), serveFor(b, config)
	for _, kind := range []string{"token", "signature"} {
		b.Run(kind, func(b *testing.B) {
			apitest.Duel{
				Ways:    []apitest.Way{{Name: "echo", Addr: echo, Kind: kind}, {Name: "served", Addr: served, Kind: kind}, {Name: "durable", Addr: durable, Kind: kind}},
				Callers: 256, Setup: setup,
			}.Run(b)
		})
	}
}

// BenchmarkPath is what our path adds to a call, without any transport: credentials
// that are remembered, the bound of the credential, texts, deadline and metrics.
func BenchmarkPath(b *testing.B) {
	in := apitest.NewInstallation(b)
	limiter, err := access.NewLimiter(access.LimiterConfig{})
	require.NoError(b, err)
	s, err := api.New(api.Config{
		Authority: in.Authority, Verifier: known{}, Realms: in.Realms, Basic: in.Basic, Tokens: knownTokens{},
		Limiter: limiter, Metrics: prometheus.NewRegistry(),
	})
	require.NoError(b, err)
	defer s.Stop()
	ctx, cancel := context.WithTimeout(grpc.NewContextWithServerTransportStream(b.Context(), nowhere{}), 20*time.Second)
	defer cancel()
	login := base64.StdEncoding.EncodeToString([]byte("shop:" + in.Login(b, pgtest.Alpha, "shop", access.PAIntegration, "APP")))
	ctx = metadata.NewIncomingContext(ctx, metadata.Pairs("authorization", "Basic "+login, "user-agent", "bench"))
	req := (&world{}).goodCalls()[signetv1.TokenService_VerifyToken_FullMethodName].req
	handler := func(context.Context, any) (any, error) { return nil, nil }
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Unary(ctx, req, signetv1.TokenService_VerifyToken_FullMethodName, handler); err != nil {
			b.Fatal(err)
		}
	}
}

// nowhere takes headers.
type nowhere struct{ grpc.ServerTransportStream }

func (nowhere) SetHeader(metadata.MD) error { return nil }

const (
	benchConnections = 8
	benchURI         = "/pay"
	benchDeadline    = 10 * time.Second
)

var benchBody = []byte(`{"amount":"100.00","currency":"CZK","account":"CZ6508000000192000145399"}`)

// known answers as a domain would that knows everything by heart.
type known struct{}

func (known) Verify(_ context.Context, _ tenant.ID, r registration.VerifyRequest) (registration.Verdict, error) {
	return registration.Verdict{
		Valid: true, ID: r.Header.ActivationID, Status: registration.StateActive, Factors: r.Header.Factors,
		Judged: true, UserID: "user-1", App: "APP", Roles: []string{"ROLE"}, RemainingAttempts: 5,
	}, nil
}

type knownTokens struct{}

func (knownTokens) Verify(_ context.Context, _ tenant.ID, r token.VerifyRequest) (token.Verdict, error) {
	return token.Verdict{
		Valid: true, Judged: true, RegistrationID: r.Header.TokenID, Status: registration.StateActive,
		Factors: signature.Possession, UserID: "user-1", App: "APP", Roles: []string{"ROLE"},
	}, nil
}

// echoed is the same without our path.
type echoed struct {
	signetv1.UnimplementedTokenServiceServer
	signetv1.UnimplementedSignatureServiceServer
}

func (echoed) VerifyToken(_ context.Context, r *signetv1.VerifyTokenRequest) (*signetv1.VerifyTokenResponse, error) {
	return &signetv1.VerifyTokenResponse{Verdict: &signetv1.TokenVerdict{
		Valid: true, UserId: "user-1", RegistrationId: r.GetCheck().GetAuthHeader()[20:56], RegistrationStatus: 3, SignatureType: 1,
		Application: &signetv1.Application{Name: "APP", Roles: []string{"ROLE"}},
	}}, nil
}

func (echoed) VerifySignature(_ context.Context, r *signetv1.VerifySignatureRequest) (*signetv1.VerifySignatureResponse, error) {
	return &signetv1.VerifySignatureResponse{Verdict: &signetv1.SignatureVerdict{
		Valid: true, UserId: "user-1", RegistrationId: r.GetCheck().GetAuthHeader()[20:56], RegistrationStatus: 3, SignatureType: 4,
		RemainingAttempts: 5, Application: &signetv1.Application{Name: "APP", Roles: []string{"ROLE"}},
	}}, nil
}

func echoServer(b *testing.B) string {
	b.Helper()
	s := grpc.NewServer(api.Transport()...)
	signetv1.RegisterTokenServiceServer(s, echoed{})
	signetv1.RegisterSignatureServiceServer(s, echoed{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	go func() { _ = s.Serve(l) }()
	b.Cleanup(s.Stop)
	return l.Addr().String()
}

func serveFor(b *testing.B, c api.Config) string {
	b.Helper()
	s, err := api.New(c)
	require.NoError(b, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	b.Cleanup(func() { stop(); require.NoError(b, <-done) })
	return l.Addr().String()
}

// driverSetup is what the driver process is told.
type driverSetup struct {
	Username, Password  string
	Key, Secret, Master string // of the application
	Phones              []json.RawMessage
	Tokens              []powerauth.Token
}

func (s *driverSetup) config(url string) powerauth.Config {
	return powerauth.Config{BaseURL: url, ApplicationKey: s.Key, ApplicationSecret: s.Secret, MasterPublicKey: s.Master, Version: signature.V33}
}

// phones makes ACTIVE devices with a token each.
func (s *driverSetup) phones(b *testing.B, in *apitest.Installation, n int) {
	b.Helper()
	served, err := rest.New(rest.Config{Registrations: in.Registrations, Basic: in.Basic, Tokens: in.Tokens})
	require.NoError(b, err)
	mux := http.NewServeMux()
	served.Mount(mux)
	srv := httptest.NewServer(mux)
	defer srv.Close()
	v := in.Versions["alpha/APP"]
	s.Key, s.Secret = base64.StdEncoding.EncodeToString(v.Key[:]), string(v.Secret.Reveal())
	s.Master = base64.StdEncoding.EncodeToString(in.Masters["alpha/APP"])
	for i := range n {
		made, err := in.Registrations.Create(b.Context(), pgtest.Alpha, registration.CreateParams{Apps: []string{"APP"}, App: "APP", UserID: fmt.Sprint("user-", i)})
		require.NoError(b, err)
		d, err := powerauth.New(s.config(srv.URL))
		require.NoError(b, err)
		require.NoError(b, d.Activate(b.Context(), made.QRCodeData, powerauth.ActivateOptions{Platform: "ios"}))
		require.NoError(b, in.Registrations.Commit(b.Context(), pgtest.Alpha, registration.CommitParams{Apps: []string{"APP"}, ID: made.ID}))
		held, err := d.CreateToken(b.Context(), signature.Possession)
		require.NoError(b, err)
		raw, err := d.Export()
		require.NoError(b, err)
		s.Phones, s.Tokens = append(s.Phones, raw), append(s.Tokens, held)
	}
}

var errVerdict = errors.New("wrong verdict")

// driver makes the callers of one way, in the driver process.
func driver(w apitest.Way, n int, raw json.RawMessage) ([]apitest.Caller, error) {
	var s driverSetup
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, err
	}
	ctx := metadata.AppendToOutgoingContext(context.Background(), "authorization",
		"Basic "+base64.StdEncoding.EncodeToString([]byte(s.Username+":"+s.Password)))
	var conns []*grpc.ClientConn
	for range benchConnections {
		c, err := grpc.NewClient(w.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		conns = append(conns, c)
	}
	phones := s.Phones
	if w.Name == wayNaive {
		phones = phones[n:]
	}
	callers := make([]apitest.Caller, n)
	for i := range callers {
		d, err := powerauth.Import(s.config("http://unused"), phones[i])
		if err != nil {
			return nil, err
		}
		conn := conns[i%len(conns)]
		switch w.Kind {
		case "token":
			client := signetv1.NewTokenServiceClient(conn)
			callers[i] = func() error {
				ctx, cancel := context.WithTimeout(ctx, benchDeadline) // as callers do
				defer cancel()
				header, err := d.TokenHeader(s.Tokens[i])
				if err != nil {
					return err
				}
				r, err := client.VerifyToken(ctx, &signetv1.VerifyTokenRequest{Check: &signetv1.TokenCheck{AuthHeader: header}})
				if err == nil && !r.GetVerdict().GetValid() {
					err = errVerdict
				}
				return err
			}
		default:
			client := signetv1.NewSignatureServiceClient(conn)
			callers[i] = func() error {
				ctx, cancel := context.WithTimeout(ctx, benchDeadline)
				defer cancel()
				header, err := d.Sign("POST", benchURI, benchBody, signature.PossessionKnowledge)
				if err != nil {
					return err
				}
				r, err := client.VerifySignature(ctx, &signetv1.VerifySignatureRequest{Check: &signetv1.SignatureCheck{
					Method: "POST", UriId: benchURI, AuthHeader: header, Body: benchBody,
				}})
				if err == nil && !r.GetVerdict().GetValid() {
					err = errVerdict
				}
				return err
			}
		}
	}
	return callers, nil
}
