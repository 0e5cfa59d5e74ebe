package issuance

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
)

// Linter judges certificates while nothing is signed yet. It says no by an
// error, whose text names the rule; the engine adds ErrLint. Package ca/lint has
// the one that the product uses. Safe for concurrent use.
type Linter interface {
	// Template judges a profile when it is compiled, by whatever drafts it likes to
	// prepare with it.
	Template(t *Template) error
	// Candidate judges one draft.
	Candidate(c *Candidate) error
}

// Checks are what a template does with every certificate besides building it.
type Checks struct {
	Linter  Linter     // required
	Blocked *BlockList // keys that are never certified; nil: none
	// VerifyEvery has one in so many new signatures verified with the issuer's
	// public key before the certificate leaves; 0 and 1: every one. A CA's own
	// certificate always is. What is signed is compared with the draft in any case.
	VerifyEvery int
}

func (c *Checks) validate() error {
	switch {
	case c.Linter == nil:
		return fmt.Errorf("%w: no linter", ErrProfile)
	case c.VerifyEvery < 0:
		return fmt.Errorf("%w: one in %d signatures verified", ErrProfile, c.VerifyEvery)
	}
	return nil
}

// Candidate is a draft as a linter sees it.
type Candidate struct {
	draft   *Draft
	order   *Order
	stencil *Stencil
}

// Profile returns the template that the draft was made with.
func (c *Candidate) Profile() *Template { return c.stencil.profile }

// Issuer returns who will sign; nil: the certificate's own key.
func (c *Candidate) Issuer() *Authority { return c.stencil.issuer }

// Locations returns the addresses in the draft.
func (c *Candidate) Locations() Locations { return c.stencil.locations }

// Stencil returns that of the order, and nil when one was made for this draft alone.
func (c *Candidate) Stencil() *Stencil { return c.order.Stencil }

// AltNames reports whether the draft has alternative names.
func (c *Candidate) AltNames() bool { return !c.order.AltNames.empty() }

// Scheme returns how the issuer's key signs.
func (c *Candidate) Scheme() Scheme { return c.draft.scheme }

// TBS returns a copy of the bytes to be signed.
func (c *Candidate) TBS() []byte { return bytes.Clone(c.draft.tbs) }

// errStandIn: a linter's key does not stand in for the issuer's.
var errStandIn = errors.New("the stand-in key is not of the issuer's kind, or is the issuer's own")

// SignedBy returns the draft as a whole certificate, signed by a throw-away key
// of the issuer's kind: byte for byte the to-be-signed part of the draft. A
// self-signed one is drafted again for the throw-away key itself, or it would
// not be self-signed. The issuer's own key is refused.
func (c *Candidate) SignedBy(standIn crypto.Signer) ([]byte, error) {
	s, err := SchemeOf(standIn.Public())
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(s.identifier, c.draft.scheme.identifier) || sameKey(c.draft.scheme.key, standIn.Public()) {
		return nil, errStandIn
	}
	if c.stencil.issuer != nil {
		return s.sign(standIn, c.draft.tbs, false)
	}
	o := *c.order
	r := &Request{key: standIn.Public(), asks: o.Request.asks}
	if r.spki, err = x509.MarshalPKIXPublicKey(r.key); err != nil {
		return nil, err
	}
	if r.keyID, err = keyID(r.spki); err != nil {
		return nil, err
	}
	o.Request = r
	twin := Draft{serial: c.draft.serial, notBefore: c.draft.notBefore, notAfter: c.draft.notAfter, scheme: s}
	if err := twin.encode(&o, c.stencil); err != nil {
		return nil, err
	}
	return s.sign(standIn, twin.tbs, false)
}
