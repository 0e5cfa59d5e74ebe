package lint

import (
	stdx509 "crypto/x509"
	"fmt"
	"sync"

	"github.com/zmap/zcrypto/x509"
	zlint "github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"
	"golang.org/x/crypto/ocsp"
)

// Version is the zlint whose rules these are. A test compares it with the linked
// one: another version is another set of rules, to be looked through first.
const Version = "v3.6.8"

// sources are the bodies whose rules bind a private PKI. The CA/B forum's, the
// root programs' and ETSI's bind public or qualified ones: their rules demand
// what we do not have (policy OIDs, SCTs) or forbid what we need (20-year roots).
var sources = lint.SourceList{
	lint.RFC3279, lint.RFC5280, lint.RFC5480, lint.RFC5891, lint.RFC6960, lint.RFC6962, lint.RFC8813, lint.Community,
}

// Exclusion is a rule of those sources that is not applied.
type Exclusion struct{ Rule, Reason string }

// Excluded lists them all; a test fails when one does not exist any more.
var Excluded = []Exclusion{
	{"e_subj_contains_html_entities", "judges the wording of a name, which an operator may choose freely"},
	{"e_utf8_latin1_mixup", "judges the wording of a name: a guess at wrong transcoding"},
}

var registry = sync.OnceValue(func() lint.Registry {
	exclude := make([]string, len(Excluded))
	for i, e := range Excluded {
		exclude[i] = e.Rule
	}
	r, err := lint.GlobalRegistry().Filter(lint.FilterOptions{IncludeSources: sources, ExcludeNames: exclude})
	if err != nil {
		panic(err) // a rule in Excluded is unknown: tests see it
	}
	return r
})

var _ = zlint.Version // registers the rules

// zlintCertificate applies the pinned rules to a certificate.
func zlintCertificate(der []byte) []Finding {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return []Finding{{"signet_syntax", "signet", Error, err.Error()}}
	}
	var found []Finding
	r := registry()
	for _, l := range r.CertificateLints().Lints() {
		found = add(found, l.LintMetadata, func() *lint.LintResult { return l.Execute(cert, r.GetConfiguration()) })
	}
	return found
}

func zlintCRL(der []byte) []Finding {
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		return []Finding{{"signet_syntax", "signet", Error, err.Error()}}
	}
	var found []Finding
	r := registry()
	for _, l := range r.RevocationListLints().Lints() {
		found = add(found, l.LintMetadata, func() *lint.LintResult { return l.Execute(crl, r.GetConfiguration()) })
	}
	return found
}

func zlintOCSP(response *ocsp.Response) []Finding {
	var found []Finding
	r := registry()
	for _, l := range r.OcspResponseLints().Lints() {
		found = add(found, l.LintMetadata, func() *lint.LintResult { return l.Execute(response, r.GetConfiguration()) })
	}
	return found
}

// add runs one rule. One that panics (zlint catches it for certificates only) has
// judged nothing, which counts as broken.
func add(found []Finding, meta lint.LintMetadata, run func() *lint.LintResult) (out []Finding) {
	out = found
	defer func() {
		if p := recover(); p != nil {
			out = append(found, Finding{meta.Name, string(meta.Source), Error, fmt.Sprintf("panic: %v", p)})
		}
	}()
	switch result := run(); result.Status {
	case lint.Reserved, lint.NA, lint.NE, lint.Pass, lint.Notice:
	case lint.Warn:
		out = append(found, Finding{meta.Name, string(meta.Source), Warning, result.Details})
	default:
		out = append(found, Finding{meta.Name, string(meta.Source), Error, result.Details})
	}
	return out
}

// Certificate applies all rules that need no profile. issuer is the certificate
// whose key signs; nil for a self-signed one.
func Certificate(der []byte, issuer *stdx509.Certificate) []Finding {
	return Profiled(der, issuer, nil)
}

// Rules counts the pinned rules of zlint: for certificates, CRLs and OCSP.
func Rules() (certificates, crls, responses int) {
	r := registry()
	return len(r.CertificateLints().Lints()), len(r.RevocationListLints().Lints()), len(r.OcspResponseLints().Lints())
}
