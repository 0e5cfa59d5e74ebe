package grpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/sdkconfig"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/tenant"
)

const (
	defaultDeadline = 10 * time.Second // of a call that names none
	longestDeadline = 30 * time.Second // of any call, unless the configuration says otherwise
	maxMessage      = 512 << 10        // bytes of a message
	maxMetadata     = 16 << 10         // bytes of a call's headers
	maxStreams      = 250              // calls at once on one connection
	pingEvery       = 10 * time.Second // a client that pings more often is cut off
	idleConnection  = 10 * time.Minute
	probeAfter      = time.Minute      // of silence: is the client still there?
	probeWithin     = 20 * time.Second // then it must answer
	handshakeWithin = 10 * time.Second
	readyEvery      = 2 * time.Second  // health asks readiness this often
	drainWithin     = 10 * time.Second // for running calls when Serve's context ends
)

// Authority is the part of *ca.Authority that the services call.
type Authority interface {
	CreateSigner(ctx context.Context, t tenant.ID, r ca.CreateSigner) (ca.Signer, error)
	Signer(ctx context.Context, t tenant.ID, spec string) (ca.Signer, error)
	ListSigners(ctx context.Context, t tenant.ID, p ca.Page) ([]ca.Signer, int, error)
	DeleteSigner(ctx context.Context, t tenant.ID, r ca.DeleteSigner) error
	Chain(ctx context.Context, t tenant.ID, spec string) ([][]byte, error)
	Paths(ctx context.Context, t tenant.ID, spec string) ([][][]byte, error)
	RenewSigner(ctx context.Context, t tenant.ID, r ca.RenewSigner) (ca.Signer, error)
	RenewAll(ctx context.Context, r ca.RenewAll) (ca.Renewals, error)
	RevokeSigner(ctx context.Context, t tenant.ID, r ca.RevokeSigner) error
	RevokeIssued(ctx context.Context, t tenant.ID, r ca.RevokeIssued) (int, error)
	Issue(ctx context.Context, t tenant.ID, r ca.IssueRequest) (ca.Certificate, error)
	IssueBatch(ctx context.Context, t tenant.ID, requests []ca.IssueRequest) ([]ca.Issued, error)
	RenewDevice(ctx context.Context, t tenant.ID, r ca.RenewDevice) (ca.Certificate, error)
	RevokeCertificate(ctx context.Context, t tenant.ID, r ca.RevokeCertificate) error
	CertificateInfo(ctx context.Context, t tenant.ID, ref string) (ca.CertificateInfo, error)
	CertificateBySerial(ctx context.Context, t tenant.ID, serial issuance.Serial) (ca.CertificateInfo, error)
	ListCertificates(ctx context.Context, t tenant.ID, p ca.Page) ([]ca.CertificateInfo, int, error)
	SignWithCurrent(ctx context.Context, t tenant.ID, s ca.Statement) (string, error)
}

// Verifier is the part of *registration.Registrar that the services call.
type Verifier interface {
	Verify(ctx context.Context, t tenant.ID, r registration.VerifyRequest) (registration.Verdict, error)
}

// Bearer checks tokens; *access.Realms.
type Bearer interface {
	Authenticate(ctx context.Context, token string) (access.Principal, error)
}

// Basic checks usernames and passwords; *access.Basic.
type Basic interface {
	Authenticate(ctx context.Context, username, password string) (access.Principal, error)
}

// Config makes a Server. The first four are needed. A service whose domain is nil
// answers UNIMPLEMENTED.
type Config struct {
	Authority Authority
	Verifier  Verifier
	Realms    Bearer
	Basic     Basic

	// Operator is the tenant whose administrators may act for the whole
	// installation (RenewAllSigners); zero: nobody may.
	Operator tenant.ID

	Registrations Registrations
	Operations    Operations // with their templates
	Tokens        Tokens
	Push          Push
	Callbacks     Callbacks
	Audit         Audit // also of ListEvents
	Applications  Applications
	ServiceURL    string // where phones find the service, told with an application; needed with Applications
	Users         Users  // with Applications

	// MaxDeadline is the longest that a call may take: a caller's deadline beyond it
	// is brought nearer; 0: 30 s.
	MaxDeadline time.Duration
	// Limiter bounds the calls at work of each credential; nil: no bound. Shared with
	// the REST listener.
	Limiter *access.Limiter

	Ready   func(context.Context) error // for health; nil: always ready
	TLS     *tls.Config                 // with ClientCAs and RequireAndVerifyClientCert for mTLS; nil: plain text
	Now     func() time.Time            // nil: time.Now
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

// Server serves the services, health and reflection.
type Server struct {
	c       Config
	server  *grpc.Server
	health  *health.Server
	metrics *metrics

	streamLife   time.Duration
	recheckEvery time.Duration
	draining     context.Context //nolint:containedctx // ends when no stream shall take more
	drain        context.CancelFunc
}

// New builds the server; it does not listen.
func New(c Config) (*Server, error) {
	if c.Authority == nil || c.Verifier == nil || c.Realms == nil || c.Basic == nil {
		return nil, errors.New("grpc: a domain or a kind of credentials is missing")
	}
	if c.Applications != nil {
		if u, err := url.Parse(c.ServiceURL); err != nil || u.Host == "" {
			return nil, errors.New("grpc: the service URL must be absolute")
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.MaxDeadline == 0 {
		c.MaxDeadline = longestDeadline
	}
	m, err := newMetrics(c.Metrics)
	if err != nil {
		return nil, err
	}
	configs, err := sdkconfig.New(sdkconfig.Config{Signer: c.Authority, Now: c.Now})
	if err != nil {
		return nil, fmt.Errorf("grpc: %w", err)
	}
	s := &Server{c: c, metrics: m, health: health.NewServer(), streamLife: streamLife, recheckEvery: recheckEvery}
	s.draining, s.drain = context.WithCancel(context.Background())
	options := append(transport(), grpc.ChainUnaryInterceptor(s.unary), grpc.ChainStreamInterceptor(s.stream))
	if c.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(c.TLS)))
	}
	s.server = grpc.NewServer(options...)
	signetv1.RegisterSignerServiceServer(s.server, signers{authority: c.Authority, operator: c.Operator})
	signetv1.RegisterCertificateServiceServer(s.server, certificates{authority: c.Authority, server: s})
	signetv1.RegisterSdkConfigServiceServer(s.server, sdkConfigs{maker: configs})
	signetv1.RegisterSignatureServiceServer(s.server, signatures{verifier: c.Verifier, server: s})
	s.registerOptional()
	healthpb.RegisterHealthServer(s.server, s.health)
	reflection.Register(s.server)
	if err := checkPrivileges(s.server.GetServiceInfo(), privileges); err != nil {
		s.server.Stop() // its workers run already
		return nil, err
	}
	return s, nil
}

