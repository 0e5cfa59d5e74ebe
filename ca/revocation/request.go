package revocation

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" // the hash that most clients name certificates with (RFC 5019 section 2.1.1)
	_ "crypto/sha256"
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/signet-hsm/signet/ca/issuance"
)

// certID is how an OCSP request names a certificate, and how the response
// repeats it.
type certID struct {
	hash   *certHash
	name   []byte // hash of the issuer's name
	key    []byte // hash of the issuer's key
	serial []byte // content of the INTEGER
}

// certHash is a hash function that certificates are named with. Here it is no
// signature: a collision gains nothing, for the issuer is in the address too.
type certHash struct {
	name string // as in the table
	hash crypto.Hash
	oid  asn1.ObjectIdentifier
}

var certHashes = []certHash{
	{"SHA-1", crypto.SHA1, asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}},
	{"SHA-256", crypto.SHA256, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}},
}

func hashNamed(name string) *certHash {
	for i := range certHashes {
		if certHashes[i].name == name {
			return &certHashes[i]
		}
	}
	return nil
}

func (h *certHash) sum(b []byte) []byte {
	f := h.hash.New()
	f.Write(b)
	return f.Sum(nil)
}

// parseRequest reads an OCSPRequest of RFC 6960 section 4.1 that names one
// certificate. A signature and the requestor's name are skipped: everybody gets
// the same answer. So are extensions, the nonce among them, since responses are
// signed before they are asked for (RFC 6960 section 2.5, which RFC 9654 leaves
// be); but a critical one demands what we do not do. ErrMalformed otherwise,
// also for more than one certificate, which RFC 5019 section 2.1.1 forbids:
// clients take an answer about one of several for an answer about all.
func parseRequest(der []byte) (certID, error) {
	if len(der) > maxRequest {
		return certID{}, ErrMalformed
	}
	var outer, tbs, requests, one, id cryptobyte.String
	in := cryptobyte.String(der)
	tag := func(n uint8) casn1.Tag { return casn1.Tag(n).ContextSpecific().Constructed() }
	var version int64
	var explicit cryptobyte.String
	var versioned bool
	if !in.ReadASN1(&outer, casn1.SEQUENCE) || !in.Empty() ||
		!outer.ReadASN1(&tbs, casn1.SEQUENCE) || !outer.SkipOptionalASN1(tag(0)) || !outer.Empty() ||
		!tbs.ReadOptionalASN1(&explicit, &versioned, tag(0)) ||
		versioned && (!explicit.ReadASN1Integer(&version) || !explicit.Empty() || version != 0) ||
		!tbs.SkipOptionalASN1(tag(1)) ||
		!tbs.ReadASN1(&requests, casn1.SEQUENCE) || !skipExtensions(&tbs, tag(2)) || !tbs.Empty() {
		return certID{}, ErrMalformed
	}
	if !requests.ReadASN1(&one, casn1.SEQUENCE) || !requests.Empty() ||
		!one.ReadASN1(&id, casn1.SEQUENCE) || !skipExtensions(&one, tag(0)) || !one.Empty() {
		return certID{}, ErrMalformed
	}
	var c certID
	var algorithm, name, key, serial cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !id.ReadASN1(&algorithm, casn1.SEQUENCE) || !algorithm.ReadASN1ObjectIdentifier(&oid) ||
		!algorithm.SkipOptionalASN1(casn1.NULL) || !algorithm.Empty() ||
		!id.ReadASN1(&name, casn1.OCTET_STRING) || !id.ReadASN1(&key, casn1.OCTET_STRING) ||
		!id.ReadASN1(&serial, casn1.INTEGER) || len(serial) == 0 || !id.Empty() {
		return certID{}, ErrMalformed
	}
	for i := range certHashes {
		if certHashes[i].oid.Equal(oid) {
			c.hash = &certHashes[i]
		}
	}
	// A hash that we do not compute names no issuer of ours: see names.
	c.name, c.key, c.serial = name, key, serial
	return c, nil
}

// skipExtensions reads over optional Extensions, none of them critical.
func skipExtensions(s *cryptobyte.String, tag casn1.Tag) bool {
	var explicit, all cryptobyte.String
	var present bool
	if !s.ReadOptionalASN1(&explicit, &present, tag) || !present {
		return !present
	}
	if !explicit.ReadASN1(&all, casn1.SEQUENCE) || !explicit.Empty() {
		return false
	}
	for !all.Empty() {
		var one cryptobyte.String
		var critical bool
		if !all.ReadASN1(&one, casn1.SEQUENCE) || !one.SkipASN1(casn1.OBJECT_IDENTIFIER) ||
			!one.ReadOptionalASN1Boolean(&critical, casn1.BOOLEAN, false) || critical ||
			!one.SkipASN1(casn1.OCTET_STRING) || !one.Empty() {
			return false
		}
	}
	return true
}

// names reports whether the issuer is the one that the request means.
func (c *certID) names(i *Issuer) bool {
	if c.hash == nil {
		return false
	}
	key, ok := keyBits(i.Certificate.RawSubjectPublicKeyInfo)
	return ok && bytes.Equal(c.name, c.hash.sum(i.Certificate.RawSubject)) && bytes.Equal(c.key, c.hash.sum(key))
}

// serialNumber returns the serial if it can be one of ours.
func (c *certID) serialNumber() (issuance.Serial, bool) {
	s, err := issuance.ParseSerial(c.serial)
	return s, err == nil
}

// keyBits returns the content of the subjectPublicKey bit string.
func keyBits(spki []byte) ([]byte, bool) {
	s := cryptobyte.String(spki)
	var seq cryptobyte.String
	var bits []byte
	ok := s.ReadASN1(&seq, casn1.SEQUENCE) && s.Empty() && seq.SkipASN1(casn1.SEQUENCE) &&
		seq.ReadASN1BitStringAsBytes(&bits) && seq.Empty()
	return bits, ok
}
