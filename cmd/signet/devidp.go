package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	devIssuer   = "https://signet.invalid/realms/demo"
	devAudience = "signet"
	devTokenTTL = 30 * 24 * time.Hour
)

// devIDP stands in for the bank's identity provider: a key in the data folder,
// its public half as JWKS beside it, and the tokens that dev.env carries.
type devIDP struct {
	key      jose.JSONWebKey
	JWKSFile string
}

func openDevIDP(dir string) (*devIDP, error) {
	private, public := filepath.Join(dir, "idp-key.json"), filepath.Join(dir, "idp-jwks.json")
	var key jose.JSONWebKey
	raw, err := os.ReadFile(private)
	switch {
	case err == nil:
		if err := json.Unmarshal(raw, &key); err != nil {
			return nil, err
		}
	case errors.Is(err, fs.ErrNotExist):
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		key = jose.JSONWebKey{Key: k, KeyID: rand.Text(), Algorithm: string(jose.ES256), Use: "sig"}
		if err := writeJSON(private, key, 0o600); err != nil {
			return nil, err
		}
	default:
		return nil, err
	}
	if err := writeJSON(public, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}}, 0o644); err != nil {
		return nil, err
	}
	return &devIDP{key: key, JWKSFile: public}, nil
}

// token mints a bearer token with the given roles in the place where Keycloak
// puts them.
func (p *devIDP) token(now time.Time, roles ...string) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: p.key},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", err
	}
	return jwt.Signed(signer).Claims(jwt.Claims{
		Issuer:   devIssuer,
		Subject:  "signet-dev",
		Audience: jwt.Audience{devAudience},
		IssuedAt: jwt.NewNumericDate(now),
		Expiry:   jwt.NewNumericDate(now.Add(devTokenTTL)),
	}).Claims(map[string]any{"realm_access": map[string]any{"roles": roles}}).Serialize()
}

// writeJSON replaces a file as a whole, so that a crash leaves the old or the
// new one.
func writeJSON(path string, v any, mode os.FileMode) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return replaceFile(path, raw, mode)
}

func replaceFile(path string, content []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
