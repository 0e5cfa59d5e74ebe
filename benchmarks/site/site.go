package site

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/signet-hsm/signet/internal/pgcluster"
	"github.com/signet-hsm/signet/softhsm"
)

const (
	issuer   = "https://idp.invalid/realms/demo"
	audience = "signet"

	// Tenant and App are what the bootstrap makes.
	Tenant = "demo"
	App    = "bank"
)

// Site is an installation.
type Site struct {
	Dir     string
	Roots   *x509.CertPool    // for the TLS of its nodes
	Env     map[string]string // what the bootstrap told
	Token   *softhsm.Token
	Cluster *pgcluster.Cluster

	program, config string
	key             *ecdsa.PrivateKey // of the identity provider
	nodes           []*Node
}

const config = `listen: {rest: 127.0.0.1:0, grpc: 127.0.0.1:0, ops: 127.0.0.1:0}
tls: {certificate: %[1]s/tls.pem, key: %[1]s/tls-key.pem}
database: {url: "%[2]s", password: {file: %[1]s/db-password}, max_conns: 16}
hsm: {module: %[3]s, token_label: site, pin: {file: %[1]s/token/pin}, env: {SOFTHSM2_CONF: %[4]s}}
ca: {issuer_chain: %[1]s/ca/issuer-chain.pem, lint_every: 100, verify_every: 100}
log: {level: info}
tenants:
  - {id: demo, issuer: "` + issuer + `", audience: ` + audience + `, jwks_file: %[1]s/jwks.json}
`

const plan = `name: site
root: {key: root, generation: 0, algorithm: P-384, subject: {common_name: Site root}, validity: 87600h}
issuer: {key: issuer, generation: 0, algorithm: P-256, subject: {common_name: Site issuer}, validity: 43800h}
`

// New makes an installation in dir with the given signet program; more is appended
// to its configuration.
func New(ctx context.Context, dir, program, more string) (_ *Site, err error) {
	s := &Site{Dir: dir, program: program, config: filepath.Join(dir, "signet.yaml")}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	s.Cluster, err = pgcluster.Start(ctx, pgcluster.Config{Dir: filepath.Join(dir, "pg"), Durable: true, Settings: map[string]string{
		"shared_buffers": "1GB", "max_wal_size": "8GB", "checkpoint_timeout": "30min",
	}})
	if err != nil {
		return s, err
	}
	if s.Token, err = softhsm.Create(ctx, filepath.Join(dir, "token"), "site"); err != nil {
		return s, err
	}
	u, err := url.Parse(s.Cluster.URL())
	if err != nil {
		return s, err
	}
	password, _ := u.User.Password()
	u.User = url.User(u.User.Username())
	if err := errors.Join(
		s.write("db-password", []byte(password)), s.write("plan.yaml", []byte(plan)), s.identityProvider(), s.certificate(),
		s.write("signet.yaml", fmt.Appendf(nil, config, dir, u, s.Token.Module, s.Token.Conf)),
	); err != nil {
		return s, err
	}
	if more != "" {
		text, err := os.ReadFile(s.config)
		if err != nil {
			return s, err
		}
		if err := s.write("signet.yaml", append(text, more...)); err != nil {
			return s, err
		}
	}
	for _, args := range [][]string{
		{"migrate"},
		{"ceremony", "--plan", s.path("plan.yaml"), "--out", s.path("ca")},
		{"bootstrap", "--tenant", Tenant, "--app", App, "--out", s.path("env")},
	} {
		out, err := exec.CommandContext(ctx, program, append(args, "-c", s.config)...).CombinedOutput()
		if err != nil {
			return s, fmt.Errorf("signet %s: %w: %s", args[0], err, out)
		}
	}
	s.Env, err = s.readEnv()
	return s, err
}

