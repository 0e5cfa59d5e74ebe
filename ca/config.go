package ca

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
)

// DB is the part of a pgx pool that the authority uses. Statements must be
// durable when they return.
type DB interface {
	Begin(ctx context.Context) (pgx.Tx, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Config makes an Authority.
type Config struct {
	DB    DB
	Token *hsm.Token
	Audit *audit.Log

	// IssuerChain is the issuer CA's certificate and those above it up to the
	// root, in DER, as ParseChain reads them from the ceremony's file.
	IssuerChain [][]byte
	// IssuerKey names the issuer's key in the HSM.
	IssuerKey hsm.Ref

	SignerAlgorithm hsm.Algorithm     // of new signers; "" = P-256
	SignerName      string            // default names are this and "-<generation>"; "" = "signer"
	SignerProfile   *issuance.Profile // nil = issuance.Signer()
	DeviceProfile   *issuance.Profile // nil = issuance.ASTDevice()

	Random  io.Reader             // of serials and ids; nil = crypto/rand
	Now     func() time.Time      // nil = time.Now
	Logger  *slog.Logger          // nil = silence
	Metrics prometheus.Registerer // nil = not registered
}

// signerKeys are the keys that signers may have, as the engine names them.
var signerKeys = map[hsm.Algorithm]struct {
	algorithm issuance.KeyAlgorithm
	bits      int
}{
	hsm.P256: {issuance.P256, 256}, hsm.P384: {issuance.P384, 384},
	hsm.RSA3072: {issuance.RSA, 3072}, hsm.Ed25519: {issuance.Ed25519, 256},
}

// Validate names the first thing that can not work, without the HSM.
func (c *Config) Validate() error {
	bad := func(what string) error { return fmt.Errorf("ca: %w: %s", ErrConfig, what) }
	switch {
	case c.DB == nil, c.Token == nil, c.Audit == nil:
		return bad("DB, Token and Audit are required")
	case len(c.IssuerChain) < 2:
		return bad("the issuer chain must hold the issuer's certificate and its root")
	case c.IssuerKey.Role != hsm.RoleIssuer:
		return bad("the issuer key must have the role issuer")
	case c.SignerName != "" && !validText(c.SignerName, maxName-11): // "-2147483647"
		return bad("the default signer name is too long or not printable")
	}
	if _, ok := signerKeys[c.SignerAlgorithm]; !ok && c.SignerAlgorithm != "" {
		return bad("the signer algorithm must be P-256, P-384, RSA-3072 or Ed25519")
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.SignerAlgorithm == "" {
		c.SignerAlgorithm = hsm.P256
	}
	if c.SignerName == "" {
		c.SignerName = "signer"
	}
	if c.SignerProfile == nil {
		p := issuance.Signer()
		c.SignerProfile = &p
	}
	if c.DeviceProfile == nil {
		p := issuance.ASTDevice()
		c.DeviceProfile = &p
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// unusable wraps what went wrong with a key. An outage stays one; everything
// else is ours to answer for, so that a missing HSM key never reads like a
// missing signer.
func unusable(what string, err error) error {
	if fault.KindOf(err) == fault.Unavailable {
		return fmt.Errorf("ca: %s: %w", what, err)
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return fmt.Errorf("ca: %s: %w: %w", what, fault.ErrUnavailable, err)
	}
	return fmt.Errorf("ca: %s: %w: %w", what, ErrKey, err)
}
