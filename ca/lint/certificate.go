package lint

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/signet-hsm/signet/ca/issuance"
)

// Profiled is Certificate and, when p is not nil, everything that the profile
// says. Its findings are sorted by rule.
func Profiled(der []byte, issuer *x509.Certificate, p *issuance.Profile) []Finding {
	found := zlintCertificate(der)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return sorted(append(found, Finding{"signet_syntax", "signet", Error, err.Error()}))
	}
	t, err := parseTBS(cert.RawTBSCertificate)
	if err != nil {
		return sorted(append(found, Finding{"signet_syntax", "signet", Error, err.Error()}))
	}
	o := &ours{found: found}
	subject := judgeKey(cert)
	o.certificate(&t, cert, issuer, subject)
	if p != nil {
		o.profile(&t, cert, issuer, subject, p)
	}
	return sorted(o.found)
}

// judgedKey is the verdict on a subject's key, which costs more than all else and
// is needed twice.
type judgedKey struct {
	algorithm issuance.KeyAlgorithm
	bits      int
	err       error
}

func judgeKey(cert *x509.Certificate) (k judgedKey) {
	k.algorithm, k.bits, k.err = issuance.CheckKey(cert.PublicKey)
	return k
}

// certificate holds the rules of this engine for all certificates.
func (o *ours) certificate(t *tbs, cert, issuer *x509.Certificate, subject judgedKey) {
	o.expect(bytes.Equal(t.version, version3), "version", "not X.509 v3")
	o.expect(serialOK(t.serial), "serial", "must be 16 bytes, positive, the first not zero: %x", t.serial)
	o.expect(!t.notAfter.Before(t.notBefore), "validity", "ends before it begins")
	o.expect(bytes.Equal(cert.SubjectKeyId, t.keyID[:]), "subject_key_id", "must be 160 bits of SHA-256 over the key (RFC 7093)")
	o.expect(subject.err == nil, "key", "%v", subject.err)
	key := cert.PublicKey
	if issuer != nil {
		key = issuer.PublicKey
		o.expect(bytes.Equal(t.issuer, issuer.RawSubject), "issuer", "must be the issuer's subject, byte for byte")
		o.expect(bytes.Equal(cert.AuthorityKeyId, issuer.SubjectKeyId), "authority_key_id", "must be the issuer's key identifier")
		o.expect(!t.notBefore.Before(issuer.NotBefore) && !t.notAfter.After(issuer.NotAfter), "nested_validity", "must lie within the issuer's")
	} else {
		o.expect(bytes.Equal(t.issuer, t.subject), "issuer", "self-signed: must be the subject")
		o.expect(len(cert.AuthorityKeyId) == 0, "authority_key_id", "self-signed: must be absent")
	}
	scheme, err := issuance.SchemeOf(key)
	o.expect(err == nil && bytes.Equal(t.algorithm, scheme.Identifier()), "algorithm", "is not the one of the issuer's key")
	extensions, err := parseExtensions(t.extensions)
	o.expect(err == nil, "extensions", "malformed")
	for i, e := range extensions {
		critical, known := extensionRules[e.oid.String()]
		o.expect(known, "extension", "%s is none of ours", e.oid)
		o.expect(!known || critical == e.critical, "criticality", "of %s", e.oid)
		o.expect(!slices.ContainsFunc(extensions[:i], func(f extension) bool { return f.oid.Equal(e.oid) }), "extension_twice", "%s", e.oid)
	}
}

var version3 = []byte{0xa0, 3, 2, 1, 2}

func serialOK(b []byte) bool { return len(b) == 16 && b[0] != 0 && b[0] < 0x80 }

// extensionRules lists every extension that we write, and whether it is critical.
var extensionRules = map[string]bool{
	"2.5.29.14":            false, // subjectKeyIdentifier
	"2.5.29.15":            true,  // keyUsage
	"2.5.29.17":            false, // subjectAltName
	"2.5.29.19":            true,  // basicConstraints
	"2.5.29.31":            false, // cRLDistributionPoints
	"2.5.29.35":            false, // authorityKeyIdentifier
	"2.5.29.37":            false, // extKeyUsage
	"1.3.6.1.5.5.7.1.1":    false, // authorityInfoAccess
	"1.3.6.1.5.5.7.48.1.5": false, // id-pkix-ocsp-nocheck
}

var keyUsages = map[issuance.KeyUsage]x509.KeyUsage{
	issuance.DigitalSignature: x509.KeyUsageDigitalSignature, issuance.ContentCommitment: x509.KeyUsageContentCommitment,
	issuance.KeyEncipherment: x509.KeyUsageKeyEncipherment, issuance.KeyAgreement: x509.KeyUsageKeyAgreement,
	issuance.CertSign: x509.KeyUsageCertSign, issuance.CRLSign: x509.KeyUsageCRLSign,
}

var purposes = map[issuance.ExtKeyUsage]string{
	issuance.ServerAuth: "1.3.6.1.5.5.7.3.1", issuance.ClientAuth: "1.3.6.1.5.5.7.3.2",
	issuance.AnswerOCSP: "1.3.6.1.5.5.7.3.9", issuance.DocumentSigning: "1.3.6.1.5.5.7.3.36",
}

