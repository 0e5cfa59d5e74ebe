package ca

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/lint"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/tenant"
)

// Authority issues for all tenants of an installation.
type Authority struct {
	db      DB
	keys    keys
	audit   *audit.Log
	random  io.Reader
	now     func() time.Time
	log     *slog.Logger
	metrics *metrics

	issuer     *issuance.Authority
	issuerKey  key
	issuers    []path // the issuer's own, then the others
	algorithm  hsm.Algorithm
	namePrefix string
	signers    *issuance.Template            // profile of signers
	device     string                        // name of the profile of devices
	leaves     map[string]*issuance.Template // by name
	pki        string
	shards     int
	node       string // owner of the leases of requests that run here

	lease       time.Duration
	rotateAfter time.Duration
	renewGrace  time.Duration
	renewLimit  int
	every       time.Duration
	revokeBatch int

	together together // what is recorded in batches

	// current holds the *line of each tenant that has issued here. An entry may
	// be out of date; the statement that records an intent finds out.
	current sync.Map // tenant.ID -> *line
}

// New checks the configuration against the HSM: the issuers' keys must be there
// and be those of their certificates, and the chain must be valid now.
func New(ctx context.Context, c Config) (*Authority, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	a := &Authority{
		db: c.DB, keys: tokenKeys{c.Token}, audit: c.Audit, random: c.Random, now: c.Now, log: c.Logger,
		algorithm: c.SignerAlgorithm, namePrefix: c.SignerName, device: c.DeviceProfile.Name, pki: c.PKI, shards: c.CRLShards,
		lease: c.Lease, rotateAfter: c.RotateAfter, renewGrace: c.RenewGrace, renewLimit: c.RenewLimit, every: c.ReconcileEvery, revokeBatch: revokeBatch,
	}
	linter, err := lint.New(lint.Config{Every: c.LintEvery, Now: c.Now})
	if err != nil {
		return nil, fmt.Errorf("ca: %w: %w", ErrConfig, err)
	}
	checks := issuance.Checks{Linter: linter, Blocked: c.BlockedKeys, VerifyEvery: c.VerifyEvery}
	if a.signers, err = c.SignerProfile.Compile(checks); err != nil {
		return nil, fmt.Errorf("ca: %w: %w", ErrConfig, err)
	}
	if k := signerKeys[a.algorithm]; !a.signers.Allows(k.algorithm, k.bits) {
		return nil, fmt.Errorf("ca: %w: profile %s does not allow %s", ErrConfig, a.signers.Name(), a.algorithm)
	}
	if a.leaves, err = leafTemplates(checks, *c.DeviceProfile, c.LeafProfiles); err != nil {
		return nil, err
	}
	if err := a.loadIssuers(&c); err != nil {
		return nil, err
	}
	if err := a.loadKeys(ctx); err != nil {
		return nil, err
	}
	node, err := a.newID()
	if err != nil {
		return nil, err
	}
	a.node = node.String()
	if a.metrics, err = newMetrics(c.Metrics, a); err != nil {
		return nil, fmt.Errorf("ca: %w: metrics: %w", ErrConfig, err)
	}
	if a.together, err = a.newTogether(c.Metrics); err != nil {
		return nil, fmt.Errorf("ca: %w: %w", ErrConfig, err)
	}
	return a, nil
}

// leafTemplates compiles the profiles of certificates that are no CA's.
func leafTemplates(checks issuance.Checks, device issuance.Profile, others []issuance.Profile) (map[string]*issuance.Template, error) {
	leaves := make(map[string]*issuance.Template, 1+len(others))
	for _, p := range append([]issuance.Profile{device}, others...) {
		t, err := p.Compile(checks)
		switch {
		case err != nil:
			return nil, fmt.Errorf("ca: %w: %w", ErrConfig, err)
		case p.CA, p.SelfIssued:
			return nil, fmt.Errorf("ca: %w: profile %s makes a CA, or a key of one", ErrConfig, p.Name)
		case leaves[p.Name] != nil:
			return nil, fmt.Errorf("ca: %w: two profiles are called %s", ErrConfig, p.Name)
		}
		leaves[p.Name] = t
	}
	return leaves, nil
}

// ParseChain reads a file of PEM certificates, issuer first, root last.
func ParseChain(data []byte) ([][]byte, error) {
	var chain [][]byte
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("ca: %w: the chain file holds a %s", ErrConfig, block.Type)
		}
		chain, data = append(chain, block.Bytes), rest
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("ca: %w: the chain file holds no certificate", ErrConfig)
	}
	return chain, nil
}

// newID makes a ULID: 48 bits of milliseconds and 80 random ones.
func (a *Authority) newID() (ulid.ULID, error) {
	id, err := ulid.New(ulid.Timestamp(a.now()), a.random)
	if err != nil {
		return ulid.ULID{}, fmt.Errorf("ca: new id: %w", err)
	}
	return id, nil
}

// signerRef is the HSM key of a signer. The name in the label is fixed: what
// operators call their signers is free text, and the generation is unique.
func signerRef(t tenant.ID, generation int) hsm.Ref {
	return hsm.Ref{Tenant: t.String(), Role: hsm.RoleSigner, Name: "signer", Generation: generation}
}

// wallTime is the clock as PostgreSQL keeps it, so that what is answered now is
// what is read later.
func (a *Authority) wallTime() time.Time { return a.now().UTC().Truncate(time.Microsecond) }
