package signature

import "strings"

// Version is a 3.x protocol version. The zero value is no version.
type Version uint8

// The versions a header may name; nothing else is accepted.
const (
	V30 Version = iota + 1 // decimal online signatures, ECIES without nonce
	V31                    // Base64 signatures, ECIES nonce
	V32                    // ECIES timestamp and associated data, token digest covers the version
	V33                    // temporary ECIES keys
)

var versionNames = [...]string{V30: "3.0", V31: "3.1", V32: "3.2", V33: "3.3"}

// ParseVersion reads "3.0" to "3.3"; ok is false for everything else.
func ParseVersion(s string) (v Version, ok bool) {
	if len(s) != 3 || s[0] != '3' || s[1] != '.' || s[2] < '0' || s[2] > '3' {
		return 0, false
	}
	return V30 + Version(s[2]-'0'), true
}

// Valid tells whether v is one of the four versions.
func (v Version) Valid() bool { return v >= V30 && v <= V33 }

// String returns the text of the header, "" for no version.
func (v Version) String() string {
	if !v.Valid() {
		return ""
	}
	return versionNames[v]
}

// Format is the form of online signatures: it follows the version string of the
// header, never the activation (a 3.0 and a 3.3 device share keys and counter).
func (v Version) Format() Format {
	switch {
	case v == V30:
		return Decimal
	case v.Valid():
		return Base64
	default:
		return Unmatchable
	}
}

// Factor is a set of authentication factors.
type Factor uint8

// The factors, in the order in which their components stand in a signature.
const (
	Possession Factor = 1 << iota
	Knowledge
	Biometry
)

// The sets a device may sign with, next to the single factors.
const (
	PossessionKnowledge         = Possession | Knowledge
	PossessionBiometry          = Possession | Biometry
	PossessionKnowledgeBiometry = Possession | Knowledge | Biometry
)

var factorNames = [8]string{
	Possession:                  "possession",
	Knowledge:                   "knowledge",
	Biometry:                    "biometry",
	PossessionKnowledge:         "possession_knowledge",
	PossessionBiometry:          "possession_biometry",
	PossessionKnowledgeBiometry: "possession_knowledge_biometry",
}

// ParseFactors reads one of the six signature types, in any case.
func ParseFactors(s string) (f Factor, ok bool) {
	for f := Possession; int(f) < len(factorNames); f++ {
		if f.Valid() && strings.EqualFold(s, factorNames[f]) && isASCII(s) {
			return f, true
		}
	}
	return 0, false
}

// Valid tells whether f is one of the six sets.
func (f Factor) Valid() bool { return int(f) < len(factorNames) && factorNames[f] != "" }

// String returns the lower-case type as it stands in the header; JSON answers
// use its upper-case form. "" for a set that no device may sign with.
func (f Factor) String() string {
	if !f.Valid() {
		return ""
	}
	return factorNames[f]
}

// Count is the number of factors, thus of signature components.
func (f Factor) Count() int {
	return int(f&1 + f>>1&1 + f>>2&1)
}

// isASCII guards EqualFold: the Kelvin sign folds to k, in Java it does not.
func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
