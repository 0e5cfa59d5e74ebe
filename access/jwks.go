package access

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/fault"
)

// keySet holds the verification keys of one realm. The key set that comes with
// go-oidc is not used: it fetches again for every token whose signature fails,
// reads without a limit, and can not tell an outage from a bad token.
type keySet struct {
	source  func(context.Context) ([]byte, error)
	now     func() time.Time
	log     *slog.Logger
	results *prometheus.CounterVec

	mu      sync.Mutex // guards what follows; never held during a fetch
	keys    map[string]verifier
	fetched time.Time     // of the last good fetch
	tried   time.Time     // of the last fetch
	failed  error         // of the last fetch
	flight  chan struct{} // closed when the running fetch ends; nil when none runs
}

// verifier is a public key and the algorithms it may be used with, so that a
// token can not choose another one for it.
type verifier struct {
	key  any
	algs []jose.SignatureAlgorithm
}

var errUnknownKey = errors.New("no such key in the realm's JWKS")

// verifier finds the key named kid. An unknown kid makes one fetch, at most every
// keysCooldown whatever tokens arrive; when that fetch failed there is no verdict
// and the answer is fault.ErrUnavailable.
func (s *keySet) verifier(ctx context.Context, kid string) (verifier, error) {
	s.mu.Lock()
	v, ok := s.usable(kid)
	if ok && s.now().Sub(s.fetched) < keysFresh {
		s.mu.Unlock()
		return v, nil
	}
	flight := s.fetch()
	s.mu.Unlock()
	if ok {
		return v, nil // the fetch goes on without us
	}
	if flight != nil {
		select {
		case <-flight:
		case <-ctx.Done():
			return verifier{}, fmt.Errorf("waiting for the JWKS: %w: %w", fault.ErrUnavailable, ctx.Err())
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.usable(kid); ok {
		return v, nil
	}
	if s.failed != nil {
		return verifier{}, fmt.Errorf("JWKS: %w: %w", fault.ErrUnavailable, s.failed)
	}
	return verifier{}, errUnknownKey
}

// usable needs mu.
func (s *keySet) usable(kid string) (verifier, bool) {
	if s.now().Sub(s.fetched) >= keysStale {
		return verifier{}, false
	}
	v, ok := s.keys[kid]
	return v, ok
}

// fetch needs mu. It starts a fetch unless one runs or was just done, and returns
// the channel that ends it. The goroutine ends within keysTimeout.
func (s *keySet) fetch() <-chan struct{} {
	if s.flight != nil {
		return s.flight
	}
	if s.now().Sub(s.tried) < keysCooldown {
		return nil
	}
	s.tried = s.now()
	flight := make(chan struct{})
	s.flight = flight
	go func() {
		defer close(flight)
		_ = s.refreshNow() // kept in s.failed
		s.mu.Lock()
		s.flight = nil
		s.mu.Unlock()
	}()
	return flight
}

// refreshNow reads the source and takes over its keys. After an error the former
// keys stay.
func (s *keySet) refreshNow() error {
	ctx, cancel := context.WithTimeout(context.Background(), keysTimeout)
	defer cancel()
	var keys map[string]verifier
	doc, err := s.source(ctx)
	if err == nil {
		keys, err = parseJWKS(doc)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried, s.failed = s.now(), err
	if err != nil {
		s.results.WithLabelValues("jwks", "failed").Inc()
		s.log.Warn("JWKS not read, former keys stay", "keys", len(s.keys), "error", err.Error())
		return err
	}
	s.results.WithLabelValues("jwks", "ok").Inc()
	s.keys, s.fetched = keys, s.tried
	return nil
}

// source reads the realm's document, at most maxJWKS bytes of it.
func source(r Realm, client *http.Client) func(context.Context) ([]byte, error) {
	if r.JWKSFile != "" {
		return func(context.Context) ([]byte, error) {
			f, err := os.Open(r.JWKSFile)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			return readLimited(f)
		}
	}
	return func(ctx context.Context) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.JWKSURL, nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Accept", "application/json, application/jwk-set+json")
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("GET %s: %s", r.JWKSURL, resp.Status)
		}
		return readLimited(resp.Body)
	}
}

func readLimited(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxJWKS+1))
	if err == nil && len(b) > maxJWKS {
		err = fmt.Errorf("JWKS of more than %d bytes", maxJWKS)
	}
	return b, err
}

// parseJWKS keeps the signature keys of kinds we accept. As RFC 7517 section 5
// wants, members of other kinds are passed over; a kid used twice and a set
// without a usable key are errors.
func parseJWKS(doc []byte) (map[string]verifier, error) {
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if err := json.Unmarshal(doc, &set); err != nil {
		return nil, fmt.Errorf("JWKS: %w", err)
	}
	keys := map[string]verifier{}
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if err := k.UnmarshalJSON(raw); err != nil || k.KeyID == "" || k.Use != "" && k.Use != "sig" {
			continue
		}
		algs := algorithms(k)
		if len(algs) == 0 {
			continue
		}
		if _, twice := keys[k.KeyID]; twice {
			return nil, fmt.Errorf("JWKS: kid %q is used twice", k.KeyID)
		}
		keys[k.KeyID] = verifier{key: k.Key, algs: algs}
	}
	if len(keys) == 0 {
		return nil, errors.New("JWKS: no usable signature key")
	}
	return keys, nil
}

// accepted lists the algorithms of bearer tokens: asymmetric ones only, so that
// no public key can be taken for an HMAC secret.
var accepted = []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256, jose.ES384, jose.EdDSA}

func algorithms(k jose.JSONWebKey) []jose.SignatureAlgorithm {
	var algs []jose.SignatureAlgorithm
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() >= minRSABits {
			algs = []jose.SignatureAlgorithm{jose.RS256, jose.PS256}
		}
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			algs = []jose.SignatureAlgorithm{jose.ES256}
		case elliptic.P384():
			algs = []jose.SignatureAlgorithm{jose.ES384}
		}
	case ed25519.PublicKey:
		algs = []jose.SignatureAlgorithm{jose.EdDSA}
	}
	if k.Algorithm == "" {
		return algs
	}
	return slices.DeleteFunc(algs, func(a jose.SignatureAlgorithm) bool { return string(a) != k.Algorithm })
}
