package main

import (
	"fmt"
	"net"
	"time"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/profile"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/conf"
)

// CAConfig names the issuer and says how signers and their certificates are made.
type CAConfig struct {
	IssuerChain     string        `yaml:"issuer_chain"`     // PEM, issuer first, then up to the root; a ceremony's output
	IssuerKey       string        `yaml:"issuer_key"`       // label; empty = signet/1/_system/issuer/issuer/0
	SignerAlgorithm string        `yaml:"signer_algorithm"` // P-256 (default), P-384, RSA-3072, Ed25519
	Profiles        string        `yaml:"profiles"`         // YAML, see docs/profiles.example.yaml; empty = the built-in ones
	BlockedKeys     []string      `yaml:"blocked_keys"`     // files of public keys that are never certified
	LintEvery       int           `yaml:"lint_every"`       // one in so many leaf certificates is linted in full, the others by compiled checks; 0 = every one
	VerifyEvery     int           `yaml:"verify_every"`     // one in so many new signatures on leaf certificates is verified; 0 = every one
	CRLShards       int           `yaml:"crl_shards"`       // CRLs of a new signer; 0 = 1, which every verifier understands
	CRLKey          string        `yaml:"crl_key"`          // who signs CRLs: issuer (default), the CA's own key; own, another of its own, which not every verifier finds
	RotateAfter     conf.Duration `yaml:"rotate_after"`     // age at which a signer is replaced by itself, 1h or more; 0 = never
	RenewGrace      conf.Duration `yaml:"renew_grace"`      // how long after its end a device's certificate still entitles to a new one; 0 = not at all

	RenewLimit int `yaml:"renew_limit"` // renewals of one client in an hour; 0 = 20

	OperatorTenant string `yaml:"operator_tenant"` // whose admin-write may renew all tenants' signers over gRPC; empty = nobody's

	OtherIssuers []OtherIssuerConfig `yaml:"other_issuers"` // before and after a change of the issuer, see docs/ca.md
}

// OtherIssuerConfig is an issuer that certifies no signers here.
type OtherIssuerConfig struct {
	Chain string `yaml:"chain"` // PEM, as issuer_chain
	Key   string `yaml:"key"`   // label of its key, which goes on signing its CRL and OCSP; empty = not in this token
}

// PKIConfig says where verifiers find revocation data.
type PKIConfig struct {
	URL          string        `yaml:"url"`           // http address in certificates, below which listen.pki is reached; empty = none in them
	MaxAge       conf.Duration `yaml:"max_age"`       // how long caches may keep an answer; 0 = 5m
	CRLValidity  conf.Duration `yaml:"crl_validity"`  // 0 = 48h
	OCSPValidity conf.Duration `yaml:"ocsp_validity"` // 0 = 24h
}

// The values of ca.crl_key.
const (
	crlKeyIssuer = "issuer"
	crlKeyOwn    = "own"
)

// defaultMaxAge bounds how much a cache on the way delays a revocation.
const defaultMaxAge = 5 * time.Minute

func (c *PKIConfig) maxAge() time.Duration {
	if d := c.MaxAge.Std(); d != 0 {
		return d
	}
	return defaultMaxAge
}

func (c *CAConfig) validate(bad func(string, ...any)) {
	if c.IssuerChain == "" {
		bad("ca.issuer_chain: the PEM file of the issuer and its root is needed; `signet ceremony` writes it")
	}
	if _, err := c.issuerRef(); err != nil {
		bad("ca.issuer_key: %w", err)
	}
	switch hsm.Algorithm(c.SignerAlgorithm) {
	case "", hsm.P256, hsm.P384, hsm.RSA3072, hsm.Ed25519:
	default:
		bad("ca.signer_algorithm: %q is none of P-256, P-384, RSA-3072, Ed25519", c.SignerAlgorithm)
	}
	for i, o := range c.OtherIssuers {
		if o.Chain == "" {
			bad("ca.other_issuers[%d].chain: a PEM file is needed", i)
		}
		if o.Key != "" {
			if _, err := hsm.ParseRef(o.Key); err != nil {
				bad("ca.other_issuers[%d].key: %w", i, err)
			}
		}
	}
	if c.LintEvery < 0 || c.VerifyEvery < 0 {
		bad("ca.lint_every, ca.verify_every: must not be negative")
	}
	if c.CRLShards < 0 || c.CRLShards > revocation.MaxShards {
		bad("ca.crl_shards: must be 1..%d", revocation.MaxShards)
	}
	switch c.CRLKey {
	case "", crlKeyIssuer, crlKeyOwn:
	default:
		bad("ca.crl_key: %q is none of issuer, own", c.CRLKey)
	}
	if d := c.RotateAfter.Std(); d != 0 && d < time.Hour {
		bad("ca.rotate_after: must be 0 or at least 1h")
	}
	if d := c.RenewGrace.Std(); d < 0 || d > 90*24*time.Hour {
		bad("ca.renew_grace: must be 0..2160h")
	}
	if c.RenewLimit < 0 {
		bad("ca.renew_limit: must not be negative")
	}
}

func (c *PKIConfig) validate(bad func(string, ...any), listen string) {
	if c.URL == "" {
		host, _, err := net.SplitHostPort(listen)
		if ip := net.ParseIP(host); err == nil && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			bad("pki.url: needed with listen.pki, since it stands in the certificates")
		}
	} else if !revocation.ValidBase(c.URL) {
		bad("pki.url: %q is not an http URL without a slash at its end; revocation data is signed, and its address must not need itself", c.URL)
	}
	for name, d := range map[string]time.Duration{
		"max_age": c.MaxAge.Std(), "crl_validity": c.CRLValidity.Std(), "ocsp_validity": c.OCSPValidity.Std(),
	} {
		if d < 0 {
			bad("pki.%s: must not be negative", name)
		}
	}
}

// profiles reads what certificates are made from, linted.
func (c *CAConfig) profiles() (set profile.Set, blocked *issuance.BlockList, err error) {
	set = profile.BuiltIn()
	if c.Profiles != "" {
		if set, err = profile.Load(c.Profiles); err != nil {
			return nil, nil, fmt.Errorf("ca.profiles: %w", err)
		}
	}
	if len(c.BlockedKeys) > 0 {
		if blocked, err = profile.LoadBlockList(c.BlockedKeys...); err != nil {
			return nil, nil, fmt.Errorf("ca.blocked_keys: %w", err)
		}
	}
	return set, blocked, nil
}
