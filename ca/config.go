package ca

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/revocation"
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
	// OtherIssuers certify nobody here: the issuer before a change, until what it
	// signed has expired, on nodes that are not restarted yet the one after it,
	// and the issuer's own cross-certificates. The same on all nodes. Chains
	// that are not valid now are left out, with a warning.
	OtherIssuers []OtherIssuer

	SignerAlgorithm hsm.Algorithm     // of new signers; "" = P-256
	SignerName      string            // default names are this and "-<generation>"; "" = "signer"
	SignerProfile   *issuance.Profile // nil = issuance.Signer()
	DeviceProfile   *issuance.Profile // nil = issuance.ASTDevice()
	// LeafProfiles are those that Issue knows beside DeviceProfile; nil =
	// issuance.Signature() and issuance.Gateway().
	LeafProfiles []issuance.Profile

	// LintEvery has one in so many leaf certificates judged by the whole linter
	// before it is signed, the others by the checks that the profile was compiled
	// to; 0 and 1: every one. CA certificates always are.
	LintEvery int
	// VerifyEvery has one in so many new signatures on leaf certificates verified
	// before the certificate leaves; 0 and 1: every one. On CA certificates all are.
	VerifyEvery int
	// BlockedKeys are public keys that are never certified; nil = none.
	BlockedKeys *issuance.BlockList

	// PKI is the http address, without a slash at its end, below which CRLs, OCSP
	// and issuers' certificates are served; certificates point there. "" = they
	// carry no such addresses.
	PKI string
	// CRLShards is into how many CRLs the certificates of a new signer are
	// divided, 1..revocation.MaxShards; 0 = 1, which every verifier understands.
	CRLShards int

	// RotateAfter is the age at which Run replaces an ACTIVE signer, an hour or
	// more; 0 = never.
	RotateAfter time.Duration
	// RenewGrace is how long after its end a device's certificate still
	// entitles to a new one, at most 90 days; 0 = not at all.
	RenewGrace time.Duration
	// RenewLimit is how many renewals of one client are begun in an hour, by all
	// nodes together; requests at the same moment may pass it by their number. 0 = 20.
	RenewLimit int
	// Lease is how long one creation, renewal or issuing may take; what is not
	// finished by then was cut off by a crash. 0 = 2 minutes.
	Lease time.Duration
	// ReconcileEvery is the mean pause of Run when it finds nothing to do; 0 = 10 s.
	ReconcileEvery time.Duration

	Random  io.Reader             // of serials and ids; nil = crypto/rand
	Now     func() time.Time      // nil = time.Now
	Logger  *slog.Logger          // nil = silence
	Metrics prometheus.Registerer // nil = not registered
}

// OtherIssuer is an issuer CA of this installation beside the one that certifies
// signers. What it once certified can be revoked, so that its CRL and OCSP have
// to go on.
type OtherIssuer struct {
	Chain [][]byte // as Config.IssuerChain
	// Key names its key in the HSM, which signs CRLs and the certificate of its
	// OCSP key and nothing else. Zero: it is not in this token, nothing is signed
	// for it, and its last CRL is served to its end.
	Key hsm.Ref
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
	case slices.ContainsFunc(c.OtherIssuers, func(o OtherIssuer) bool { return o.Key != (hsm.Ref{}) && o.Key.Role != hsm.RoleIssuer }):
		return bad("the key of another issuer must have the role issuer")
	case c.LintEvery < 0 || c.VerifyEvery < 0:
		return bad("LintEvery and VerifyEvery must not be negative")
	case c.CRLShards < 0 || c.CRLShards > revocation.MaxShards:
		return bad("the number of CRL shards must be 1.." + strconv.Itoa(revocation.MaxShards))
	case c.Lease != 0 && c.Lease < minLease:
		return bad("the lease must be " + minLease.String() + " or more")
	case c.ReconcileEvery < 0:
		return bad("the pause of the reconciler must not be negative")
	case c.RotateAfter != 0 && c.RotateAfter < minRotateAfter:
		return bad("signers must be an hour old before they are rotated")
	case c.RenewGrace < 0 || c.RenewGrace > maxRenewGrace:
		return bad("the grace after a certificate's end must be at most " + maxRenewGrace.String())
	case c.RenewLimit < 0:
		return bad("the limit of renewals must not be negative")
	case c.PKI != "" && !revocation.ValidBase(c.PKI):
		return bad("the PKI address must be an http URL without a slash, a query or a fragment at its end")
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
	if c.LeafProfiles == nil {
		c.LeafProfiles = []issuance.Profile{issuance.Signature(), issuance.Gateway()}
	}
	c.CRLShards = max(c.CRLShards, 1)
	if c.RenewLimit == 0 {
		c.RenewLimit = defaultRenewals
	}
	if c.Lease == 0 {
		c.Lease = defaultLease
	}
	if c.ReconcileEvery == 0 {
		c.ReconcileEvery = defaultReconcile
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
