package ca_test

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/revocation"
)

func TestConfigRefuses(t *testing.T) {
	t.Parallel()
	b, _ := bundle(t)
	for name, change := range map[string]func(*ca.Config){
		"negative shards":   func(c *ca.Config) { c.CRLShards = -1 },
		"too many shards":   func(c *ca.Config) { c.CRLShards = revocation.MaxShards + 1 },
		"short lease":       func(c *ca.Config) { c.Lease = time.Millisecond },
		"negative pause":    func(c *ca.Config) { c.ReconcileEvery = -1 },
		"restless rotation": func(c *ca.Config) { c.RotateAfter = time.Minute },
		"negative rotation": func(c *ca.Config) { c.RotateAfter = -time.Hour },
		"negative grace":    func(c *ca.Config) { c.RenewGrace = -1 },
		"endless grace":     func(c *ca.Config) { c.RenewGrace = 100 * 24 * time.Hour },
		"negative linting":  func(c *ca.Config) { c.LintEvery = -1 },
		"negative checks":   func(c *ca.Config) { c.VerifyEvery = -1 },
		"a CA as a leaf":    func(c *ca.Config) { c.LeafProfiles = []issuance.Profile{issuance.Signer()} },
		"a name twice":      func(c *ca.Config) { c.LeafProfiles = []issuance.Profile{issuance.ASTDevice()} },
		"a broken leaf":     func(c *ca.Config) { c.LeafProfiles = []issuance.Profile{{}} },
	} {
		c := b.config(t)
		change(&c)
		_, err := ca.New(t.Context(), c)
		require.ErrorIs(t, err, ca.ErrConfig, name)
	}
}

// Another issuer's chain that is not good any more is no reason not to start.
func TestBadChainOfAnotherIssuerIsLeftOut(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	create(t, a)
	var log bytes.Buffer
	node := b.authority(t, func(c *ca.Config) {
		c.OtherIssuers = []ca.OtherIssuer{{Chain: [][]byte{b.chain[1], b.chain[0]}}, {}}
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	require.Equal(t, 2, bytes.Count(log.Bytes(), []byte("level=WARN")))
	issue(t, node, t.Context())
}
