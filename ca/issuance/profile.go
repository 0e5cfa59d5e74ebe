package issuance

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"slices"
	"time"
)

// Profile says what a kind of certificate contains. It is data: it can be
// written in a file (package ca/profile), compared and hashed. The lists are sets,
// their order carries no meaning.
type Profile struct {
	Name         string // A-Z 0-9 _, at most 32; a metric label and a column
	SelfSigned   bool
	CA           bool
	MaxPath      int // CAs that may stand between this one and a leaf; -1: no limit; 0 for a leaf
	KeyUsages    []KeyUsage
	ExtKeyUsages []ExtKeyUsage
	// OCSPNoCheck adds id-pkix-ocsp-nocheck: nobody asks whether the key that
	// answers for revocation is itself revoked, so Validity is what limits it.
	OCSPNoCheck bool
	// SelfIssued gives the certificate its issuer's own name, byte for byte: another
	// key of the same CA, which verifiers find by name and key identifier (RFC 5280
	// section 6.3.3 (f)). Such a key signs the CA's CRLs and nothing else. Its
	// revocation would be told by itself, so Validity is what limits it.
	SelfIssued bool
	// Validity is how long certificates last, first and last second included.
	// It is cut to the issuer's own validity.
	Validity time.Duration
	// Backdate moves notBefore into the past for devices whose clock is late.
	Backdate   time.Duration
	Subject    SubjectPolicy
	AltNames   AltNamePolicy
	Keys       []KeyAlgorithm
	MinRSABits int // 0: 2048
	// IgnoreAsks has what a request asks for beyond the profile passed over. Nothing
	// of it is ever copied, but by default it is refused: giving less than was asked
	// makes certificates that fail far away from here. CA rights are always refused.
	IgnoreAsks bool
}

// Validate refuses a profile that could yield a certificate we would not defend.
func (p *Profile) Validate() error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("profile %q: %w: %s", p.Name, ErrProfile, fmt.Sprintf(format, a...))
	}
	if !validName(p.Name) {
		return bad("name must be 1..32 characters of A-Z, 0-9, _")
	}
	if max(len(p.KeyUsages), len(p.ExtKeyUsages), len(p.Keys), len(p.Subject.Required), len(p.Subject.Optional), len(p.AltNames.DNS), len(p.AltNames.IP)) > maxUsages {
		return bad("a list is longer than %d", maxUsages)
	}
	if len(p.KeyUsages) == 0 || !knownSet(p.KeyUsages, keyUsageBits) {
		return bad("keyUsages must be a non-empty set of known usages: %q", p.KeyUsages)
	}
	if !knownSet(p.ExtKeyUsages, extKeyUsageOIDs) {
		return bad("extKeyUsages must be a set of known usages: %q", p.ExtKeyUsages)
	}
	certSign, crlSign := slices.Contains(p.KeyUsages, CertSign), slices.Contains(p.KeyUsages, CRLSign)
	switch {
	case p.CA && !certSign:
		return bad("a CA needs keyCertSign")
	case !p.CA && (certSign || crlSign && !p.SelfIssued):
		return bad("only a CA may sign certificates or CRLs")
	case p.SelfIssued && !p.signsCRLsOnly():
		return bad("with the issuer's name there is a key for cRLSign alone, without a policy of names, for at most %s", maxNoCheck)
	case p.SelfSigned && !p.CA:
		return bad("only a CA may be self-signed")
	case slices.Contains(p.ExtKeyUsages, AnswerOCSP) && (p.CA || len(p.ExtKeyUsages) > 1):
		return bad("a key that answers OCSP does nothing else")
	case p.OCSPNoCheck && !slices.Contains(p.ExtKeyUsages, AnswerOCSP):
		return bad("ocsp_nocheck is for OCSPSigning")
	case p.OCSPNoCheck && p.Validity > maxNoCheck:
		return bad("with ocsp_nocheck the validity is at most %s", maxNoCheck)
	case p.CA && p.MaxPath < -1, !p.CA && p.MaxPath != 0:
		return bad("maxPath %d", p.MaxPath)
	}
	if p.Validity < time.Minute || p.Validity > maxValidity || p.Validity%time.Second != 0 {
		return bad("validity %s is not within 1m..%s in whole seconds", p.Validity, maxValidity)
	}
	if p.Backdate < 0 || p.Backdate > maxBackdate || p.Backdate >= p.Validity || p.Backdate%time.Second != 0 {
		return bad("backdate %s", p.Backdate)
	}
	if len(p.Keys) == 0 || !knownSet(p.Keys, keyAlgorithms) {
		return bad("keys must be a non-empty set of known algorithms: %q", p.Keys)
	}
	if p.MinRSABits != 0 && (p.MinRSABits < minRSABits || p.MinRSABits > maxRSABits) {
		return bad("minRSABits %d is not within %d..%d", p.MinRSABits, minRSABits, maxRSABits)
	}
	if err := p.Subject.validate(); err != nil && !p.SelfIssued {
		return bad("%v", err)
	}
	if err := p.AltNames.validate(); err != nil {
		return bad("%v", err)
	}
	return nil
}

