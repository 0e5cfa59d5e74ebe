package accesstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Provider issues tokens of one realm.
type Provider struct {
	Issuer   string
	Audience string
	Now      func() time.Time // nil: time.Now

	key jose.JSONWebKey
}

// New makes a Provider with a fresh key.
func New(issuer, audience string) (*Provider, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("accesstest: %w", err)
	}
	var kid [8]byte
	_, _ = rand.Read(kid[:]) // never fails
	return &Provider{
		Issuer: issuer, Audience: audience, Now: time.Now,
		key: jose.JSONWebKey{Key: key, KeyID: hex.EncodeToString(kid[:]), Algorithm: string(jose.ES256), Use: "sig"},
	}, nil
}

// JWKS returns the public key set document.
func (p *Provider) JWKS() ([]byte, error) {
	return json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{p.key.Public()}})
}

// Token issues a token for subject with the given realm roles.
func (p *Provider) Token(subject string, life time.Duration, roles ...string) (string, error) {
	now := p.Now()
	return p.Sign(map[string]any{
		"iss": p.Issuer, "aud": p.Audience, "sub": subject, "typ": "Bearer",
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(life).Unix(),
		"realm_access": map[string]any{"roles": roles},
	})
}

// Sign signs any claims, for tokens that have something wrong with them.
func (p *Provider) Sign(claims map[string]any) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: p.key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", fmt.Errorf("accesstest: %w", err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		return "", fmt.Errorf("accesstest: %w", err)
	}
	return token, nil
}
