package issuance

import (
	"encoding/asn1"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// AltNames are the hosts that a certificate stands for (subjectAltName). Like
// the subject they come from the caller, who knows whose they are.
type AltNames struct {
	DNS []string // in lower case, without wildcards
	IP  []netip.Addr
}

func (a *AltNames) empty() bool { return len(a.DNS)+len(a.IP) == 0 }

// AltNamePolicy lists what alternative names may be; all else is refused.
type AltNamePolicy struct {
	Required bool     `yaml:"required"` // at least one name
	DNS      []string `yaml:"dns"`      // host.example.com: just this; *.example.com: all below; *: any
	IP       []string `yaml:"ip"`       // prefixes: 10.0.0.0/8
}

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

func (p *AltNamePolicy) validate() error {
	if p.Required && len(p.DNS)+len(p.IP) == 0 {
		return errors.New("an alternative name is required, but none is allowed")
	}
	for _, d := range p.DNS {
		if d != "*" && !validHost(strings.TrimPrefix(d, "*.")) {
			return fmt.Errorf("alt_names: %q is no host name, *.domain or *", d)
		}
	}
	for _, s := range p.IP {
		if prefix, err := netip.ParsePrefix(s); err != nil || prefix != prefix.Masked() || prefix.Addr().Is4In6() {
			return fmt.Errorf("alt_names: %q is no prefix such as 10.0.0.0/8", s)
		}
	}
	return nil
}

// check compares names with the policy.
func (p *AltNamePolicy) check(a *AltNames) error {
	switch {
	case p.Required && a.empty():
		return fmt.Errorf("%w: one is required", ErrAltName)
	case len(a.DNS)+len(a.IP) > maxAltNames:
		return fmt.Errorf("%w: more than %d", ErrAltName, maxAltNames)
	}
	for i, d := range a.DNS {
		if !validHost(d) || slices.Contains(a.DNS[:i], d) || !slices.ContainsFunc(p.DNS, func(s string) bool { return admitsHost(s, d) }) {
			return fmt.Errorf("%w: a host name", ErrAltName)
		}
	}
	for i, ip := range a.IP {
		ok := slices.ContainsFunc(p.IP, func(s string) bool {
			prefix, err := netip.ParsePrefix(s)
			return err == nil && prefix.Contains(ip)
		})
		if !ok || ip.Zone() != "" || slices.Contains(a.IP[:i], ip) {
			return fmt.Errorf("%w: an address", ErrAltName)
		}
	}
	return nil
}

func admitsHost(pattern, host string) bool {
	if domain, below := strings.CutPrefix(pattern, "*"); below {
		return strings.HasSuffix(host, domain)
	}
	return pattern == host
}

// validHost accepts RFC 1123 host names in lower case. Encoded international
// labels (xn--) are left out: two of them can look the same.
func validHost(s string) bool {
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if len(l) == 0 || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || len(l) > 3 && l[2:4] == "--" {
			return false
		}
		for _, c := range []byte(l) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
	}
	// An address is no name: the last label has a letter.
	return strings.IndexFunc(labels[len(labels)-1], func(r rune) bool { return r >= 'a' && r <= 'z' }) >= 0
}

// encode returns the extension, if there are any; not critical, as the subject is
// never empty.
func (a *AltNames) encode() ([]byte, error) {
	if a.empty() {
		return nil, nil
	}
	var b cryptobyte.Builder
	addExtension(&b, oidSubjectAltName, false, func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, d := range a.DNS {
				b.AddASN1(casn1.Tag(2).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(d)) })
			}
			for _, ip := range a.IP {
				b.AddASN1(casn1.Tag(7).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(ip.AsSlice()) })
			}
		})
	})
	return b.Bytes()
}

// readAltNames takes the names that a request asks for. other is true when some
// are of a kind that no profile gives.
func readAltNames(s cryptobyte.String) (a AltNames, other, ok bool) {
	var seq cryptobyte.String
	if !s.ReadASN1(&seq, casn1.SEQUENCE) || !s.Empty() || seq.Empty() {
		return a, false, false
	}
	for !seq.Empty() {
		var name cryptobyte.String
		var tag casn1.Tag
		if !seq.ReadAnyASN1(&name, &tag) {
			return a, false, false
		}
		switch tag {
		case casn1.Tag(2).ContextSpecific():
			a.DNS = append(a.DNS, strings.ToLower(string(name)))
		case casn1.Tag(7).ContextSpecific():
			ip, valid := netip.AddrFromSlice(name)
			if !valid {
				return a, false, false
			}
			a.IP = append(a.IP, ip)
		default:
			other = true
		}
	}
	return a, other, true
}
