package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/signet-hsm/signet/benchmarks/site"
	"github.com/signet-hsm/signet/softhsm"
)

// server is one of the two, with a request that is new each time.
type server struct {
	name, url string
	client    *http.Client
	body      func() ([]byte, error)
	auth      string
	cpu       func() time.Duration // of its processes
}

// https measures both servers from the same client in turns.
func (b *bench) https() (err error) {
	ours, closeOurs, err := b.signet()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeOurs()) }()
	peer, closePeer, err := b.stepca()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closePeer()) }()
	counts := []int{1, 8, 32}
	if b.quick {
		counts = counts[1:2]
	}
	for _, s := range []*server{ours, peer} {
		if err := b.warm(func(int) error {
			body, err := s.body()
			if err != nil {
				return err
			}
			return s.post(b.ctx, body)
		}); err != nil {
			return err
		}
	}
	for round := range b.rounds {
		for _, callers := range counts {
			for _, s := range []*server{ours, peer} {
				if err := b.load(s, callers, fmt.Sprintf("IssueHTTPS/clients=%d/round=%d/%s", callers, round, s.name)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// load makes bodies beforehand (step-ca takes each one-time token once), enough for
// what it did in the last round and half as many again, and more when they run out.
func (b *bench) load(s *server, callers int, name string) error {
	const stock = 4096
	bodies := make([][]byte, stock)
	for i := range bodies {
		var err error
		if bodies[i], err = s.body(); err != nil {
			return err
		}
	}
	var next atomic.Int64
	return b.one(name, callers, s.cpu, func(int) error {
		i := next.Add(1) - 1
		if i < stock {
			return s.post(b.ctx, bodies[i])
		}
		body, err := s.body()
		if err != nil {
			return err
		}
		return s.post(b.ctx, body)
	})
}

func (s *server) post(ctx context.Context, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if s.auth != "" {
		req.Header.Set("Authorization", s.auth)
	}
	res, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusCreated {
		return fmt.Errorf("%s: status %d: %.300s", s.name, res.StatusCode, text)
	}
	return nil
}

func clientFor(roots *x509.CertPool) *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, MaxIdleConnsPerHost: 64, // HTTP/1.1 on both
	}}
}

func (b *bench) signet() (*server, func() error, error) {
	dir := filepath.Join(b.disk, "site")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	s, err := site.New(b.ctx, dir, filepath.Join(b.bin, "signet"), "")
	if err != nil {
		return nil, nil, err
	}
	fail := func(err error) (*server, func() error, error) { return nil, nil, errors.Join(err, s.Close()) }
	n, err := s.Serve(b.ctx)
	if err != nil {
		return fail(err)
	}
	bearer, err := s.Bearer("admin-read", "admin-write")
	if err != nil {
		return fail(err)
	}
	order, err := csr(&x509.CertificateRequest{})
	if err != nil {
		return fail(err)
	}
	body, err := json.Marshal(map[string]any{"csr": order, "user": "jane", "client": client})
	if err != nil {
		return fail(err)
	}
	ours := &server{
		name: "signet", url: "https://" + n.REST + "/v1/tenants/" + site.Tenant + "/certificates/admin", client: clientFor(s.Roots), cpu: servers(n.PID(), s.Cluster.PID()),
		auth: "Bearer " + bearer, body: func() ([]byte, error) { return body, nil },
	}
	signers := *ours
	signers.url = "https://" + n.REST + "/v2/tenants/" + site.Tenant + "/signers"
	if err := signers.post(b.ctx, []byte("{}")); err != nil {
		return fail(err)
	}
	return ours, s.Close, nil
}

func (b *bench) stepca() (*server, func() error, error) {
	dir := filepath.Join(b.disk, "stepca")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	st, err := softhsm.Create(b.ctx, filepath.Join(dir, "token"), "stepca")
	if err != nil {
		return nil, nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, nil, err
	}
	cmd := exec.CommandContext(b.ctx, filepath.Join(b.bin, "stepca"), "-dir", dir, "-listen", address,
		"-module", st.Module, "-token", st.Label, "-pin-file", filepath.Join(st.Dir, "pin"))
	cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+st.Conf)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	end := func() error {
		_ = cmd.Process.Signal(syscall.SIGINT)
		_ = cmd.Wait()
		return nil
	}
	var word string
	if _, err := fmt.Fscan(out, &word); err != nil || word != "ready" {
		_ = end()
		return nil, nil, fmt.Errorf("stepca said %q: %s", word, stderr.String())
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	s, err := stepClient(dir, address)
	if err != nil {
		return nil, nil, errors.Join(err, end())
	}
	s.cpu = servers(cmd.Process.Pid)
	return s, end, nil
}

// stepClient makes what `step ca certificate` sends: a request and a one-time token
// of the provisioner.
func stepClient(dir, address string) (*server, error) {
	root, err := os.ReadFile(filepath.Join(dir, "root.pem"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(root) {
		return nil, errors.New("root.pem holds no certificate")
	}
	raw, err := os.ReadFile(filepath.Join(dir, "provisioner.json"))
	if err != nil {
		return nil, err
	}
	var key jose.JSONWebKey
	if err := json.Unmarshal(raw, &key); err != nil {
		return nil, err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, err
	}
	const name = "device.example"
	order, err := csr(&x509.CertificateRequest{Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}})
	if err != nil {
		return nil, err
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: order}))
	url := "https://" + address + "/1.0/sign"
	return &server{name: "stepca", url: url, client: clientFor(roots), body: func() ([]byte, error) {
		now := time.Now()
		token, err := jwt.Signed(signer).Claims(jwt.Claims{
			Issuer: "bench", Subject: name, Audience: jwt.Audience{url}, ID: rand.Text(),
			NotBefore: jwt.NewNumericDate(now), IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(5 * time.Minute)),
		}).Claims(map[string]any{"sans": []string{name}}).Serialize()
		if err != nil {
			return nil, err
		}
		return json.Marshal(map[string]any{"csr": text, "ott": token})
	}}, nil
}