// Hash is SHA-256 over a canonical encoding of every field. Equal profiles have
// equal hashes whatever the order of their lists.
func (p *Profile) Hash() [sha256.Size]byte {
	e := encoder{sha256.New()}
	e.text("signet profile 2") // a new field gets a new number here
	e.text(p.Name)
	e.number(flag(p.SelfSigned), flag(p.CA), int64(p.MaxPath))
	encodeSet(e, p.KeyUsages)
	encodeSet(e, p.ExtKeyUsages)
	e.number(flag(p.OCSPNoCheck))
	e.number(int64(p.Validity), int64(p.Backdate))
	encodeSet(e, p.Subject.Required)
	encodeSet(e, p.Subject.Optional)
	e.number(flag(p.AltNames.Required))
	encodeSet(e, p.AltNames.DNS)
	encodeSet(e, p.AltNames.IP)
	encodeSet(e, p.Keys)
	e.number(int64(p.minRSABits()), flag(p.IgnoreAsks))
	if p.SelfIssued { // only then, so that the hashes of all others are what they were
		e.text("self-issued")
	}
	return [sha256.Size]byte(e.h.Sum(nil))
}

func (p *Profile) signsCRLsOnly() bool {
	return !p.CA && slices.Equal(p.KeyUsages, []KeyUsage{CRLSign}) && len(p.ExtKeyUsages) == 0 && p.Validity <= maxNoCheck &&
		len(p.Subject.Required)+len(p.Subject.Optional)+len(p.AltNames.DNS)+len(p.AltNames.IP) == 0
}

func (p *Profile) minRSABits() int {
	if p.MinRSABits == 0 {
		return minRSABits
	}
	return p.MinRSABits
}

// allows reports whether keys of this kind may be certified.
func (p *Profile) allows(a KeyAlgorithm, bits int) bool {
	return slices.Contains(p.Keys, a) && (a != RSA || bits >= p.minRSABits())
}

// encoder writes self-delimiting values, so that no two profiles can meet in
// one byte string.
type encoder struct{ h hash.Hash }

func (e encoder) number(vs ...int64) {
	for _, v := range vs {
		_, _ = e.h.Write(binary.BigEndian.AppendUint64(nil, uint64(v)))
	}
}

func (e encoder) text(s string) {
	e.number(int64(len(s)))
	_, _ = e.h.Write([]byte(s))
}

func encodeSet[T ~string](e encoder, set []T) {
	e.number(int64(len(set)))
	for _, v := range slices.Sorted(slices.Values(set)) {
		e.text(string(v))
	}
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func validName(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 32
}

// knownSet reports whether list has only keys of known, each at most once.
func knownSet[K comparable, V any](list []K, known map[K]V) bool {
	for i, v := range list {
		if _, ok := known[v]; !ok || slices.Contains(list[:i], v) {
			return false
		}
	}
	return true
}