// profile compares a certificate with what its profile says, without the code
// that made it.
func (o *ours) profile(t *tbs, cert, issuer *x509.Certificate, subject judgedKey, p *issuance.Profile) {
	o.expect(p.SelfSigned == (issuer == nil), "profile_issuer", "self-signed or not")
	o.expect(spanOK(t, issuer, p), "profile_validity", "%s to %s is not %s, the last second included", t.notBefore, t.notAfter, p.Validity)
	o.expect(cert.BasicConstraintsValid && cert.IsCA == p.CA, "profile_ca", "CA is %v", cert.IsCA)
	path := cert.MaxPathLen
	if !cert.IsCA {
		path = 0 // the library says -1
	}
	o.expect(path == p.MaxPath, "profile_path", "path limit %d", cert.MaxPathLen)
	var usage x509.KeyUsage
	for _, u := range p.KeyUsages {
		usage |= keyUsages[u]
	}
	o.expect(cert.KeyUsage == usage, "profile_key_usage", "%b", cert.KeyUsage)
	o.expect(slices.Equal(purposesOf(cert), wantedPurposes(p)), "profile_purposes", "%v", purposesOf(cert))
	nocheck := slices.ContainsFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Id.String() == "1.3.6.1.5.5.7.48.1.5" })
	o.expect(nocheck == p.OCSPNoCheck, "profile_nocheck", "id-pkix-ocsp-nocheck is there: %v", nocheck)
	o.expect(subject.err == nil && slices.Contains(p.Keys, subject.algorithm) && (subject.algorithm != issuance.RSA || subject.bits >= p.MinRSABits),
		"profile_key", "%s of %d bits", subject.algorithm, subject.bits)
	if p.SelfIssued {
		o.expect(issuer != nil && bytes.Equal(t.subject, issuer.RawSubject), "profile_subject", "must be the issuer's, byte for byte")
	} else {
		o.expect(subjectOK(t.subject, &p.Subject), "profile_subject", "does not fit the policy")
	}
	o.altNames(cert, &p.AltNames)
}

// spanOK is the inclusive notAfter: first and last second both count, so the
// validity is one second longer than the difference. Only the end of the issuer
// cuts it.
func spanOK(t *tbs, issuer *x509.Certificate, p *issuance.Profile) bool {
	span := t.notAfter.Sub(t.notBefore) + time.Second
	return span == p.Validity || issuer != nil && t.notAfter.Equal(issuer.NotAfter) && span < p.Validity
}

func purposesOf(cert *x509.Certificate) (out []string) {
	for _, e := range cert.Extensions {
		if e.Id.String() != "2.5.29.37" {
			continue
		}
		var oids []asn1.ObjectIdentifier
		if rest, err := asn1.Unmarshal(e.Value, &oids); err != nil || len(rest) > 0 {
			return []string{"malformed"}
		}
		for _, oid := range oids {
			out = append(out, oid.String())
		}
	}
	slices.Sort(out)
	return out
}

func wantedPurposes(p *issuance.Profile) (out []string) {
	for _, u := range p.ExtKeyUsages {
		out = append(out, purposes[u])
	}
	slices.Sort(out)
	return out
}

var attributes = map[string]issuance.Attribute{
	"2.5.4.6": issuance.Country, "2.5.4.10": issuance.Organization, "2.5.4.11": issuance.OrganizationalUnit,
	"2.5.4.3": issuance.CommonName, "2.5.4.5": issuance.SerialNumber,
}

// subjectOK: every attribute is allowed, once, in its string type and length; no
// required one is missing.
func subjectOK(der []byte, p *issuance.SubjectPolicy) bool {
	name, err := parseName(der)
	if err != nil {
		return false
	}
	var seen []issuance.Attribute
	for _, a := range name {
		kind, known := attributes[a.oid.String()]
		if !known || slices.Contains(seen, kind) || !slices.Contains(p.Required, kind) && !slices.Contains(p.Optional, kind) || !valueOK(kind, a) {
			return false
		}
		seen = append(seen, kind)
	}
	return !slices.ContainsFunc(p.Required, func(a issuance.Attribute) bool { return !slices.Contains(seen, a) })
}

func valueOK(kind issuance.Attribute, a attribute) bool {
	want := casn1.UTF8String
	if kind == issuance.Country || kind == issuance.SerialNumber {
		want = casn1.PrintableString
	}
	if a.tag != want || a.value == "" || !utf8.ValidString(a.value) || utf8.RuneCountInString(a.value) > 64 || strings.TrimSpace(a.value) != a.value {
		return false
	}
	for _, r := range a.value {
		if r < ' ' || r >= 0x7f && r < 0xa0 || want == casn1.PrintableString && !printable(r) {
			return false
		}
	}
	return kind != issuance.Country || len(a.value) == 2
}

func printable(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(" '()+,-./:=?", r)
}

func (o *ours) altNames(cert *x509.Certificate, p *issuance.AltNamePolicy) {
	o.expect(len(cert.EmailAddresses)+len(cert.URIs) == 0, "profile_alt_names", "kinds that no profile gives")
	o.expect(!p.Required || len(cert.DNSNames)+len(cert.IPAddresses) > 0, "profile_alt_names", "one is required")
	o.expect(len(p.DNS) > 0 || len(cert.DNSNames) == 0, "profile_alt_names", "host names are not allowed")
	o.expect(len(p.IP) > 0 || len(cert.IPAddresses) == 0, "profile_alt_names", "addresses are not allowed")
	for _, d := range cert.DNSNames {
		o.expect(slices.ContainsFunc(p.DNS, func(s string) bool {
			domain, below := strings.CutPrefix(s, "*")
			return s == d || below && strings.HasSuffix(d, domain) && len(d) > len(domain)
		}), "profile_alt_names", "%s is not allowed", d)
	}
}
