package issuance

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Subject is the name in a certificate. Empty fields are left out; the others
// are encoded in the order of the fields, one value to each relative name.
type Subject struct {
	Country            string // two upper-case letters
	Organization       string
	OrganizationalUnit string
	CommonName         string
	SerialNumber       string
}

// Attribute names a field of Subject.
type Attribute string

// The attributes that a subject policy may name.
const (
	Country            Attribute = "country"
	Organization       Attribute = "organization"
	OrganizationalUnit Attribute = "organizationalUnit"
	CommonName         Attribute = "commonName"
	SerialNumber       Attribute = "serialNumber"
)

// attributeNumbers are the types' numbers below id-at, 2.5.4.
var attributeNumbers = map[Attribute]byte{Country: 6, Organization: 10, OrganizationalUnit: 11, CommonName: 3, SerialNumber: 5}

// maxAttribute is ub-common-name and its equals of RFC 5280 appendix A.1, in
// characters.
const maxAttribute = 64

// SubjectPolicy lists what a subject must and may have; all else is refused.
type SubjectPolicy struct {
	Required []Attribute `yaml:"required"`
	Optional []Attribute `yaml:"optional"`
}

func (p *SubjectPolicy) validate() error {
	all := slices.Concat(p.Required, p.Optional)
	switch {
	case len(p.Required) == 0:
		return errors.New("subject requires nothing")
	case !knownSet(all, attributeNumbers):
		return fmt.Errorf("subject must be a set of known attributes: %q", all)
	}
	return nil
}

type attributeValue struct {
	attribute Attribute
	value     string
}

func (s *Subject) values() [5]attributeValue {
	return [...]attributeValue{
		{Country, s.Country},
		{Organization, s.Organization},
		{OrganizationalUnit, s.OrganizationalUnit},
		{CommonName, s.CommonName},
		{SerialNumber, s.SerialNumber},
	}
}

// check compares a subject with the policy.
func (p *SubjectPolicy) check(s *Subject) error {
	for _, av := range s.values() {
		switch {
		case av.value == "" && slices.Contains(p.Required, av.attribute):
			return fmt.Errorf("%w: %s is missing", ErrSubject, av.attribute)
		case av.value == "":
		case !slices.Contains(p.Required, av.attribute) && !slices.Contains(p.Optional, av.attribute):
			return fmt.Errorf("%w: %s is not allowed", ErrSubject, av.attribute)
		case !av.ok():
			return fmt.Errorf("%w: %s has a bad value", ErrSubject, av.attribute)
		}
	}
	return nil
}

func (av attributeValue) ok() bool {
	s := av.value
	if !utf8.ValidString(s) || utf8.RuneCountInString(s) > maxAttribute || strings.TrimSpace(s) != s {
		return false
	}
	for _, r := range s {
		// Control and format characters make two names look alike in a log.
		if !unicode.IsPrint(r) {
			return false
		}
	}
	switch av.attribute {
	case Country:
		return len(s) == 2 && s[0] >= 'A' && s[0] <= 'Z' && s[1] >= 'A' && s[1] <= 'Z'
	case SerialNumber:
		return printableString(s)
	}
	return true
}

// printableString reports whether s fits the ASN.1 type of that name.
func printableString(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte(" '()+,-./:=?", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// size returns how many bytes append appends.
func (s *Subject) size() int { return sizeOf(s.content()) }

func (s *Subject) content() (n int) {
	for _, av := range s.values() {
		if av.value != "" {
			n += sizeOf(sizeOf(len(attributeType) + 1 + sizeOf(len(av.value))))
		}
	}
	return n
}

// attributeType is a type below id-at, up to its last number.
var attributeType = []byte{6, 3, 0x55, 4}

// append appends the Name. RFC 5280 wants country and serialNumber as
// PrintableString and prefers UTF8String for the rest.
func (s *Subject) append(dst []byte) []byte {
	dst = appendHead(dst, tagSequence, s.content())
	for _, av := range s.values() {
		if av.value == "" {
			continue
		}
		tag := byte(tagUTF8)
		if av.attribute == Country || av.attribute == SerialNumber {
			tag = tagPrintable
		}
		pair := len(attributeType) + 1 + sizeOf(len(av.value))
		dst = appendHead(dst, tagSet, sizeOf(pair))
		dst = appendHead(dst, tagSequence, pair)
		dst = append(append(dst, attributeType...), attributeNumbers[av.attribute])
		dst = append(appendHead(dst, tag, len(av.value)), av.value...)
	}
	return dst
}
