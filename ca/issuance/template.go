package issuance

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"sync/atomic"

	"golang.org/x/crypto/cryptobyte"
)

// Template is a profile that was checked, with the extensions that are the same
// in all its certificates encoded once.
type Template struct {
	profile    Profile
	checks     Checks
	signed     atomic.Uint64 // certificates, to choose those whose signature is verified
	hash       [sha256.Size]byte
	extensions []byte // those of the profile, one behind the other
}

// Compile validates the profile, takes a copy of it and has the linter judge
// what it yields: a template exists when its certificates pass. Errors:
// ErrProfile, ErrLint.
func (p *Profile) Compile(c Checks) (*Template, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("profile %q: %w", p.Name, err)
	}
	t := &Template{profile: p.clone(), checks: c, hash: p.Hash()}
	var b cryptobyte.Builder
	addBasicConstraints(&b, p.CA, p.MaxPath)
	addKeyUsage(&b, p.KeyUsages)
	if len(p.ExtKeyUsages) > 0 {
		addExtKeyUsages(&b, slices.Sorted(slices.Values(p.ExtKeyUsages)))
	}
	if p.OCSPNoCheck {
		addExtension(&b, oidOCSPNoCheck, false, func(b *cryptobyte.Builder) { b.AddBytes([]byte{5, 0}) })
	}
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("profile %q: %w: %w", p.Name, ErrProfile, err)
	}
	t.extensions = der
	if err := c.Linter.Template(t); err != nil {
		return nil, fmt.Errorf("profile %q: %w: %w", p.Name, ErrLint, err)
	}
	return t, nil
}

// Name returns the profile's name.
func (t *Template) Name() string { return t.profile.Name }

// CA reports whether the profile is a certificate authority's.
func (t *Template) CA() bool { return t.profile.CA }

// SelfIssued reports whether the certificates bear their issuer's name.
func (t *Template) SelfIssued() bool { return t.profile.SelfIssued }

// verifies chooses whether the next new signature is verified.
func (t *Template) verifies() bool {
	if t.profile.CA || t.profile.SelfIssued || t.checks.VerifyEvery <= 1 {
		return true
	}
	return (t.signed.Add(1)-1)%uint64(t.checks.VerifyEvery) == 0
}

// Hash returns Profile.Hash of the compiled profile.
func (t *Template) Hash() [sha256.Size]byte { return t.hash }

// Allows reports whether keys of this kind and size may be certified.
func (t *Template) Allows(a KeyAlgorithm, bits int) bool { return t.profile.allows(a, bits) }

// Profile returns a copy of the compiled profile.
func (t *Template) Profile() Profile { return t.profile.clone() }

func (p *Profile) clone() Profile {
	c := *p
	c.KeyUsages = slices.Clone(p.KeyUsages)
	c.ExtKeyUsages = slices.Clone(p.ExtKeyUsages)
	c.Keys = slices.Clone(p.Keys)
	c.Subject.Required = slices.Clone(p.Subject.Required)
	c.Subject.Optional = slices.Clone(p.Subject.Optional)
	c.AltNames.DNS = slices.Clone(p.AltNames.DNS)
	c.AltNames.IP = slices.Clone(p.AltNames.IP)
	return c
}