// transport is how connections are served, whatever is served on them. Workers that
// stay save each call a goroutine that grows its stack anew; above their number, or
// when long streams hold them, calls get goroutines of their own.
func transport() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.NumStreamWorkers(uint32(2 * runtime.GOMAXPROCS(0))),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxHeaderListSize(maxMetadata),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(handshakeWithin),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleConnection, Time: probeAfter, Timeout: probeWithin}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingEvery, PermitWithoutStream: true}),
	}
}

// registerOptional registers what tiers and administrators call.
func (s *Server) registerOptional() {
	c := s.c
	signetv1.RegisterRegistrationServiceServer(s.server, either[signetv1.RegistrationServiceServer](
		c.Registrations != nil, registrations{domain: c.Registrations, audit: c.Audit}, signetv1.UnimplementedRegistrationServiceServer{}))
	signetv1.RegisterOperationServiceServer(s.server, either[signetv1.OperationServiceServer](
		c.Operations != nil, operations{domain: c.Operations, server: s}, signetv1.UnimplementedOperationServiceServer{}))
	signetv1.RegisterTemplateServiceServer(s.server, either[signetv1.TemplateServiceServer](
		c.Operations != nil, templates{domain: c.Operations}, signetv1.UnimplementedTemplateServiceServer{}))
	signetv1.RegisterTokenServiceServer(s.server, either[signetv1.TokenServiceServer](
		c.Tokens != nil, tokens{domain: c.Tokens, server: s}, signetv1.UnimplementedTokenServiceServer{}))
	signetv1.RegisterMessageServiceServer(s.server, either[signetv1.MessageServiceServer](
		c.Push != nil, messages{domain: c.Push}, signetv1.UnimplementedMessageServiceServer{}))
	signetv1.RegisterCallbackServiceServer(s.server, either[signetv1.CallbackServiceServer](
		c.Callbacks != nil, callbacks{domain: c.Callbacks}, signetv1.UnimplementedCallbackServiceServer{}))
	signetv1.RegisterAuditServiceServer(s.server, either[signetv1.AuditServiceServer](
		c.Audit != nil, auditLog{domain: c.Audit}, signetv1.UnimplementedAuditServiceServer{}))
	signetv1.RegisterApplicationServiceServer(s.server, either[signetv1.ApplicationServiceServer](
		c.Applications != nil, applications{domain: c.Applications, push: c.Push, serviceURL: c.ServiceURL}, signetv1.UnimplementedApplicationServiceServer{}))
	signetv1.RegisterUserServiceServer(s.server, either[signetv1.UserServiceServer](
		c.Applications != nil && c.Users != nil, users{domain: c.Users, applications: c.Applications}, signetv1.UnimplementedUserServiceServer{}))
}

// either is the service, or without its domain the generated one that has
// nothing.
func either[S any](have bool, service, nothing S) S {
	if have {
		return service
	}
	return nothing
}

// checkPrivileges wants a row for each method, and no row without a method.
func checkPrivileges(services map[string]grpc.ServiceInfo, table map[string]access.Set) error {
	methods := map[string]bool{}
	for name, info := range services {
		for _, m := range info.Methods {
			full := "/" + name + "/" + m.Name
			methods[full] = true
			if table[full] == 0 {
				return fmt.Errorf("grpc: method %s names no privilege", full)
			}
		}
	}
	for full := range table {
		if !methods[full] {
			return fmt.Errorf("grpc: there is no method %s", full)
		}
	}
	return nil
}

// Serve serves until ctx ends; then it says NOT_SERVING, lets running calls finish
// for a while, and returns nil. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.follow(ctx)
	polled := make(chan struct{})
	go func() {
		defer close(polled)
		s.followReadiness(ctx)
	}()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		s.stop()
	}()
	err := s.server.Serve(l)
	cancel()
	<-polled
	<-stopped
	if errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}

func (s *Server) stop() {
	s.health.Shutdown()
	s.drain()
	force := time.AfterFunc(drainWithin, s.server.Stop)
	defer force.Stop()
	s.server.GracefulStop()
}

func (s *Server) followReadiness(ctx context.Context) {
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.follow(ctx)
		}
	}
}

// follow sets what health answers, for the server as a whole and each service.
func (s *Server) follow(ctx context.Context) {
	status := healthpb.HealthCheckResponse_SERVING
	if s.c.Ready != nil && s.c.Ready(ctx) != nil {
		status = healthpb.HealthCheckResponse_NOT_SERVING
	}
	s.health.SetServingStatus("", status)
	for name := range s.server.GetServiceInfo() {
		if strings.HasPrefix(name, "signet.") {
			s.health.SetServingStatus(name, status)
		}
	}
}
