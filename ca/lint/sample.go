package lint

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/netip"
	"strings"
	"time"

	"github.com/signet-hsm/signet/ca/issuance"
)

// sampleIssuer makes a CA that may certify anything, of a throw-away key, valid
// around now for longer than any profile.
func sampleIssuer(a x509.SignatureAlgorithm, now time.Time) (*issuance.Authority, error) {
	key, err := issuerKeys[a]()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSample, err)
	}
	name := pkix.Name{CommonName: "signet lint"}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: name, SubjectKeyId: sampleKeyID[:],
		NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(40, 0, 0),
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, &x509.Certificate{Subject: name}, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSample, err)
	}
	return issuance.NewAuthority(der)
}

// sampleKeyID is one that no hash yields. Samples are judged in full, and leave no
// mould behind.
var sampleKeyID [20]byte

func isSample(a *issuance.Authority) bool {
	return a != nil && bytes.Equal(a.Certificate().SubjectKeyId, sampleKeyID[:])
}

// least is the order with nothing that could be left out.
func least(p *issuance.Profile) issuance.Order {
	var o issuance.Order
	for _, a := range p.Subject.Required {
		setAttribute(&o.Subject, a, "x")
	}
	if p.AltNames.Required {
		if o.AltNames.DNS = sampleHosts(p); len(o.AltNames.DNS) > 1 {
			o.AltNames.DNS = o.AltNames.DNS[:1]
		}
		if len(o.AltNames.DNS) == 0 {
			o.AltNames.IP = sampleAddresses(p)[:1]
		}
	}
	return o
}

// most is the order with everything at its longest.
func most(p *issuance.Profile) issuance.Order {
	var o issuance.Order
	for _, a := range append(p.Subject.Required[:len(p.Subject.Required):len(p.Subject.Required)], p.Subject.Optional...) {
		setAttribute(&o.Subject, a, strings.Repeat("x", 64))
	}
	o.AltNames = issuance.AltNames{DNS: sampleHosts(p), IP: sampleAddresses(p)}
	if !p.SelfSigned {
		o.Locations.Issuer = []string{"http://pki.example.com/ca.cer"}
	}
	if !p.SelfSigned && !p.OCSPNoCheck && !p.SelfIssued {
		o.Locations.CRL = []string{"http://pki.example.com/1.crl", "http://pki2.example.com/1.crl"}
		o.Locations.OCSP = []string{"http://pki.example.com/ocsp"}
	}
	return o
}

func setAttribute(s *issuance.Subject, a issuance.Attribute, value string) {
	switch a {
	case issuance.Country:
		s.Country = "DE"
	case issuance.Organization:
		s.Organization = value
	case issuance.OrganizationalUnit:
		s.OrganizationalUnit = value
	case issuance.CommonName:
		s.CommonName = value
	case issuance.SerialNumber:
		s.SerialNumber = value
	}
}

func sampleHosts(p *issuance.Profile) (out []string) {
	for _, d := range p.AltNames.DNS {
		switch domain, below := strings.CutPrefix(d, "*"); {
		case d == "*":
			out = append(out, "lint.example.com")
		case below:
			out = append(out, "lint"+domain)
		default:
			out = append(out, d)
		}
	}
	return dedupe(out)
}

func sampleAddresses(p *issuance.Profile) (out []netip.Addr) {
	for _, s := range p.AltNames.IP {
		if prefix, err := netip.ParsePrefix(s); err == nil {
			out = append(out, prefix.Addr())
		}
	}
	return dedupe(out)
}

func dedupe[T comparable](in []T) (out []T) {
	seen := map[T]bool{}
	for _, v := range in {
		if !seen[v] {
			seen[v] = true
			out = append(out, v)
		}
	}
	return out
}
