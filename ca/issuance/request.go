package issuance

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Request is a PKCS#10 request whose key was judged and whose proof of
// possession holds. Only ParseRequest makes one.
type Request struct {
	key       crypto.PublicKey
	algorithm KeyAlgorithm
	bits      int
	spki      []byte
	spkiHash  [sha256.Size]byte
	keyID     [20]byte
	asks      asks
}

// asks is what the requester would like in the certificate. Prepare compares it
// with the profile; nothing of it is copied.
type asks struct {
	ca           bool
	keyUsage     [2]byte
	extKeyUsages []asn1.ObjectIdentifier
	altNames     AltNames
	other        []asn1.ObjectIdentifier // extensions that no profile of ours gives
}

// requestSignatures are the algorithms accepted as proof of possession. SHA-1
// and MD5 prove nothing any more.
var requestSignatures = map[x509.SignatureAlgorithm]struct{}{
	x509.ECDSAWithSHA256: {}, x509.ECDSAWithSHA384: {}, x509.ECDSAWithSHA512: {}, x509.PureEd25519: {},
	x509.SHA256WithRSA: {}, x509.SHA384WithRSA: {}, x509.SHA512WithRSA: {},
	x509.SHA256WithRSAPSS: {}, x509.SHA384WithRSAPSS: {}, x509.SHA512WithRSAPSS: {},
}

// ParseRequest reads a PKCS#10 request in DER and judges it: at most 16 KiB,
// nothing behind its end, a key that CheckKey accepts, and one valid signature
// by that key. The cheap checks come first. Errors: ErrRequest, ErrKeyAlgorithm,
// ErrWeakKey, ErrRequestSignature.
func ParseRequest(der []byte) (*Request, error) {
	if len(der) == 0 || len(der) > maxRequest {
		return nil, fmt.Errorf("%w: %d bytes", ErrRequest, len(der))
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if csr.PublicKey == nil {
		return nil, fmt.Errorf("%w: unknown", ErrKeyAlgorithm)
	}
	r := &Request{key: csr.PublicKey}
	if r.algorithm, r.bits, err = CheckKey(csr.PublicKey); err != nil {
		return nil, err
	}
	// The key goes into the certificate as it stands, so it has to stand there
	// in its one canonical form.
	if r.spki, err = x509.MarshalPKIXPublicKey(csr.PublicKey); err != nil || !bytes.Equal(r.spki, csr.RawSubjectPublicKeyInfo) {
		return nil, fmt.Errorf("%w: public key is not canonical", ErrRequest)
	}
	r.spkiHash = sha256.Sum256(r.spki)
	if r.keyID, err = keyID(r.spki); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if r.asks, err = readAsks(csr); err != nil {
		return nil, err
	}
	if _, ok := requestSignatures[csr.SignatureAlgorithm]; !ok {
		return nil, fmt.Errorf("%w: %s", ErrRequestSignature, csr.SignatureAlgorithm)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequestSignature, err)
	}
	return r, nil
}

// NewRequest makes a bare request for a key that we hold ourselves, such as a
// fresh HSM key. Passing it through ParseRequest judges the key like a
// stranger's and proves that it signs, before anything is certified.
func NewRequest(key crypto.Signer) ([]byte, error) {
	// Without a reader, software keys sign deterministically (RFC 6979); HSM keys
	// use the HSM's own generator in any case.
	der, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSigning, err)
	}
	return der, nil
}

// PublicKey returns the key to be certified.
func (r *Request) PublicKey() crypto.PublicKey { return r.key }

// Algorithm returns the kind of that key.
func (r *Request) Algorithm() KeyAlgorithm { return r.algorithm }

// SPKIHash returns SHA-256 over the SubjectPublicKeyInfo in DER.
func (r *Request) SPKIHash() [sha256.Size]byte { return r.spkiHash }

