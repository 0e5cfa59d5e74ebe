package issuance

import (
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Stencil is what the certificates of one template by one authority with the same
// addresses have in common, checked and encoded once. It does not change and is
// safe for concurrent use; whoever issues many keeps it.
type Stencil struct {
	profile   *Template
	issuer    *Authority // nil for a self-signed profile
	locations Locations
	tail      []byte // the extensions behind the subject's key identifier
}

// NewStencil prepares for certificates of p by issuer, nil for a self-signed
// profile. Whether the issuer may issue it, and now, is asked for each of them.
// Errors: ErrProfile, ErrLocation.
func NewStencil(p *Template, issuer *Authority, l Locations) (*Stencil, error) {
	if p == nil {
		return nil, fmt.Errorf("%w: no profile", ErrProfile)
	}
	if p.profile.SelfSigned != (issuer == nil) {
		return nil, fmt.Errorf("%w: %s and its issuer do not match", ErrProfile, p.profile.Name)
	}
	if err := l.check(&p.profile); err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	// A self-signed certificate may leave it out, and a root that does can not
	// contradict itself.
	if issuer != nil {
		addExtension(&b, oidAuthorityKeyID, false, func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(casn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) {
					b.AddBytes(issuer.certificate.SubjectKeyId)
				})
			})
		})
	}
	l.add(&b)
	tail, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProfile, err)
	}
	return &Stencil{profile: p, issuer: issuer, locations: l, tail: tail}, nil
}
