package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/conf"
	"github.com/signet-hsm/signet/internal/obs"
	"github.com/signet-hsm/signet/operation"
	"github.com/signet-hsm/signet/push"
	"github.com/signet-hsm/signet/tenant"
)

// Config is signet.yaml. Every field stands here with what it means and its
// default; an unknown field refuses to start. Secrets are named, not written:
// they come from a file, a file descriptor, a systemd credential or the terminal.
type Config struct {
	ServiceURL string          `yaml:"service_url"` // where phones find the service, told with an application; empty: the REST listener
	Listen     ListenConfig    `yaml:"listen"`
	TLS        *TLSConfig      `yaml:"tls"` // may be left out only when all listeners are on loopback
	Database   DatabaseConfig  `yaml:"database"`
	HSM        HSMConfig       `yaml:"hsm"`
	CA         CAConfig        `yaml:"ca"`
	PKI        PKIConfig       `yaml:"pki"`
	Tenants    []TenantConfig  `yaml:"tenants"` // at least one
	Push       PushConfig      `yaml:"push"`
	Callbacks  CallbackConfig  `yaml:"callbacks"`
	PowerAuth  PowerAuthConfig `yaml:"powerauth"`
	Rollback   RollbackConfig  `yaml:"rollback"`
	Runtime    RuntimeConfig   `yaml:"runtime"`
	Log        LogConfig       `yaml:"log"`
}

// ListenConfig names the addresses, each host:port.
type ListenConfig struct {
	REST string `yaml:"rest"` // REST of both dialects and the device endpoints
	GRPC string `yaml:"grpc"` // gRPC signet.v1
	Ops  string `yaml:"ops"`  // /livez /readyz /metrics; empty = beside REST
	PKI  string `yaml:"pki"`  // CRLs, OCSP and issuers' certificates, for everybody, plain HTTP; empty = not on this node

	TrustedProxies []string        `yaml:"trusted_proxies"` // prefixes whose X-Forwarded-For is believed; empty = none
	RateLimit      RateLimitConfig `yaml:"rate_limit"`      // of each address at the phones' endpoints and at renewals

	Concurrency ConcurrencyConfig `yaml:"concurrency"`  // of calls with credentials
	MaxDeadline conf.Duration     `yaml:"max_deadline"` // of one call, whatever deadline it brings, 1s to 5m; 0 = 30s for gRPC, 10s for REST
	H2C         bool              `yaml:"h2c"`          // REST also over HTTP/2 without TLS, for a proxy on this machine; not with tls
}

// ConcurrencyConfig bounds the calls at work at once, REST and gRPC together; what is
// above it is 429 or RESOURCE_EXHAUSTED.
type ConcurrencyConfig struct {
	PerCredential int `yaml:"per_credential"` // 0 = 4096
	Total         int `yaml:"total"`          // a credential below its share still gets in; 0 = 16384
}

// RollbackConfig is how a database that was set back in time is found out.
type RollbackConfig struct {
	// Mark is a file of this node alone, in a folder that exists, on a disk that is
	// not restored together with the database; empty: nothing is found out.
	Mark string `yaml:"mark"`
}

// RuntimeConfig is how the Go runtime collects garbage. GOGC and GOMEMLIMIT of the
// environment win over it.
type RuntimeConfig struct {
	GCPercent      int `yaml:"gc_percent"`       // how much may grow before a collection; 0 = 400
	MemoryLimitMiB int `yaml:"memory_limit_mib"` // near it collections come more often; 0 = nine tenths of the control group's limit, without one none
}

// RateLimitConfig bounds what one address may ask of the phones' endpoints and
// of the renewal of certificates; what is above it is 429.
type RateLimitConfig struct {
	PerSecond float64 `yaml:"per_second"` // on average; 0 = no bound
	Burst     int     `yaml:"burst"`      // at once after a pause; 0 = what per_second allows in 10 s
}

// TLSConfig applies to both API listeners.
type TLSConfig struct {
	Certificate string `yaml:"certificate"` // PEM chain, leaf first
	Key         string `yaml:"key"`         // PEM, readable by the owner only
	ClientCA    string `yaml:"client_ca"`   // PEM; gRPC callers must show a certificate below it (mTLS)
}

// DatabaseConfig points to an external PostgreSQL.
type DatabaseConfig struct {
	URL      string             `yaml:"url"`       // postgres://user@host/db?sslmode=verify-full; must not hold a password
	Password *conf.SecretSource `yaml:"password"`  // left out for peer or certificate authentication
	MaxConns int                `yaml:"max_conns"` // 0 = 4 per CPU, at least 8
}