func readAsks(csr *x509.CertificateRequest) (a asks, err error) {
	for i, ext := range csr.Extensions {
		if slices.ContainsFunc(csr.Extensions[:i], func(e pkix.Extension) bool { return e.Id.Equal(ext.Id) }) {
			return a, fmt.Errorf("%w: extension twice", ErrRequest)
		}
		ok, s := true, cryptobyte.String(ext.Value)
		switch {
		case ext.Id.Equal(oidSubjectKeyID):
			// Advice only: the identifier is ours to compute.
		case ext.Id.Equal(oidBasicConstraints):
			a.ca, ok = readBasicConstraints(s)
		case ext.Id.Equal(oidKeyUsage):
			a.keyUsage, ok = readKeyUsage(s)
		case ext.Id.Equal(oidExtKeyUsage):
			a.extKeyUsages, ok = readExtKeyUsages(s)
		case ext.Id.Equal(oidSubjectAltName):
			var other bool
			if a.altNames, other, ok = readAltNames(s); other {
				a.other = append(a.other, ext.Id)
			}
		default:
			a.other = append(a.other, ext.Id)
		}
		if !ok {
			return a, fmt.Errorf("%w: extension %s", ErrRequest, ext.Id)
		}
	}
	return a, nil
}

func readBasicConstraints(s cryptobyte.String) (ca, ok bool) {
	var seq cryptobyte.String
	if !s.ReadASN1(&seq, casn1.SEQUENCE) || !s.Empty() {
		return false, false
	}
	if seq.PeekASN1Tag(casn1.BOOLEAN) && !seq.ReadASN1Boolean(&ca) {
		return false, false
	}
	var path int64 // the profile's limit counts, whatever is asked
	if seq.PeekASN1Tag(casn1.INTEGER) && !seq.ReadASN1Integer(&path) {
		return false, false
	}
	return ca, seq.Empty()
}

func readKeyUsage(s cryptobyte.String) (bits [2]byte, ok bool) {
	var bs asn1.BitString
	if !s.ReadASN1BitString(&bs) || !s.Empty() || len(bs.Bytes) > len(bits) {
		return bits, false
	}
	copy(bits[:], bs.Bytes)
	return bits, true
}

func readExtKeyUsages(s cryptobyte.String) (oids []asn1.ObjectIdentifier, ok bool) {
	var seq cryptobyte.String
	if !s.ReadASN1(&seq, casn1.SEQUENCE) || !s.Empty() || seq.Empty() {
		return nil, false
	}
	for !seq.Empty() {
		var oid asn1.ObjectIdentifier
		if !seq.ReadASN1ObjectIdentifier(&oid) {
			return nil, false
		}
		oids = append(oids, oid)
	}
	return oids, true
}

// check refuses a request that would get less than it asks for (see
// Profile.IgnoreAsks).
func (a *asks) check(p *Profile, given *AltNames) error {
	if a.ca && !p.CA {
		return fmt.Errorf("%w: CA:TRUE", ErrExtension)
	}
	if p.IgnoreAsks {
		return nil
	}
	if len(a.other) > 0 {
		return fmt.Errorf("%w: %s", ErrExtension, a.other[0])
	}
	if bits := usageByte(p.KeyUsages); a.keyUsage[0]&^bits != 0 || a.keyUsage[1] != 0 {
		return fmt.Errorf("%w: keyUsage", ErrExtension)
	}
	for _, oid := range a.extKeyUsages {
		if !slices.ContainsFunc(p.ExtKeyUsages, func(u ExtKeyUsage) bool { return extKeyUsageOIDs[u].Equal(oid) }) {
			return fmt.Errorf("%w: extKeyUsage %s", ErrExtension, oid)
		}
	}
	if !within(a.altNames.DNS, given.DNS) || !within(a.altNames.IP, given.IP) {
		return fmt.Errorf("%w: subjectAltName", ErrExtension)
	}
	return nil
}

func within[T comparable](set, of []T) bool {
	return !slices.ContainsFunc(set, func(v T) bool { return !slices.Contains(of, v) })
}
