package ceremony

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/conf"
)

// Existing is a root of an earlier ceremony. Its certificate stands in the plan,
// so that the hash of the plan covers it.
type Existing struct {
	Key         string `yaml:"key" json:"key"` // its key must be on this token
	Generation  int    `yaml:"generation" json:"generation"`
	Certificate string `yaml:"certificate" json:"certificate"` // PEM
}

// CrossSign is a second certificate, by the existing root, for an authority that
// this plan makes: who trusts only the existing root finds a path by it.
type CrossSign struct {
	Certify  string        `yaml:"certify" json:"certify"`   // root or issuer
	Validity conf.Duration `yaml:"validity" json:"validity"` // within the authority's own and the existing root's
}

// What Certify and By may name.
const (
	newRoot      = "root"
	newIssuer    = "issuer"
	existingRoot = "existing_root"
)

func (e *Existing) ref() hsm.Ref {
	return hsm.Ref{Tenant: system, Role: hsm.RoleRoot, Name: e.Key, Generation: e.Generation}
}

// der returns the one certificate of the PEM text, which holds nothing else.
func (e *Existing) der() ([]byte, error) {
	block, rest := pem.Decode([]byte(e.Certificate))
	switch {
	case !strings.HasPrefix(e.Certificate, "-----BEGIN CERTIFICATE-----\n"), block == nil, block.Type != "CERTIFICATE", len(block.Headers) > 0:
		return nil, errors.New("certificate must be one in PEM")
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, errors.New("something stands behind the certificate")
	}
	return block.Bytes, nil
}

func (e *Existing) authority() (*issuance.Authority, error) {
	der, err := e.der()
	if err != nil {
		return nil, err
	}
	return issuance.NewAuthority(der)
}

func (p *Plan) validateExisting() error {
	e := p.ExistingRoot
	if e == nil {
		return nil
	}
	if err := e.ref().Validate(); err != nil {
		return fmt.Errorf("%w: existing_root: key: %w", ErrPlan, err)
	}
	if _, err := e.authority(); err != nil {
		return fmt.Errorf("%w: existing_root: %w", ErrPlan, err)
	}
	used := len(p.CrossSign) > 0
	for i := range p.CRLs {
		used = used || p.CRLs[i].By == existingRoot
	}
	if !used {
		return fmt.Errorf("%w: existing_root is not used by any step", ErrPlan)
	}
	return nil
}

func (p *Plan) validateCrossSign() error {
	seen := map[string]bool{}
	for i := range p.CrossSign {
		c := &p.CrossSign[i]
		bad := func(what string) error { return fmt.Errorf("%w: cross_sign %d: %s", ErrPlan, i+1, what) }
		switch {
		case p.ExistingRoot == nil:
			return bad("there is no existing_root to sign it")
		case p.Root == nil:
			return bad("there is no new root or issuer to certify")
		case c.Certify != newRoot && c.Certify != newIssuer:
			return bad("certify must be root or issuer")
		case seen[c.Certify]:
			return bad("certifies the " + c.Certify + " a second time")
		}
		seen[c.Certify] = true
		if err := validity(c.Validity); err != nil {
			return bad(err.Error())
		}
		if c.Validity > p.crossed(c).Validity {
			return bad("the cross-certificate would outlive the " + c.Certify + "'s own certificate")
		}
		profile := c.profile()
		if err := profile.Validate(); err != nil {
			return bad(err.Error())
		}
	}
	return nil
}

// crossed is the authority that a cross-certificate is for.
func (p *Plan) crossed(c *CrossSign) *Authority {
	if c.Certify == newRoot {
		return p.Root
	}
	return p.Issuer
}

// profile is that of an issuer: an intermediate CA of those who trust the
// existing root. Below a new root there is one layer more, and no other.
func (c *CrossSign) profile() issuance.Profile {
	p := issuance.Issuer()
	p.Name, p.Validity = "CROSS_ISSUER", c.Validity.Std()
	if c.Certify == newRoot {
		p.Name = "CROSS_ROOT"
		p.MaxPath++
	}
	return p
}

// crossStep is what the engine is asked for.
func (h *hierarchy) crossStep(p *Plan, c *CrossSign) step {
	s := step{issuer: h.existing, profile: c.profile(), subject: p.crossed(c).subject(), key: h.issuerKey, signer: h.existingKey}
	if c.Certify == newRoot {
		s.key = h.rootKey
	}
	return s
}

// checkDraft refuses what the engine would cut in silence, and names that would
// lead a verifier astray: a path is built by names.
func (h *hierarchy) checkDraft(c *CrossSign, d *issuance.Draft) error {
	if d.NotAfter().Sub(d.NotBefore())+time.Second != c.Validity.Std() {
		return fmt.Errorf("the cross-certificate of the %s would outlive the existing root", c.Certify)
	}
	existing := h.existing.Certificate()
	for _, a := range []*issuance.Authority{h.root, h.issuer} {
		if bytes.Equal(a.Certificate().RawSubject, existing.RawSubject) {
			return errors.New("a new authority and the existing root need different subjects")
		}
	}
	return nil
}

// checkCross compares a cross-certificate with the authority's own certificate:
// they must be of one name and one key, or no path leads over it.
func (h *hierarchy) checkCross(c *CrossSign, der []byte) error {
	cross, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	own := h.issuer.Certificate()
	if c.Certify == newRoot {
		own = h.root.Certificate()
	}
	switch {
	case !bytes.Equal(cross.RawSubject, own.RawSubject):
		return errors.New("the cross-certificate has another subject")
	case !bytes.Equal(cross.RawSubjectPublicKeyInfo, own.RawSubjectPublicKeyInfo), !bytes.Equal(cross.SubjectKeyId, own.SubjectKeyId):
		return errors.New("the cross-certificate has another key")
	case cross.KeyUsage != own.KeyUsage:
		return errors.New("the cross-certificate has another key usage")
	case cross.NotAfter.After(own.NotAfter), cross.NotAfter.After(h.existing.Certificate().NotAfter):
		return errors.New("the cross-certificate lasts longer than the others")
	}
	return nil
}

// path leads from the new issuer over a cross-certificate to the existing root.
func (h *hierarchy) path(c *CrossSign, cross []byte) [][]byte {
	existing := h.existing.Certificate().Raw
	if c.Certify == newRoot {
		return [][]byte{h.issuer.Certificate().Raw, cross, existing}
	}
	return [][]byte{cross, existing}
}

// checkExisting judges the existing root's certificate now, and that its key is
// on the token.
func checkExisting(ctx context.Context, token *hsm.Token, e *Existing, now time.Time) error {
	root, err := e.authority()
	if err == nil {
		err = issuance.VerifyChain([][]byte{root.Certificate().Raw}, now)
	}
	if err != nil {
		return fmt.Errorf("%w: existing_root: %w", ErrPlan, err)
	}
	key, err := token.Lookup(ctx, e.ref())
	switch {
	case errors.Is(err, hsm.ErrKeyNotFound), errors.Is(err, hsm.ErrAmbiguous), errors.Is(err, hsm.ErrTemplate):
		return fmt.Errorf("%w: %w", ErrKey, err)
	case err != nil:
		return err
	case !root.Owns(key.Public):
		return fmt.Errorf("%w: %s is not the key of the certificate", ErrKey, e.ref())
	}
	return nil
}
