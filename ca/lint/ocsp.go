package lint

import (
	"bytes"
	"crypto"
	"crypto/sha1" //nolint:gosec // RFC 6960 names responders by it
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"

	"golang.org/x/crypto/ocsp"

	"github.com/signet-hsm/signet/ca/issuance"
)

// OCSP applies all rules to a signed, successful OCSP response for one
// certificate, and verifies its signature. issuer is the CA that issued the
// certificate in question. The findings are sorted by rule.
func OCSP(der []byte, issuer *x509.Certificate) []Finding {
	r, err := ocsp.ParseResponse(der, issuer) // verifies the signature and the responder's certificate
	if err != nil {
		o := &ours{}
		o.expect(false, "syntax", "%v", err)
		return o.found
	}
	return OCSPParsed(r, issuer)
}

// OCSPParsed is OCSP for a response that golang.org/x/crypto/ocsp has read and
// verified.
func OCSPParsed(r *ocsp.Response, issuer *x509.Certificate) []Finding {
	o := &ours{found: zlintOCSP(r)}
	responder := issuer
	if r.Certificate != nil {
		responder = r.Certificate
		o.delegate(r, issuer)
	}
	scheme, err := issuance.SchemeOf(responder.PublicKey)
	o.expect(err == nil && r.SignatureAlgorithm == scheme.Algorithm(), "algorithm", "is not the one of the responder's key")
	o.expect(r.IssuerHash == crypto.SHA1 || r.IssuerHash == crypto.SHA256, "ocsp_hash", "issuer named by %s", r.IssuerHash)
	o.expect(!r.NextUpdate.IsZero() && r.NextUpdate.After(r.ThisUpdate), "ocsp_dates", "nextUpdate must be there and after thisUpdate")
	o.expect(!r.ThisUpdate.After(r.ProducedAt), "ocsp_dates", "thisUpdate must not be after producedAt")
	switch r.Status {
	case ocsp.Good, ocsp.Unknown:
	case ocsp.Revoked:
		o.expect(!r.RevokedAt.IsZero() && !r.RevokedAt.After(r.ThisUpdate), "revocation_date", "must be there and not after thisUpdate")
		o.expect(r.RevocationReason != 7 && r.RevocationReason >= 0 && r.RevocationReason <= 10, "reason", "%d", r.RevocationReason)
	default:
		o.expect(false, "ocsp_status", "%d", r.Status)
	}
	for _, e := range r.Extensions {
		o.expect(!e.Critical, "criticality", "of %s", e.Id)
	}
	return sorted(o.found)
}

// delegate: the responder's certificate is the issuer's own, only for this, not
// to be checked further, and outlives what it answers (RFC 6960 section 4.2.2.2).
func (o *ours) delegate(r *ocsp.Response, issuer *x509.Certificate) {
	c := r.Certificate
	o.expect(bytes.Equal(c.RawIssuer, issuer.RawSubject) && bytes.Equal(c.AuthorityKeyId, issuer.SubjectKeyId), "ocsp_delegate", "is not the issuer's")
	o.expect(!c.IsCA && slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}), "ocsp_delegate", "is for something else as well")
	nocheck := false
	for _, e := range c.Extensions {
		nocheck = nocheck || e.Id.String() == "1.3.6.1.5.5.7.48.1.5"
	}
	o.expect(nocheck, "ocsp_delegate", "has no id-pkix-ocsp-nocheck")
	o.expect(!r.ProducedAt.Before(c.NotBefore) && !r.NextUpdate.After(c.NotAfter), "ocsp_delegate", "the response outlives the responder's certificate")
	o.expect(bytes.Equal(r.ResponderKeyHash, keyHash(c)) || bytes.Equal(r.RawResponderName, c.RawSubject), "ocsp_responder_id", "does not name the responder")
}

// keyHash is KeyHash of RFC 6960: SHA-1 over the content of the public key.
func keyHash(c *x509.Certificate) []byte {
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(c.RawSubjectPublicKeyInfo, &spki); err != nil {
		return nil
	}
	sum := sha1.Sum(spki.Key.RightAlign()) //nolint:gosec // see above
	return sum[:]
}