// Configure replaces a part of the configuration that is there once.
func (s *Site) Configure(with, instead string) error {
	text, err := os.ReadFile(s.config)
	if err != nil {
		return err
	}
	if strings.Count(string(text), instead) != 1 {
		return fmt.Errorf("%q is not there once", instead)
	}
	return s.write("signet.yaml", []byte(strings.Replace(string(text), instead, with, 1)))
}

func (s *Site) path(name string) string { return filepath.Join(s.Dir, name) }

func (s *Site) write(name string, b []byte) error { return os.WriteFile(s.path(name), b, 0o600) }

func (s *Site) readEnv() (map[string]string, error) {
	f, err := os.Open(s.path("env"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	env := map[string]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), "="); ok {
			env[strings.TrimPrefix(name, "export ")] = strings.Trim(value, `'"`)
		}
	}
	return env, nil
}

// identityProvider stands in for the bank's.
func (s *Site) identityProvider() (err error) {
	if s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	raw, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: s.key.Public(), KeyID: "bench", Algorithm: string(jose.ES256), Use: "sig"}}})
	if err != nil {
		return err
	}
	return s.write("jwks.json", raw)
}

// Bearer is a token with the roles, good for an hour.
func (s *Site) Bearer(roles ...string) (string, error) {
	key := jose.JSONWebKey{Key: s.key, KeyID: "bench", Algorithm: string(jose.ES256)}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", err
	}
	now := time.Now()
	return jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: issuer, Subject: "bench", Audience: jwt.Audience{audience}, IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(time.Hour)),
	}).Claims(map[string]any{"realm_access": map[string]any{"roles": roles}}).Serialize()
}

// certificate makes the nodes' TLS certificate, P-256, signed by itself.
func (s *Site) certificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	s.Roots = x509.NewCertPool()
	s.Roots.AddCert(cert)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		s.write("tls.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		s.write("tls-key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})))
}

// Node is one running `signet serve`.
type Node struct {
	REST, GRPC, Ops string        // host:port
	Ready           time.Duration // from its start to its word that it serves
	cmd             *exec.Cmd
}

// Serve starts a node and waits until it serves.
func (s *Site) Serve(ctx context.Context) (*Node, error) {
	n := &Node{cmd: exec.CommandContext(ctx, s.program, "serve", "-c", s.config)}
	n.cmd.Cancel = func() error { return n.cmd.Process.Signal(syscall.SIGINT) }
	n.cmd.WaitDelay = 20 * time.Second
	stderr, err := n.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	s.nodes = append(s.nodes, n)
	lines := bufio.NewScanner(stderr)
	var said strings.Builder
	for lines.Scan() {
		var told struct{ Msg, Rest, GRPC, Ops string }
		if json.Unmarshal(lines.Bytes(), &told) == nil && told.Msg == "serving" {
			n.Ready = time.Since(began)
			n.REST, n.GRPC, n.Ops = told.Rest, told.GRPC, told.Ops
			go func() { // ends with the process
				for lines.Scan() {
				}
			}()
			return n, nil
		}
		said.WriteString(lines.Text() + "\n")
	}
	return nil, fmt.Errorf("signet serve ended: %s", said.String())
}

// PID is the node's process.
func (n *Node) PID() int { return n.cmd.Process.Pid }

// RSS is the node's resident memory in bytes.
func (n *Node) RSS() (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(string(raw), "\n") {
		var kib int64
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			return kib << 10, nil
		}
	}
	return 0, errors.New("no VmRSS")
}

// Stop ends the node in order.
func (n *Node) Stop() error {
	if err := n.cmd.Process.Signal(syscall.SIGINT); err != nil {
		return nil //nolint:nilerr // it has ended
	}
	return n.cmd.Wait()
}

// Close ends the nodes and the cluster.
func (s *Site) Close() error {
	var all error
	for _, n := range s.nodes {
		if n.cmd.ProcessState == nil {
			all = errors.Join(all, n.Stop())
		}
	}
	if s.Cluster != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		all = errors.Join(all, s.Cluster.Stop(ctx))
	}
	return all
}
