package issuance

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"fmt"
	"sync/atomic"
	"time"
)

// Order is what goes into one certificate.
type Order struct {
	Issuer  *Authority // nil for a self-signed profile
	Profile *Template
	Request *Request
	Subject Subject
	// AltNames must fit the profile's policy; a request may ask for some of them.
	AltNames AltNames
	Serial   Serial
	Now      time.Time
	// Locations depend on the issuer and, with sharded CRLs, on the serial. Empty:
	// the certificate says nothing about where it can be checked.
	Locations Locations
	// Stencil stands for Issuer, Profile and Locations, which are passed over with
	// it. nil: one is made for this certificate.
	Stencil *Stencil
}

// Draft is a certificate without its signature, which its template's linter has
// passed. It is a single-use token: only Prepare makes one, after the linter said
// yes, and Sign takes it once. Signing what was not linted can not be written.
type Draft struct {
	serial    Serial
	notBefore time.Time
	notAfter  time.Time
	spkiHash  [sha256.Size]byte
	profile   *Template
	tbs       []byte
	scheme    Scheme
	used      atomic.Bool
}

// Prepare checks an order, builds the exact bytes to be signed and has them
// linted. The issuer's private key is not involved, so everything that can be
// refused is refused here, before an intent is written or an HSM called. Errors:
// ErrProfile, ErrKeyAlgorithm, ErrKeyBlocked, ErrExtension, ErrSubject, ErrAltName,
// ErrSerial, ErrIssuerExpired, ErrLocation, ErrLint.
func Prepare(o Order) (*Draft, error) {
	if o.Request == nil {
		return nil, fmt.Errorf("prepare: %w: no request", ErrProfile)
	}
	s := o.Stencil
	if s == nil {
		var err error
		if s, err = NewStencil(o.Profile, o.Issuer, o.Locations); err != nil {
			return nil, fmt.Errorf("prepare: %w", err)
		}
	}
	p := &s.profile.profile
	if !o.Serial.ok() {
		return nil, fmt.Errorf("prepare: %w", ErrSerial)
	}
	if !p.allows(o.Request.algorithm, o.Request.bits) {
		return nil, fmt.Errorf("prepare: %w: %s of %d bits for %s", ErrKeyAlgorithm, o.Request.algorithm, o.Request.bits, p.Name)
	}
	if err := s.profile.checks.Blocked.check(o.Request); err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	if err := o.Request.asks.check(p, &o.AltNames); err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	if err := p.Subject.check(&o.Subject); err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	if err := p.AltNames.check(&o.AltNames); err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	d := &Draft{serial: o.Serial, spkiHash: o.Request.spkiHash, profile: s.profile}
	if err := d.setIssuer(&o, s); err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	if err := d.encode(&o, s); err != nil {
		return nil, fmt.Errorf("prepare: %w: %w", ErrProfile, err)
	}
	if err := s.profile.checks.Linter.Candidate(&Candidate{draft: d, order: &o, stencil: s}); err != nil {
		return nil, fmt.Errorf("prepare: %w: %w", ErrLint, err)
	}
	return d, nil
}

// setIssuer chooses who signs and the validity within theirs. notAfter is the
// last valid second: the RFC counts it as valid, so one second less than
// notBefore + validity is the validity that was asked for.
func (d *Draft) setIssuer(o *Order, s *Stencil) (err error) {
	p, issuer := &s.profile.profile, s.issuer
	now := o.Now.UTC().Truncate(time.Second)
	d.notBefore = now.Add(-p.Backdate)
	if issuer == nil {
		d.scheme, err = SchemeOf(o.Request.key)
	} else {
		d.scheme = issuer.scheme
		err = issuer.admits(p, now)
	}
	if err != nil {
		return err
	}
	if issuer != nil && d.notBefore.Before(issuer.certificate.NotBefore) {
		d.notBefore = issuer.certificate.NotBefore.UTC()
	}
	d.notAfter = d.notBefore.Add(p.Validity - time.Second)
	if issuer != nil && d.notAfter.After(issuer.certificate.NotAfter) {
		d.notAfter = issuer.certificate.NotAfter.UTC()
	}
	return nil
}

// Sign has the issuer's key sign the draft and returns the certificate in DER.
// It works once: a second certificate needs a second serial and a second intent,
// so even a failed attempt uses the draft up. Before the certificate leaves, the
// signature is verified with the issuer's public key (Checks.VerifyEvery) and the
// signed part is compared with the draft: an HSM that computes wrongly, or a key that is not
// the issuer's, is found here and not by a phone. Errors: ErrDraftUsed,
// ErrSigning; the signer's own error stays in the chain.
func (d *Draft) Sign(key crypto.Signer) ([]byte, error) {
	if !d.used.CompareAndSwap(false, true) {
		return nil, ErrDraftUsed
	}
	verify := d.profile.verifies()
	der, err := d.scheme.sign(key, d.tbs, verify)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", d.serial, err)
	}
	if !verify {
		if !d.scheme.framed(der, d.tbs) {
			return nil, fmt.Errorf("%w: what was signed is not the draft, or the signature is malformed", ErrSigning)
		}
		return der, nil
	}
	cert, err := parseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSigning, err)
	}
	if !bytes.Equal(cert.RawTBSCertificate, d.tbs) {
		return nil, fmt.Errorf("%w: what was signed is not the draft", ErrSigning)
	}
	return der, nil
}

// Serial returns the serial number.
func (d *Draft) Serial() Serial { return d.serial }

// NotBefore returns the first valid second, in UTC.
func (d *Draft) NotBefore() time.Time { return d.notBefore }

// NotAfter returns the last valid second, in UTC.
func (d *Draft) NotAfter() time.Time { return d.notAfter }

// SPKIHash returns SHA-256 over the subject's public key info.
func (d *Draft) SPKIHash() [sha256.Size]byte { return d.spkiHash }

// Profile returns the template that the draft was made with.
func (d *Draft) Profile() *Template { return d.profile }

// TBS returns a copy of the bytes to be signed, for linters and transcripts.
func (d *Draft) TBS() []byte { return bytes.Clone(d.tbs) }
