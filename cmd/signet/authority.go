package main

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"

	"github.com/signet-hsm/signet/api"
	"github.com/signet-hsm/signet/api/pki"
	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/profile"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/hsm"
)

// openAuthority makes the certificate authority; url is where verifiers find its
// revocation data.
func (p *process) openAuthority(ctx context.Context, d *domains, url string) (*ca.Authority, error) {
	chain, err := readChain(p.cfg.CA.IssuerChain)
	if err != nil {
		return nil, fmt.Errorf("ca.issuer_chain: %w", err)
	}
	var others []ca.OtherIssuer
	for i, o := range p.cfg.CA.OtherIssuers {
		var other ca.OtherIssuer
		if other.Chain, err = readChain(o.Chain); err != nil {
			return nil, fmt.Errorf("ca.other_issuers[%d].chain: %w", i, err)
		}
		if o.Key != "" {
			if other.Key, err = hsm.ParseRef(o.Key); err != nil {
				return nil, fmt.Errorf("ca.other_issuers[%d].key: %w", i, err)
			}
		}
		others = append(others, other)
	}
	key, err := p.cfg.CA.issuerRef()
	if err != nil {
		return nil, err
	}
	profiles, blocked, err := p.cfg.CA.profiles()
	if err != nil {
		return nil, err
	}
	signers, devices := profiles[profile.Signer], profiles[profile.ASTDevice]
	return ca.New(ctx, ca.Config{
		DB: d.pool, Token: d.token, Audit: d.audit, IssuerChain: chain, IssuerKey: key, OtherIssuers: others,
		SignerAlgorithm: hsm.Algorithm(p.cfg.CA.SignerAlgorithm),
		SignerProfile:   &signers, DeviceProfile: &devices, LeafProfiles: leaves(profiles), BlockedKeys: blocked,
		LintEvery: p.cfg.CA.LintEvery, VerifyEvery: p.cfg.CA.VerifyEvery,
		PKI: url, CRLShards: p.cfg.CA.CRLShards, RotateAfter: p.cfg.CA.RotateAfter.Std(), RenewGrace: p.cfg.CA.RenewGrace.Std(),
		RenewLimit: p.cfg.CA.RenewLimit,
		Logger:     p.log, Metrics: p.registry,
	})
}

func readChain(path string) ([][]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return ca.ParseChain(raw)
}

// leaves are the profiles that are asked for by name.
func leaves(set profile.Set) (out []issuance.Profile) {
	for _, name := range slices.Sorted(maps.Keys(set)) {
		switch name {
		case profile.Signer, profile.ASTDevice, profile.OCSPSigning, profile.CRLSigning:
		default:
			out = append(out, set[name])
		}
	}
	return out
}

// openAuthority opens the public listener first: its address stands in the
// certificates unless the operator says another.
func (n *node) openAuthority(ctx context.Context) (err error) {
	p := n.p
	if p.cfg.Listen.PKI != "" {
		if n.pkiListener, err = net.Listen("tcp", p.cfg.Listen.PKI); err != nil {
			return fmt.Errorf("listen.pki: %w", err)
		}
	}
	url := p.cfg.PKI.URL
	if url == "" && n.pkiListener != nil {
		url = "http://" + n.pkiListener.Addr().String()
	}
	if n.authority, err = p.openAuthority(ctx, n.d, url); err != nil {
		return err
	}
	issuers, err := n.authority.Issuers()
	if err != nil {
		return err
	}
	if n.publisher, err = revocation.New(revocation.Config{
		DB: n.d.pool, Authority: issuers, URL: url, OwnCRLKey: p.cfg.CA.CRLKey == crlKeyOwn,
		CRLValidity: p.cfg.PKI.CRLValidity.Std(), OCSPValidity: p.cfg.PKI.OCSPValidity.Std(),
		Logger: p.log, Metrics: p.registry,
	}); err != nil {
		return err
	}
	if n.pkiListener == nil {
		return nil
	}
	handler, err := pki.New(pki.Config{Source: n.publisher, MaxAge: p.cfg.PKI.maxAge(), Logger: p.log, Metrics: p.registry})
	if err != nil {
		return err
	}
	n.pkiServer, err = api.NewServer(api.ServerConfig{Handler: handler, Logger: p.log})
	return err
}
