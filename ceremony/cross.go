package ceremony

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/conf"
)

// Existing is a CA of an earlier ceremony. Its certificate stands in the plan, so
// that the hash of the plan covers it.
type Existing struct {
	As         string   `yaml:"as" json:"as,omitempty"`
	Role       hsm.Role `yaml:"role" json:"role,omitempty"` // root (default) or issuer
	Key        string   `yaml:"key" json:"key"`             // its key must be on this token
	Generation int      `yaml:"generation" json:"generation"`
	// Certificate is in PEM; an issuer's is followed by those above it, the root last.
	Certificate string `yaml:"certificate" json:"certificate"`
}

// CrossSign is a second certificate, by an existing CA, for a CA that this plan
// makes: who trusts only the existing one finds a path by it.
type CrossSign struct {
	As       string        `yaml:"as" json:"as,omitempty"`   // for the file's name; left out: <certify>-cross
	Certify  string        `yaml:"certify" json:"certify"`   // a CA that this plan makes
	By       string        `yaml:"by" json:"by,omitempty"`   // an existing one
	Validity conf.Duration `yaml:"validity" json:"validity"` // within the CA's own and the existing one's
}

func (e *Existing) ref() hsm.Ref {
	role := e.Role
	if role == "" {
		role = hsm.RoleRoot
	}
	return hsm.Ref{Tenant: system, Role: role, Name: e.Key, Generation: e.Generation}
}

// certificates returns those of the PEM text, which holds nothing else.
func (e *Existing) certificates() (list [][]byte, err error) {
	rest := []byte(e.Certificate)
	for len(bytes.TrimSpace(rest)) > 0 {
		if !bytes.HasPrefix(rest, []byte("-----BEGIN CERTIFICATE-----\n")) {
			return nil, errors.New("something other than certificates in PEM stands there")
		}
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" || len(block.Headers) > 0 {
			return nil, errors.New("certificate must be in PEM")
		}
		list = append(list, block.Bytes)
	}
	want := "one certificate"
	if e.Role == hsm.RoleIssuer {
		want = "the issuer's certificate and those above it"
	}
	if len(list) == 0 || (e.Role == hsm.RoleIssuer) != (len(list) > 1) {
		return nil, fmt.Errorf("certificate must be %s in PEM", want)
	}
	return list, nil
}

func (e *Existing) authority() (*issuance.Authority, error) {
	list, err := e.certificates()
	if err != nil {
		return nil, err
	}
	return issuance.NewAuthority(list[0])
}

func (e *Existing) check(c *checker) error {
	if err := c.name(e.As); err != nil {
		return err
	}
	if e.Role != "" && e.Role != hsm.RoleRoot && e.Role != hsm.RoleIssuer {
		return errors.New("role must be root or issuer")
	}
	if err := e.ref().Validate(); err != nil {
		return fmt.Errorf("key: %w", err)
	}
	if len(c.kinds) > 0 && c.kinds[0] == "token_init" {
		return errors.New("a token that this plan initialises has no existing keys")
	}
	if c.labels[e.ref().String()] && !c.plan.short() { // found as a taken label there
		return fmt.Errorf("%s is made by this plan", e.ref())
	}
	if _, err := e.authority(); err != nil {
		return err
	}
	c.cas[e.As] = planned{existing: e}
	return nil
}

// look judges the certificate now, and that its key is on the token.
func (e *Existing) look(ctx context.Context, token *hsm.Token, w *work) error {
	list, err := e.certificates()
	if err == nil {
		err = issuance.VerifyChain(list, w.now)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrPlan, e.As, err)
	}
	ca, err := e.authority()
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrPlan, e.As, err)
	}
	key, err := token.Lookup(ctx, e.ref())
	switch {
	case errors.Is(err, hsm.ErrKeyNotFound), errors.Is(err, hsm.ErrAmbiguous), errors.Is(err, hsm.ErrTemplate):
		return fmt.Errorf("%w: %w", ErrKey, err)
	case err != nil:
		return err
	case !ca.Owns(key.Public):
		return fmt.Errorf("%w: %s is not the key of the certificate", ErrKey, e.ref())
	}
	return nil
}

