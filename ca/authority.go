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

	issuer      *issuance.Authority
	issuerKey   key
	issuerChain [][]byte
	algorithm   hsm.Algorithm
	namePrefix  string
	signers     *issuance.Template // profile of signers
	devices     *issuance.Template

	// current holds the *line of each tenant that has issued here. An entry may
	// be out of date; the statement that records an intent finds out.
	current sync.Map // tenant.ID -> *line
}

// New checks the configuration against the HSM: the issuer's key must be there
// and be the key of the issuer's certificate, and the chain must be valid now.
func New(ctx context.Context, c Config) (*Authority, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	a := &Authority{
		db: c.DB, keys: tokenKeys{c.Token}, audit: c.Audit, random: c.Random, now: c.Now, log: c.Logger,
		issuerChain: c.IssuerChain, algorithm: c.SignerAlgorithm, namePrefix: c.SignerName,
	}
	var err error
	if a.signers, err = c.SignerProfile.Compile(); err != nil {
		return nil, fmt.Errorf("ca: %w: %w", ErrConfig, err)
	}
	if k := signerKeys[a.algorithm]; !a.signers.Allows(k.algorithm, k.bits) {
		return nil, fmt.Errorf("ca: %w: profile %s does not allow %s", ErrConfig, a.signers.Name(), a.algorithm)
	}
	if a.devices, err = c.DeviceProfile.Compile(); err != nil {
		return nil, fmt.Errorf("ca: %w: %w", ErrConfig, err)
	}
	if err := issuance.VerifyChain(c.IssuerChain, c.Now()); err != nil {
		return nil, fmt.Errorf("ca: %w: issuer chain: %w", ErrConfig, err)
	}
	if a.issuer, err = issuance.NewAuthority(c.IssuerChain[0]); err != nil {
		return nil, fmt.Errorf("ca: %w: %w", ErrConfig, err)
	}
	if a.issuerKey, err = a.keys.signer(ctx, c.IssuerKey); err != nil {
		return nil, unusable("issuer key", err)
	}
	if !a.issuer.Owns(a.issuerKey.Public()) {
		return nil, fmt.Errorf("ca: %w: %s is not the key of the issuer's certificate", ErrConfig, c.IssuerKey)
	}
	if a.metrics, err = newMetrics(c.Metrics, a); err != nil {
		return nil, fmt.Errorf("ca: %w: metrics: %w", ErrConfig, err)
	}
	return a, nil
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
