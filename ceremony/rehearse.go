package ceremony

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"io"
	"time"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/lint"
	"github.com/signet-hsm/signet/hsm"
)

// throwAway makes a key in memory that stands in for the HSM's.
var throwAway = map[hsm.Algorithm]func() (crypto.Signer, error){
	hsm.P256:    func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
	hsm.P384:    func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
	hsm.RSA3072: func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 3072) },
	hsm.Ed25519: func() (crypto.Signer, error) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	},
}

// hierarchy is what the steps of a plan stand on. What the plan does not have is
// nil; so is the existing root's key in a rehearsal.
type hierarchy struct {
	root, issuer, existing          *issuance.Authority
	rootKey, issuerKey, existingKey crypto.Signer
}

// by is who signs a CRL.
func (h *hierarchy) by(c *CRL) (*issuance.Authority, crypto.Signer) {
	if c.By == newRoot {
		return h.root, h.rootKey
	}
	return h.existing, h.existingKey
}

// rehearse makes everything in the plan with throw-away keys, and under them a
// signer and a device, and has each linted: a profile that does not fit is found
// before a key exists that would have to be explained for ever. What the existing
// root will sign is drafted under its real certificate and linted as signed by a
// throw-away key.
func rehearse(p *Plan, now time.Time) (err error) {
	h := &hierarchy{}
	if p.Root != nil {
		if err := h.rehearseAuthorities(p, now); err != nil {
			return err
		}
	}
	if p.ExistingRoot != nil {
		if h.existing, err = p.ExistingRoot.authority(); err != nil {
			return err
		}
	}
	for i := range p.CrossSign {
		c := &p.CrossSign[i]
		draft, err := prepare(h.crossStep(p, c), rand.Reader, now)
		if err == nil {
			err = h.checkDraft(c, draft)
		}
		if err != nil {
			return fmt.Errorf("cross_sign %d: %w", i+1, err)
		}
	}
	for i := range p.CRLs {
		by, _ := h.by(&p.CRLs[i])
		if _, err := prepareCRL(&p.CRLs[i], by, now); err != nil {
			return fmt.Errorf("crl %d: %w", i+1, err)
		}
	}
	return nil
}

func (h *hierarchy) rehearseAuthorities(p *Plan, now time.Time) (err error) {
	if h.rootKey, err = throwAway[p.Root.Algorithm](); err != nil {
		return err
	}
	if h.issuerKey, err = throwAway[p.Issuer.Algorithm](); err != nil {
		return err
	}
	key, err := throwAway[hsm.P256]()
	if err != nil {
		return err
	}
	leaf := issuance.Subject{Organization: "rehearsal", CommonName: "rehearsal"}
	signer := leaf
	signer.SerialNumber = "rehearsal"
	var chain [][]byte
	var above *issuance.Authority
	for _, s := range []struct {
		step
		made **issuance.Authority
	}{
		{step{profile: p.Root.profile(issuance.Root()), subject: p.Root.subject(), key: h.rootKey, signer: h.rootKey}, &h.root},
		{step{profile: p.Issuer.profile(issuance.Issuer()), subject: p.Issuer.subject(), key: h.issuerKey, signer: h.rootKey}, &h.issuer},
		{step{profile: issuance.Signer(), subject: signer, key: key, signer: h.issuerKey}, nil},
		{step{profile: issuance.ASTDevice(), subject: leaf, key: key, signer: key}, nil},
	} {
		s.issuer = above
		draft, err := prepare(s.step, rand.Reader, now)
		if err != nil {
			return fmt.Errorf("%s: %w", s.profile.Name, err)
		}
		der, err := draft.Sign(s.signer)
		if err != nil {
			return fmt.Errorf("%s: %w", s.profile.Name, err)
		}
		chain = append([][]byte{der}, chain...)
		if s.profile.CA {
			if above, err = issuance.NewAuthority(der); err != nil {
				return fmt.Errorf("%s: %w", s.profile.Name, err)
			}
		}
		if s.made != nil {
			*s.made = above
		}
	}
	return issuance.VerifyChain(chain, now)
}

// prepare drafts one certificate. The profile and the draft are linted by it.
func prepare(s step, random io.Reader, now time.Time) (*issuance.Draft, error) {
	linter, err := lint.New(lint.Config{Now: func() time.Time { return now }}) // every draft in full
	if err != nil {
		return nil, err
	}
	template, err := s.profile.Compile(issuance.Checks{Linter: linter})
	if err != nil {
		return nil, err
	}
	csr, err := issuance.NewRequest(s.key)
	if err != nil {
		return nil, err
	}
	request, err := issuance.ParseRequest(csr)
	if err != nil {
		return nil, err
	}
	serial, err := issuance.NewSerial(random)
	if err != nil {
		return nil, err
	}
	return issuance.Prepare(issuance.Order{Issuer: s.issuer, Profile: template, Request: request, Subject: s.subject, Serial: serial, Now: now})
}

// random reads the HSM's generator: the serials of a ceremony owe nothing to the
// machine it runs on.
func (r *run) random() io.Reader { return tokenReader{r.ctx, r.token} }

type tokenReader struct {
	ctx   context.Context //nolint:containedctx // lives for one Run
	token *hsm.Token
}

func (t tokenReader) Read(p []byte) (int, error) {
	if err := t.token.Random(t.ctx, p); err != nil {
		return 0, err
	}
	return len(p), nil
}