// HSMConfig names the token.
type HSMConfig struct {
	Module      string            `yaml:"module"`       // path of the PKCS#11 library
	Env         map[string]string `yaml:"env"`          // environment the library reads, e.g. SOFTHSM2_CONF
	InitArgs    string            `yaml:"init_args"`    // what C_Initialize gets in pReserved; only NSS wants it
	Accept      []string          `yaml:"accept"`       // key rules that this module can not keep: LOCAL, ENCRYPT, DECRYPT (docs/hsm-modules.md)
	TokenLabel  string            `yaml:"token_label"`  // exactly one token must carry it
	TokenSerial string            `yaml:"token_serial"` // optional second check
	PIN         conf.SecretSource `yaml:"pin"`
	Lanes       int               `yaml:"lanes"` // logged-in sessions; 0 = 2 per CPU

	Instances     int           `yaml:"instances"`      // copies of the module in the process; 0 = 1
	SessionCopies string        `yaml:"session_copies"` // off or auto; see docs/hsm.md
	Hang          conf.Duration `yaml:"hang"`           // a call in the module that takes longer never ends: its worker is killed; 0 = 5s, without workers 10s
	KeepAlive     conf.Duration `yaml:"keep_alive"`     // how long a session may be idle; 0 = 30s, negative for ever
	Failover      []TokenConfig `yaml:"failover"`       // further tokens with the same keys

	Isolation string          `yaml:"isolation"` // process (default): the module runs in worker processes; none: in this one
	Workers   int             `yaml:"workers"`   // worker processes that use keys; 0 = one per CPU
	Worker    HSMWorkerConfig `yaml:"worker"`

	KEK string `yaml:"kek"` // label of the key-encryption key; empty = signet/1/_system/kek/main/0
}

// TokenConfig is a further token of the failover group.
type TokenConfig struct {
	Name        string            `yaml:"name"` // for logs and metrics
	Module      string            `yaml:"module"`
	Env         map[string]string `yaml:"env"`
	TokenLabel  string            `yaml:"token_label"`
	TokenSerial string            `yaml:"token_serial"`
	PIN         conf.SecretSource `yaml:"pin"`
}

// HSMWorkerConfig says how worker processes are kept.
type HSMWorkerConfig struct {
	User        string `yaml:"user"`         // whom they run as, when signet is root; empty = as root without capabilities
	Network     bool   `yaml:"network"`      // they may use the network, as the module of an HSM on the network needs
	MemoryLimit int    `yaml:"memory_limit"` // MiB; a worker that grows above it is replaced; 0 = 512
}

// TenantConfig is one realm.
type TenantConfig struct {
	ID       string `yaml:"id"`
	Issuer   string `yaml:"issuer"`    // iss of its tokens
	Audience string `yaml:"audience"`  // aud its tokens must carry
	JWKSFile string `yaml:"jwks_file"` // exactly one of the two
	JWKSURL  string `yaml:"jwks_url"`
}

// PushConfig says where pushes go.
type PushConfig struct {
	Record         string        `yaml:"record"`          // a file that takes every push instead of the providers; for development
	InboxRetention conf.Duration `yaml:"inbox_retention"` // how long inbox messages are kept, 24h or more; 0 = 2160h
}

// CallbackConfig says where webhooks may go.
type CallbackConfig struct {
	Allow     []string `yaml:"allow"`      // prefixes that are not public and may be called all the same, e.g. 10.1.0.0/16
	AllowHTTP bool     `yaml:"allow_http"` // endpoints without TLS; for development
}

// PowerAuthConfig is what only PowerAuth phones need.
type PowerAuthConfig struct {
	MaxTokens          int           `yaml:"max_tokens"`          // of one registration; 0 = 100
	RegistrationCache  int64         `yaml:"registration_cache"`  // bytes of registrations held ready; 0 = 64 MiB
	TokenCache         int64         `yaml:"token_cache"`         // bytes of tokens held ready; 0 = 32 MiB
	OperationRetention conf.Duration `yaml:"operation_retention"` // how long finished operations are kept, 24h or more; 0 = for ever

	CustomActivation CustomActivationConfig `yaml:"custom_activation"`
}

// CustomActivationConfig names services of a bank that say who activates, for
// activations of type CUSTOM; an application without one takes codes only.
type CustomActivationConfig struct {
	Endpoints []IdentityConfig `yaml:"endpoints"`
	Allow     []string         `yaml:"allow"`      // prefixes that are not public and may be called all the same, e.g. 10.1.0.0/16
	AllowHTTP bool             `yaml:"allow_http"` // endpoints without TLS; for development
	Timeout   conf.Duration    `yaml:"timeout"`    // of one call; 0 = 5s
}

