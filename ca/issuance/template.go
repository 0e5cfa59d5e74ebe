package issuance

import (
	"crypto/sha256"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

// Template is a profile that was checked, with the extensions that are the same
// in all its certificates encoded once.
type Template struct {
	profile    Profile
	hash       [sha256.Size]byte
	extensions []byte // those of the profile, one behind the other
}

// Compile validates the profile and takes a copy of it.
func (p *Profile) Compile() (*Template, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	t := &Template{profile: p.clone(), hash: p.Hash()}
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
	return t, nil
}

// Name returns the profile's name.
func (t *Template) Name() string { return t.profile.Name }

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
	return c
}
