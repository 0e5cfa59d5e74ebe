package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/internal/load"
	"github.com/signet-hsm/signet/signature"
)

var loadKinds = []string{"verify", "token", "otp", "issue"}

// loadSite is the installation that is driven, as its environment file tells of it.
type loadSite struct {
	env   map[string]string
	http  *http.Client
	conns []*grpc.ClientConn // none over REST
}

func openLoadSite(o loadOptions, kinds []string) (*loadSite, error) {
	s := &loadSite{}
	var err error
	if s.env, err = readEnv(o.env); err != nil {
		return nil, err
	}
	need := []string{"SIGNET_REST", "SIGNET_PA_APP", "SIGNET_PA_APP_ID", "SIGNET_PA_APP_KEY", "SIGNET_PA_APP_SECRET", "SIGNET_PA_MASTER_PUBLIC_KEY"}
	if o.api == "grpc" {
		need = append(need, "SIGNET_GRPC")
	}
	if slices.Contains(kinds, "otp") {
		need = append(need, "SIGNET_PA_ADMIN")
	}
	if slices.Contains(kinds, "issue") {
		need = append(need, "SIGNET_TENANT", "SIGNET_TOKEN_ADMIN_WRITE")
	}
	for _, key := range need {
		if s.get(key) == "" {
			return nil, fmt.Errorf("%s is missing, in the environment and in --env", key)
		}
	}
	at, err := url.Parse(s.get("SIGNET_REST"))
	if err != nil || at.Host == "" {
		return nil, errors.New("SIGNET_REST is no URL")
	}
	secured, err := o.tls()
	if err != nil {
		return nil, err
	}
	connections := o.connections
	if connections == 0 {
		connections = o.concurrency
	}
	s.http = &http.Client{Timeout: loadTimeout, Transport: &http.Transport{
		MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections, IdleConnTimeout: time.Minute, TLSClientConfig: secured,
	}}
	if o.api != "grpc" {
		return s, nil
	}
	with := insecure.NewCredentials()
	if at.Scheme == "https" {
		with = credentials.NewTLS(secured)
	}
	if connections = o.connections; connections == 0 {
		connections = min(8, o.concurrency)
	}
	for range connections {
		c, err := grpc.NewClient(s.get("SIGNET_GRPC"), grpc.WithTransportCredentials(with))
		if err != nil {
			s.close()
			return nil, err
		}
		s.conns = append(s.conns, c)
	}
	return s, nil
}

func (o loadOptions) tls() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.ca != "" {
		raw, err := os.ReadFile(o.ca)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("--ca: %s holds no certificate", o.ca)
		}
	}
	if o.cert != "" {
		pair, err := tls.LoadX509KeyPair(o.cert, o.key)
		if err != nil {
			return nil, fmt.Errorf("--cert: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

func (s *loadSite) close() {
	s.http.CloseIdleConnections()
	for _, c := range s.conns {
		_ = c.Close()
	}
}

func (s *loadSite) get(key string) string {
	if v := os.Getenv(key); v != "" {
		return v
	}
	return s.env[key]
}

// phone is a new one of the application.
func (s *loadSite) phone(path string) *phone {
	return &phone{
		REST: s.get("SIGNET_REST"), ApplicationKey: s.get("SIGNET_PA_APP_KEY"), ApplicationSecret: s.get("SIGNET_PA_APP_SECRET"),
		MasterPublicKey: s.get("SIGNET_PA_MASTER_PUBLIC_KEY"), path: path,
	}
}

func (s *loadSite) config(p *phone) powerauth.Config {
	c := p.config()
	c.HTTP, c.Version = s.http, signature.V33
	return c
}

// basic and bearer are the values of an Authorization header.
func basicLogin(login string) string  { return "Basic " + base64Text([]byte(login)) }
func bearerToken(token string) string { return "Bearer " + token }

// outgoing gives a gRPC call its credentials.
func outgoing(ctx context.Context, authorization string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", authorization)
}

// call sends JSON over REST and decodes the answer into res, which may be nil.
func (s *loadSite) call(ctx context.Context, authorization, method, path string, body, res any) error {
	var raw []byte
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, s.get("SIGNET_REST")+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Authorization", authorization)
	resp, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	switch {
	case resp.StatusCode/100 == 2 && res == nil:
		return nil
	case resp.StatusCode/100 == 2:
		return json.Unmarshal(answer, res)
	case resp.StatusCode == http.StatusTooManyRequests:
		return errTurnedAway
	case resp.StatusCode >= 500:
		return fmt.Errorf("%w: status %d", load.ErrRefused, resp.StatusCode)
	}
	return &restError{resp.StatusCode, strings.TrimSpace(string(answer))}
}

// restError is an answer that the caller has brought about.
type restError struct {
	status int
	body   string
}

func (e *restError) Error() string { return fmt.Sprintf("status %d: %s", e.status, e.body) }

// errTurnedAway is a refusal at the door: there was too much to do.
var errTurnedAway = fmt.Errorf("%w: too many calls", load.ErrRefused)

// notNow marks what a gRPC server says when it can not now.
func notNow(err error) error {
	switch status.Code(err) {
	case codes.ResourceExhausted:
		return errTurnedAway
	case codes.Unavailable, codes.DeadlineExceeded, codes.Internal:
		return fmt.Errorf("%w: %s", load.ErrRefused, status.Code(err))
	}
	return err
}
