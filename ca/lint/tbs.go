package lint

import (
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"time"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// tbs is a TBSCertificate taken apart without interpreting more than needed.
// What it reads is all there is: a part that we never write (unique ids) makes it
// fail.
type tbs struct {
	version    []byte // [0], with its tag
	serial     []byte // content
	algorithm  []byte // each of these with its tag
	issuer     []byte
	validity   []byte
	subject    []byte
	spki       []byte
	extensions []byte // content of the SEQUENCE OF

	notBefore, notAfter time.Time
	spkiAlgorithm       []byte
	keyID               [20]byte // computed from the key
}

var errTBS = errors.New("not the to-be-signed part of a certificate of ours")

func parseTBS(der []byte) (t tbs, err error) {
	in := cryptobyte.String(der)
	var seq, extensions cryptobyte.String
	ok := in.ReadASN1(&seq, casn1.SEQUENCE) && in.Empty() &&
		seq.ReadASN1Element((*cryptobyte.String)(&t.version), casn1.Tag(0).ContextSpecific().Constructed()) &&
		seq.ReadASN1((*cryptobyte.String)(&t.serial), casn1.INTEGER) &&
		seq.ReadASN1Element((*cryptobyte.String)(&t.algorithm), casn1.SEQUENCE) &&
		seq.ReadASN1Element((*cryptobyte.String)(&t.issuer), casn1.SEQUENCE) &&
		seq.ReadASN1Element((*cryptobyte.String)(&t.validity), casn1.SEQUENCE) &&
		seq.ReadASN1Element((*cryptobyte.String)(&t.subject), casn1.SEQUENCE) &&
		seq.ReadASN1Element((*cryptobyte.String)(&t.spki), casn1.SEQUENCE) &&
		seq.ReadASN1(&extensions, casn1.Tag(3).ContextSpecific().Constructed()) && seq.Empty() &&
		extensions.ReadASN1((*cryptobyte.String)(&t.extensions), casn1.SEQUENCE) && extensions.Empty()
	if !ok {
		return t, errTBS
	}
	if t.notBefore, t.notAfter, ok = readValidity(t.validity); !ok {
		return t, errTBS
	}
	info := cryptobyte.String(t.spki)
	var key []byte
	if !info.ReadASN1(&info, casn1.SEQUENCE) || !info.ReadASN1Element((*cryptobyte.String)(&t.spkiAlgorithm), casn1.SEQUENCE) ||
		!info.ReadASN1BitStringAsBytes(&key) || !info.Empty() {
		return t, errTBS
	}
	sum := sha256.Sum256(key) // RFC 7093 section 2 method 1
	t.keyID = [20]byte(sum[:20])
	return t, nil
}

// readValidity insists on UTCTime through 2049 and GeneralizedTime after it.
func readValidity(der []byte) (from, to time.Time, ok bool) {
	s := cryptobyte.String(der)
	if !s.ReadASN1(&s, casn1.SEQUENCE) {
		return from, to, false
	}
	read := func(out *time.Time) bool {
		if s.PeekASN1Tag(casn1.UTCTime) {
			return s.ReadASN1UTCTime(out)
		}
		return s.ReadASN1GeneralizedTime(out) && out.Year() >= 2050
	}
	ok = read(&from) && read(&to) && s.Empty()
	return from, to, ok
}

// extension is one Extension.
type extension struct {
	oid      asn1.ObjectIdentifier
	critical bool
	value    []byte
}

func parseExtensions(der []byte) (out []extension, err error) {
	s := cryptobyte.String(der)
	for !s.Empty() {
		var e extension
		var seq cryptobyte.String
		if !s.ReadASN1(&seq, casn1.SEQUENCE) || !seq.ReadASN1ObjectIdentifier(&e.oid) {
			return nil, errTBS
		}
		if seq.PeekASN1Tag(casn1.BOOLEAN) && (!seq.ReadASN1Boolean(&e.critical) || !e.critical) { // DER: no FALSE
			return nil, errTBS
		}
		if !seq.ReadASN1((*cryptobyte.String)(&e.value), casn1.OCTET_STRING) || !seq.Empty() {
			return nil, errTBS
		}
		out = append(out, e)
	}
	return out, nil
}

// attribute is one AttributeTypeAndValue.
type attribute struct {
	oid   asn1.ObjectIdentifier
	tag   casn1.Tag
	value string
}

// parseName insists on one attribute in each relative name.
func parseName(der []byte) (out []attribute, err error) {
	s := cryptobyte.String(der)
	var rdns cryptobyte.String
	if !s.ReadASN1(&rdns, casn1.SEQUENCE) || !s.Empty() {
		return nil, errTBS
	}
	for !rdns.Empty() {
		var set, seq, value cryptobyte.String
		var a attribute
		if !rdns.ReadASN1(&set, casn1.SET) || !set.ReadASN1(&seq, casn1.SEQUENCE) || !set.Empty() ||
			!seq.ReadASN1ObjectIdentifier(&a.oid) || !seq.ReadAnyASN1(&value, &a.tag) || !seq.Empty() {
			return nil, errTBS
		}
		a.value = string(value)
		out = append(out, a)
	}
	return out, nil
}
