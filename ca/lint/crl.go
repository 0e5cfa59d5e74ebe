package lint

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"strings"

	"github.com/signet-hsm/signet/ca/issuance"
)

// CRL applies all rules to a signed CRL and verifies its signature. issuer is the
// certificate of the CA that signed it. The findings are sorted by rule.
func CRL(der []byte, issuer *x509.Certificate) []Finding { return judgeCRL(der, issuer, issuer) }

// DelegatedCRL is CRL for one that another key of the issuer's has signed: signer
// is the certificate that the issuer gave it, under the issuer's own name.
func DelegatedCRL(der []byte, issuer, signer *x509.Certificate) []Finding {
	return judgeCRL(der, issuer, signer)
}

func judgeCRL(der []byte, issuer, signer *x509.Certificate) []Finding {
	o := &ours{found: zlintCRL(der)}
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		o.expect(false, "syntax", "%v", err)
		return sorted(o.found)
	}
	scheme, err := issuance.SchemeOf(signer.PublicKey)
	o.expect(err == nil && crl.SignatureAlgorithm == scheme.Algorithm(), "algorithm", "is not the one of the issuer's key")
	if signer == issuer {
		o.expect(crl.CheckSignatureFrom(issuer) == nil, "signature", "does not verify with the issuer's key, or that may not sign CRLs")
	} else {
		o.crlDelegate(crl, issuer, signer)
	}
	o.expect(bytes.Equal(crl.RawIssuer, issuer.RawSubject), "issuer", "must be the issuer's subject, byte for byte")
	o.expect(bytes.Equal(crl.AuthorityKeyId, signer.SubjectKeyId), "authority_key_id", "must be the signer's key identifier")
	o.expect(crl.Number != nil && crl.Number.Sign() >= 0 && crl.Number.BitLen() < 160, "crl_number", "must be a number of at most 20 bytes")
	o.expect(crl.NextUpdate.After(crl.ThisUpdate), "crl_dates", "nextUpdate must be after thisUpdate")
	for i, e := range crl.Extensions {
		critical, known := crlExtensions[e.Id.String()]
		o.expect(known, "extension", "%s is none of ours", e.Id)
		o.expect(!known || critical == e.Critical, "criticality", "of %s", e.Id)
		o.expect(!slices.ContainsFunc(crl.Extensions[:i], func(f pkix.Extension) bool { return f.Id.Equal(e.Id) }), "extension_twice", "%s", e.Id)
		if e.Id.String() == oidIDP {
			o.distributionPoint(e.Value)
		}
	}
	o.entries(crl)
	return sorted(o.found)
}

// crlDelegate holds what makes a CRL by another key the issuer's own: the same name,
// a certificate by the issuer, for this alone, for as long as the CRL counts.
func (o *ours) crlDelegate(crl *x509.RevocationList, issuer, signer *x509.Certificate) {
	// Not CheckSignatureFrom, which wants a CA.
	o.expect(signer.CheckSignature(crl.SignatureAlgorithm, crl.RawTBSRevocationList, crl.Signature) == nil, "signature", "does not verify with the signer's key")
	o.expect(bytes.Equal(signer.RawSubject, issuer.RawSubject), "crl_delegate", "bears another name than the issuer")
	o.expect(bytes.Equal(signer.RawIssuer, issuer.RawSubject) && signer.CheckSignatureFrom(issuer) == nil, "crl_delegate", "was not certified by the issuer")
	o.expect(!signer.IsCA && signer.KeyUsage == x509.KeyUsageCRLSign, "crl_delegate", "is for something else as well")
	o.expect(!crl.ThisUpdate.Before(signer.NotBefore) && !crl.NextUpdate.After(signer.NotAfter), "crl_delegate", "is not valid for as long as the CRL")
}

const oidIDP = "2.5.29.28"

var crlExtensions = map[string]bool{
	"2.5.29.35": false, // authorityKeyIdentifier
	"2.5.29.20": false, // cRLNumber
	oidIDP:      true,  // issuingDistributionPoint, of a shard

	"1.3.6.1.5.5.7.1.1": false, // authorityInfoAccess: where the certificate of another key is
}

// distributionPoint: a shard says its own address and nothing else; the flags for
// kinds of certificates and indirect CRLs are not for us.
func (o *ours) distributionPoint(der []byte) {
	var idp struct {
		Point struct {
			FullName []asn1.RawValue `asn1:"optional,tag:0"`
		} `asn1:"optional,tag:0"`
	}
	rest, err := asn1.Unmarshal(der, &idp)
	ok := err == nil && len(rest) == 0 && len(idp.Point.FullName) > 0
	for _, n := range idp.Point.FullName {
		ok = ok && n.Class == asn1.ClassContextSpecific && n.Tag == 6 && strings.HasPrefix(string(n.Bytes), "http://")
	}
	again, err := asn1.Marshal(idp)
	o.expect(ok && err == nil && bytes.Equal(again, der), "distribution_point", "must name http addresses and nothing else")
}

func (o *ours) entries(crl *x509.RevocationList) {
	seen := make(map[[16]byte]struct{}, len(crl.RevokedCertificateEntries))
	for _, e := range crl.RevokedCertificateEntries {
		raw := e.SerialNumber.Bytes()
		if e.SerialNumber.Cmp(new(big.Int)) <= 0 || !serialOK(raw) {
			o.expect(false, "serial", "%x is none of ours", raw)
			continue
		}
		_, twice := seen[[16]byte(raw)]
		o.expect(!twice, "serial_twice", "%x", raw)
		seen[[16]byte(raw)] = struct{}{}
		o.expect(!e.RevocationTime.After(crl.ThisUpdate), "revocation_date", "%x is after thisUpdate", raw)
		// RFC 5280 section 5.3.1: unspecified is said by saying nothing; 7 is not
		// used; removeFromCRL is for deltas.
		explicit := slices.ContainsFunc(e.Extensions, func(x pkix.Extension) bool { return x.Id.String() == "2.5.29.21" })
		switch e.ReasonCode {
		case 0:
			o.expect(!explicit, "reason", "%x: unspecified must be left out", raw)
		case 1, 2, 3, 4, 5, 6, 9, 10:
		default:
			o.expect(false, "reason", "%x: %d", raw, e.ReasonCode)
		}
	}
}
