package revocation

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/lint"
)

// verdict is what an OCSP response says.
type verdict struct {
	issuer     *Issuer
	serial     issuance.Serial
	hash       *certHash
	revoked    bool
	reason     Reason
	revokedAt  time.Time
	thisUpdate time.Time // also producedAt
	nextUpdate time.Time
}

var oidBasicResponse = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}

// encode builds the ResponseData of RFC 6960 section 4.2.1. ocsp.CreateResponse
// is not used: it takes the clock of the machine for producedAt, names the
// responder by its subject where RFC 5019 wants the shorter key hash, and states
// the reason "unspecified", which is to be left out.
func (v *verdict) encode(responder *x509.Certificate) ([]byte, error) {
	issuerKey, ok := keyBits(v.issuer.Certificate.RawSubjectPublicKeyInfo)
	responderKey, ok2 := keyBits(responder.RawSubjectPublicKeyInfo)
	if !ok || !ok2 {
		return nil, fmt.Errorf("%w: a key that is no bit string", ErrCheck)
	}
	tag := func(n uint8) casn1.Tag { return casn1.Tag(n).ContextSpecific() }
	b := cryptobyte.NewBuilder(make([]byte, 0, 256))
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(tag(2).Constructed(), func(b *cryptobyte.Builder) { // responderID byKey: SHA-1, and no other
			b.AddASN1OctetString(hashNamed("SHA-1").sum(responderKey))
		})
		b.AddASN1GeneralizedTime(v.thisUpdate)
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) { // certID
					b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1ObjectIdentifier(v.hash.oid)
						b.AddASN1NULL()
					})
					b.AddASN1OctetString(v.hash.sum(v.issuer.Certificate.RawSubject))
					b.AddASN1OctetString(v.hash.sum(issuerKey))
					b.AddASN1(casn1.INTEGER, func(b *cryptobyte.Builder) { b.AddBytes(v.serial[:]) })
				})
				v.addStatus(b)
				b.AddASN1GeneralizedTime(v.thisUpdate)
				b.AddASN1(tag(0).Constructed(), func(b *cryptobyte.Builder) { b.AddASN1GeneralizedTime(v.nextUpdate) })
			})
		})
	})
	return b.Bytes()
}

func (v *verdict) addStatus(b *cryptobyte.Builder) {
	if !v.revoked {
		b.AddASN1(casn1.Tag(0).ContextSpecific(), func(*cryptobyte.Builder) {}) // good
		return
	}
	b.AddASN1(casn1.Tag(1).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
		b.AddASN1GeneralizedTime(v.revokedAt)
		if v.reason != Unspecified {
			b.AddASN1(casn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(v.reason)) })
		}
	})
}

// sign has the delegated key sign and checks the result as a client does.
func (v *verdict) sign(responder *x509.Certificate, key crypto.Signer) ([]byte, error) {
	tbs, err := v.encode(responder)
	if err != nil {
		return nil, err
	}
	scheme, err := issuance.SchemeOf(responder.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCheck, err)
	}
	signed, err := scheme.Sign(key, tbs)
	if err != nil {
		return nil, fmt.Errorf("revocation: sign OCSP response: %w", err)
	}
	// A BasicOCSPResponse is the signed structure with certificates behind it.
	var inner cryptobyte.String
	if outer := cryptobyte.String(signed); !outer.ReadASN1(&inner, casn1.SEQUENCE) {
		return nil, fmt.Errorf("%w: signed structure", ErrCheck)
	}
	tag := casn1.Tag(0).ContextSpecific().Constructed()
	b := cryptobyte.NewBuilder(make([]byte, 0, len(signed)+len(responder.Raw)+64))
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Enum(int64(ocsp.Success))
		b.AddASN1(tag, func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidBasicResponse)
				b.AddASN1(casn1.OCTET_STRING, func(b *cryptobyte.Builder) {
					b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddBytes(inner)
						b.AddASN1(tag, func(b *cryptobyte.Builder) {
							b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(responder.Raw) })
						})
					})
				})
			})
		})
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCheck, err)
	}
	return der, v.check(der, responder)
}

// check reads a new response with another implementation.
func (v *verdict) check(der []byte, responder *x509.Certificate) error {
	got, err := ocsp.ParseResponse(der, v.issuer.Certificate) // signature and delegation
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCheck, err)
	}
	if err := lint.Err(lint.OCSPParsed(got, v.issuer.Certificate)); err != nil {
		return fmt.Errorf("%w: OCSP response: %w", ErrCheck, err)
	}
	bad := func(what string) error { return fmt.Errorf("%w: OCSP response: %s", ErrCheck, what) }
	status := ocsp.Good
	if v.revoked {
		status = ocsp.Revoked
	}
	switch {
	case got.Certificate == nil || !bytes.Equal(got.Certificate.Raw, responder.Raw):
		return bad("responder")
	case got.Status != status:
		return bad("status")
	case !bytes.Equal(got.SerialNumber.Bytes(), v.serial[:]):
		return bad("serial")
	case got.IssuerHash != v.hash.hash:
		return bad("hash")
	case !got.ThisUpdate.Equal(v.thisUpdate), !got.NextUpdate.Equal(v.nextUpdate), !got.NextUpdate.After(got.ThisUpdate):
		return bad("validity")
	case v.revoked && (got.RevocationReason != int(v.reason) || !got.RevokedAt.Equal(v.revokedAt)):
		return bad("revocation")
	}
	return nil
}