func (e *Existing) do(w *work) error {
	list, err := e.certificates()
	if err != nil {
		return err
	}
	a := &authority{as: e.As, ref: e.ref(), chain: list, existing: true}
	if a.key, a.chain, err = w.bench.existing(w, e, list); err != nil {
		return err
	}
	if err := w.made(a); err != nil {
		return err
	}
	cert := sha256.Sum256(a.chain[0])
	return w.remembered(eventKeyUse, e.As, func() (map[string]any, error) {
		return map[string]any{"label": a.ref.String(), "certificateSha256": hex.EncodeToString(cert[:])}, nil
	}, nil)
}

func (x *CrossSign) as() string {
	if x.As != "" {
		return x.As
	}
	return x.Certify + "-cross"
}

func (x *CrossSign) check(c *checker) error {
	target, by := c.cas[x.Certify], c.cas[x.By]
	switch {
	case by.existing == nil:
		return fmt.Errorf("by must name an existing CA of an earlier step, not %q", x.By)
	case target.make == nil:
		return fmt.Errorf("certify must name a CA that an earlier step makes, not %q", x.Certify)
	case target.make.Request != "":
		return fmt.Errorf("the key of %s is on another token", x.Certify)
	}
	if err := c.name(x.as()); err != nil {
		return fmt.Errorf("certifies %s: %w", x.Certify, err)
	}
	if err := validity(x.Validity); err != nil {
		return err
	}
	if x.Validity > target.make.Validity {
		return fmt.Errorf("the cross-certificate would outlive %s's own certificate", x.Certify)
	}
	profile := x.profile(target.make.By == "")
	if err := profile.Validate(); err != nil {
		return err
	}
	return c.file(hyphens(x.as()) + "-chain.pem")
}

func (x *CrossSign) look(context.Context, *hsm.Token, *work) error { return nil }

// profile is that of an issuer: an intermediate CA of those who trust the existing
// one. Below a new root there is one layer more, and no other.
func (x *CrossSign) profile(root bool) issuance.Profile {
	p := issuance.Issuer()
	p.Name, p.Validity = "CROSS_ISSUER", x.Validity.Std()
	if root {
		p.Name = "CROSS_ROOT"
		p.MaxPath++
	}
	return p
}

func (x *CrossSign) do(w *work) error {
	target, by := w.cas[x.Certify], w.cas[x.By]
	// A path is built by names: two CAs of one name lead a verifier astray.
	for _, a := range w.order {
		if a != by && bytes.Equal(a.Certificate().RawSubject, by.Certificate().RawSubject) {
			return fmt.Errorf("%s and %s need different subjects", a.as, by.as)
		}
	}
	der, err := w.certify(x.as(), step{
		issuer: by.Authority, profile: x.profile(target.by == ""), subject: w.planned(x.Certify).subject(),
		key: target.key, signer: by.key, whole: x.Validity.Std(),
	})
	if err != nil {
		return err
	}
	if err := compareCross(der, target, by); err != nil {
		return err
	}
	// The path begins with the CA below the crossed one, when the plan makes one.
	path := append([][]byte{der}, by.chain...)
	var below []*authority
	for _, a := range w.order {
		if a.by == x.Certify {
			below = append(below, a)
		}
	}
	if len(below) == 1 {
		path = append([][]byte{below[0].chain[0]}, path...)
	}
	if err := issuance.VerifyPath(path, w.now); err != nil {
		return err
	}
	w.crosses[x.Certify] = der
	return w.write(hyphens(x.as())+"-chain.pem", pemOf(path...))
}

// compareCross compares a cross-certificate with the CA's own certificate: they
// must be of one name and one key, or no path leads over it.
func compareCross(der []byte, target, by *authority) error {
	cross, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	own := target.Certificate()
	switch {
	case !bytes.Equal(cross.RawSubject, own.RawSubject):
		return errors.New("the cross-certificate has another subject")
	case !bytes.Equal(cross.RawSubjectPublicKeyInfo, own.RawSubjectPublicKeyInfo), !bytes.Equal(cross.SubjectKeyId, own.SubjectKeyId):
		return errors.New("the cross-certificate has another key")
	case cross.KeyUsage != own.KeyUsage:
		return errors.New("the cross-certificate has another key usage")
	case cross.NotAfter.After(own.NotAfter), cross.NotAfter.After(by.Certificate().NotAfter):
		return errors.New("the cross-certificate lasts longer than the others")
	}
	return nil
}

// planned is the step that makes a CA.
func (w *work) planned(as string) *MakeCA {
	for _, s := range w.plan.steps() {
		for _, m := range []*MakeCA{s.Root, s.Intermediate} {
			if m != nil && m.As == as {
				return m
			}
		}
	}
	return nil
}