// IdentityConfig is the service of one application.
type IdentityConfig struct {
	Tenant string            `yaml:"tenant"`
	App    string            `yaml:"app"`
	URL    string            `yaml:"url"`    // https
	Secret conf.SecretSource `yaml:"secret"` // "whsec_" and Base64 of 24 to 64 bytes; signs our requests
	Commit bool              `yaml:"commit"` // its registrations are ACTIVE at once; else they wait for their commit
}

// LogConfig is how to log, to standard error.
type LogConfig struct {
	Level  string `yaml:"level"`  // debug, info (default), warn, error
	Format string `yaml:"format"` // json (default), text
}

const (
	defaultKEK    = "signet/1/_system/kek/main/0"
	defaultIssuer = "signet/1/_system/issuer/issuer/0"
)

func (c *Config) kekRef() (hsm.Ref, error)      { return labelOr(c.HSM.KEK, defaultKEK) }
func (c *CAConfig) issuerRef() (hsm.Ref, error) { return labelOr(c.IssuerKey, defaultIssuer) }

func labelOr(label, fallback string) (hsm.Ref, error) {
	if label == "" {
		label = fallback
	}
	return hsm.ParseRef(label)
}

// Validate reports everything that is wrong with c, without looking outside it.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }

	loopback := true
	for _, l := range []struct {
		name, addr string
		optional   bool
	}{{"listen.rest", c.Listen.REST, false}, {"listen.grpc", c.Listen.GRPC, false}, {"listen.ops", c.Listen.Ops, true}, {"listen.pki", c.Listen.PKI, true}} {
		if l.addr == "" && l.optional {
			continue
		}
		host, _, err := net.SplitHostPort(l.addr)
		if err != nil {
			bad("%s: %q is not host:port", l.name, l.addr)
			continue
		}
		if ip := net.ParseIP(host); l.name != "listen.ops" && l.name != "listen.pki" && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			loopback = false
		}
	}
	if u, err := url.Parse(c.ServiceURL); c.ServiceURL != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
		bad("service_url: %q is not an http or https URL", c.ServiceURL)
	}
	if c.Listen.Ops == "" && !loopback {
		bad("listen.ops: needed, since REST is reachable from outside this machine and metrics are not for everyone")
	}
	switch {
	case c.TLS == nil && !loopback:
		bad("tls: needed, since a listener is reachable from outside this machine")
	case c.TLS != nil && (c.TLS.Certificate == "" || c.TLS.Key == ""):
		bad("tls: certificate and key are both needed")
	case c.TLS != nil && c.TLS.ClientCA == "" && !loopback:
		bad("tls.client_ca: needed, since gRPC callers prove themselves by certificate")
	}

	if u, err := url.Parse(c.Database.URL); err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		bad("database.url: a postgres:// URL is needed") // the URL is not repeated: it may hold a password
	} else if _, has := u.User.Password(); has || u.Query().Has("password") {
		bad("database.url: must not hold a password; use database.password")
	} else if !localDatabase(u) && u.Query().Get("sslmode") != "verify-full" {
		bad("database.url: sslmode=verify-full is needed to a server on another machine")
	}
	if c.Database.MaxConns < 0 {
		bad("database.max_conns: must not be negative")
	}

	if c.HSM.Module == "" {
		bad("hsm.module: the path of the PKCS#11 library is needed")
	}
	if c.HSM.TokenLabel == "" && c.HSM.TokenSerial == "" {
		bad("hsm.token_label: a label or a serial is needed")
	}
	if err := c.HSM.PIN.Validate(); err != nil {
		bad("hsm.pin: %w", err)
	}
	if c.HSM.Lanes < 0 {
		bad("hsm.lanes: must not be negative")
	}
	c.HSM.validate(bad)
	if _, err := c.kekRef(); err != nil {
		bad("hsm.kek: %w", err)
	}
	c.CA.validate(bad)
	c.PKI.validate(bad, c.Listen.PKI)
	if r := c.Listen.RateLimit; r.PerSecond < 0 || r.Burst < 0 {
		bad("listen.rate_limit: must not be negative")
	}
	if l := c.Listen.Concurrency; l.PerCredential < 0 || l.Total < 0 {
		bad("listen.concurrency: must not be negative")
	}
	if d := c.Listen.MaxDeadline.Std(); d != 0 && (d < time.Second || d > 5*time.Minute) {
		bad("listen.max_deadline: must be 0 or from 1s to 5m")
	}
	if c.Listen.H2C && c.TLS != nil {
		bad("listen.h2c: not with tls, where HTTP/2 is agreed in the handshake")
	}
	if c.Runtime.GCPercent < 0 || c.Runtime.MemoryLimitMiB < 0 {
		bad("runtime: must not be negative")
	}
	if c.PowerAuth.MaxTokens < 0 {
		bad("powerauth.max_tokens: must not be negative")
	}
	if c.PowerAuth.RegistrationCache < 0 || c.PowerAuth.TokenCache < 0 {
		bad("powerauth.registration_cache, token_cache: must not be negative")
	}
	if d := c.PowerAuth.OperationRetention.Std(); d != 0 && d < operation.MinRetention {
		bad("powerauth.operation_retention: must be 0 or at least %s", operation.MinRetention)
	}
	if d := c.Push.InboxRetention.Std(); d != 0 && d < push.MinRetention {
		bad("push.inbox_retention: must be 0 or at least %s", push.MinRetention)
	}
	if c.Database.Password != nil {
		if err := c.Database.Password.Validate(); err != nil {
			bad("database.password: %w", err)
		}
	}

	if len(c.Tenants) == 0 {
		bad("tenants: at least one is needed")
	}
	seen := map[string]bool{}
	if o := c.CA.OperatorTenant; o != "" && !slices.ContainsFunc(c.Tenants, func(t TenantConfig) bool { return t.ID == o }) {
		bad("ca.operator_tenant: %q is none of the tenants", o)
	}
	for i, t := range c.Tenants {
		at := fmt.Sprintf("tenants[%d]", i)
		if _, err := tenant.Parse(t.ID); err != nil {
			bad("%s.id: %w", at, err)
		}
		for _, k := range []string{"id " + t.ID, "issuer " + t.Issuer} {
			if seen[k] {
				bad("%s: %s is used twice", at, k)
			}
			seen[k] = true
		}
		if t.Issuer == "" || t.Audience == "" {
			bad("%s: issuer and audience are needed", at)
		}
		if (t.JWKSFile == "") == (t.JWKSURL == "") {
			bad("%s: exactly one of jwks_file and jwks_url is needed", at)
		}
	}
	for _, l := range []struct {
		name string
		list []string
	}{
		{"listen.trusted_proxies", c.Listen.TrustedProxies},
		{"callbacks.allow", c.Callbacks.Allow},
		{"powerauth.custom_activation.allow", c.PowerAuth.CustomActivation.Allow},
	} {
		for i, s := range l.list {
			if _, err := netip.ParsePrefix(s); err != nil {
				bad("%s[%d]: %q is not a prefix such as 10.1.0.0/16", l.name, i, s)
			}
		}
	}
	for i, e := range c.PowerAuth.CustomActivation.Endpoints {
		at := fmt.Sprintf("powerauth.custom_activation.endpoints[%d]", i)
		if !seen["id "+e.Tenant] {
			bad("%s.tenant: %q is none of the tenants", at, e.Tenant)
		}
		if e.App == "" || e.URL == "" {
			bad("%s: app and url are needed", at)
		}
		if err := e.Secret.Validate(); err != nil {
			bad("%s.secret: %w", at, err)
		}
	}
	if c.PowerAuth.CustomActivation.Timeout < 0 {
		bad("powerauth.custom_activation.timeout: must not be negative")
	}
	if err := (obs.Log{Level: c.Log.Level, Format: c.Log.Format}).Validate(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// localDatabase reports whether no network lies between us and the server.
func localDatabase(u *url.URL) bool {
	host := u.Hostname()
	if h := u.Query().Get("host"); h != "" {
		host = h
	}
	ip := net.ParseIP(host)
	return host == "" || strings.HasPrefix(host, "/") || host == "localhost" || ip != nil && ip.IsLoopback()
}

// checkFiles reports files that Validate could only see the names of.
func (c *Config) checkFiles() error {
	var errs []error
	files := append([]string{c.HSM.Module, c.CA.IssuerChain}, c.CA.BlockedKeys...)
	if c.CA.Profiles != "" {
		files = append(files, c.CA.Profiles)
	}
	for _, t := range c.HSM.Failover {
		files = append(files, t.Module)
	}
	for _, o := range c.CA.OtherIssuers {
		files = append(files, o.Chain)
	}
	if c.TLS != nil {
		files = append(files, c.TLS.Certificate, c.TLS.Key)
		if c.TLS.ClientCA != "" {
			files = append(files, c.TLS.ClientCA)
		}
	}
	for _, t := range c.Tenants {
		if t.JWKSFile != "" {
			files = append(files, t.JWKSFile)
		}
	}
	if c.Rollback.Mark != "" { // the file is made by the node
		files = append(files, filepath.Dir(c.Rollback.Mark))
	}
	for _, f := range files {
		if _, err := os.Stat(f); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		_, _, err := c.CA.profiles()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func loadConfig(path string) (Config, error) {
	c, err := conf.Load[Config](path)
	if err != nil {
		return Config{}, err
	}
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("%s:\n  %s", path, strings.ReplaceAll(err.Error(), "\n", "\n  "))
	}
	return c, nil
}
