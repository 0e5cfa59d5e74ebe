package revocation

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ocsp"
)

// The structures of RFC 6960 section 4.1.1, by the other decoder.
type (
	wireID struct {
		Algorithm pkix.AlgorithmIdentifier
		Name, Key []byte
		Serial    *big.Int
	}
	wireOne struct {
		ID         wireID
		Extensions []pkix.Extension `asn1:"explicit,tag:0,optional"`
	}
	wireTBS struct {
		Version    int           `asn1:"explicit,tag:0,default:0,optional"`
		Requestor  asn1.RawValue `asn1:"explicit,tag:1,optional"`
		List       []wireOne
		Extensions []pkix.Extension `asn1:"explicit,tag:2,optional"`
	}
	wireRequest struct {
		TBS       wireTBS
		Signature asn1.RawValue `asn1:"explicit,tag:0,optional"`
	}
)

func wire() wireRequest {
	id := wireID{pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, Parameters: asn1.NullRawValue}, make([]byte, 20), make([]byte, 20), big.NewInt(5)}
	return wireRequest{TBS: wireTBS{List: []wireOne{{ID: id}}}}
}

func TestParseRequest(t *testing.T) {
	t.Parallel()
	nonce := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}, Value: []byte{4, 2, 1, 1}}
	critical := nonce
	critical.Critical = true
	for name, c := range map[string]struct {
		change func(*wireRequest)
		ok     bool
	}{
		"plain":                  {func(*wireRequest) {}, true},
		"nonce":                  {func(r *wireRequest) { r.TBS.Extensions = []pkix.Extension{nonce} }, true},
		"critical extension":     {func(r *wireRequest) { r.TBS.Extensions = []pkix.Extension{critical} }, false},
		"single extension":       {func(r *wireRequest) { r.TBS.List[0].Extensions = []pkix.Extension{nonce} }, true},
		"single critical":        {func(r *wireRequest) { r.TBS.List[0].Extensions = []pkix.Extension{critical} }, false},
		"two certificates":       {func(r *wireRequest) { r.TBS.List = append(r.TBS.List, r.TBS.List[0]) }, false},
		"no certificate":         {func(r *wireRequest) { r.TBS.List = nil }, false},
		"version 2":              {func(r *wireRequest) { r.TBS.Version = 1 }, false},
		"signed":                 {func(r *wireRequest) { r.Signature = asn1.RawValue{FullBytes: []byte{0xa0, 2, 0x30, 0}} }, true},
		"algorithm without NULL": {func(r *wireRequest) { r.TBS.List[0].ID.Algorithm.Parameters = asn1.RawValue{} }, true},
	} {
		r := wire()
		c.change(&r)
		der, err := asn1.Marshal(r)
		require.NoError(t, err, name)
		id, err := parseRequest(der)
		if !c.ok {
			require.ErrorIs(t, err, ErrMalformed, name)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, []byte{5}, id.serial, name)
		require.Equal(t, "SHA-1", id.hash.name, name)
	}
}

// What we read, the library reads the same.
func FuzzParseRequest(f *testing.F) {
	der, err := asn1.Marshal(wire())
	require.NoError(f, err)
	f.Add(der)
	f.Add([]byte{0x30, 0})
	f.Add([]byte{})
	two := wire()
	two.TBS.List = append(two.TBS.List, two.TBS.List[0])
	der, err = asn1.Marshal(two)
	require.NoError(f, err)
	f.Add(der)
	signed := wire()
	signed.Signature = asn1.RawValue{FullBytes: []byte{0xa0, 2, 0x30, 0}}
	der, err = asn1.Marshal(signed)
	require.NoError(f, err)
	f.Add(der)
	f.Fuzz(func(t *testing.T, der []byte) {
		id, err := parseRequest(der)
		if err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			return
		}
		id.serialNumber()
		theirs, err := ocsp.ParseRequest(der)
		if err != nil || id.hash == nil {
			return // stricter about what we skip
		}
		require.Equal(t, theirs.HashAlgorithm, id.hash.hash)
		require.Equal(t, theirs.IssuerNameHash, id.name)
		require.Equal(t, theirs.IssuerKeyHash, id.key)
		if s, ok := id.serialNumber(); ok {
			require.Equal(t, theirs.SerialNumber.Bytes(), s[:])
		}
	})
}

// A response that is not what was asked for never leaves.
func TestTheChecksCanFail(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	certificate := func() *x509.Certificate {
		c := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, BasicConstraintsValid: true, IsCA: true,
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: make([]byte, 20), NotAfter: time.Now().Add(time.Hour),
		}
		der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
		require.NoError(t, err)
		c, err = x509.ParseCertificate(der)
		require.NoError(t, err)
		return c
	}
	issuer := Issuer{Certificate: certificate(), Shards: 1}
	now := time.Now().UTC().Truncate(time.Second)
	made := verdict{issuer: &issuer, serial: [16]byte{1}, hash: &certHashes[0], thisUpdate: now, nextUpdate: now.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "OCSP"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(2 * time.Hour),
		ExtKeyUsage:     []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: []byte{5, 0}}},
	}, issuer.Certificate, key.Public(), key)
	require.NoError(t, err)
	responder, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	der, err = made.sign(responder, key)
	require.NoError(t, err)
	_, err = made.sign(issuer.Certificate, key)
	require.ErrorIs(t, err, ErrCheck, "a responder that may do more")
	for name, change := range map[string]func(*verdict){
		"status":   func(v *verdict) { v.revoked = true },
		"serial":   func(v *verdict) { v.serial[3] = 1 },
		"hash":     func(v *verdict) { v.hash = &certHashes[1] },
		"validity": func(v *verdict) { v.nextUpdate = now },
	} {
		v := made
		change(&v)
		require.ErrorIs(t, v.check(der, responder), ErrCheck, name)
	}
	require.ErrorIs(t, made.check(append(der[:len(der):len(der)], 0), responder), ErrCheck)
	require.ErrorIs(t, made.check(der, issuer.Certificate), ErrCheck)

	serial := func(n int64) *big.Int { return new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 120), big.NewInt(n)) }
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour), RevokedCertificateEntries: []x509.RevocationListEntry{
		{SerialNumber: serial(7), RevocationTime: now, ReasonCode: 1},
	}}
	der, err = x509.CreateRevocationList(rand.Reader, template, issuer.Certificate, crypto.Signer(key))
	require.NoError(t, err)
	require.NoError(t, checkCRL(der, &issuer, issuer.Certificate, template))
	scope, err := scopeExtension("http://pki.example.com/crl/0.crl")
	require.NoError(t, err)
	for name, change := range map[string]func(*x509.RevocationList){
		"number":   func(l *x509.RevocationList) { l.Number = big.NewInt(2) },
		"validity": func(l *x509.RevocationList) { l.NextUpdate = now },
		"missing":  func(l *x509.RevocationList) { l.RevokedCertificateEntries = nil },
		"other": func(l *x509.RevocationList) {
			l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: serial(8), RevocationTime: now, ReasonCode: 1}}
		},
		"scope": func(l *x509.RevocationList) { l.ExtraExtensions = []pkix.Extension{scope} },
	} {
		l := *template
		change(&l)
		require.ErrorIs(t, checkCRL(der, &issuer, issuer.Certificate, &l), ErrCheck, name)
	}
	require.ErrorIs(t, checkCRL(der[1:], &issuer, issuer.Certificate, template), ErrCheck)
	broken := append([]byte(nil), der...)
	broken[len(broken)-1] ^= 1
	require.ErrorIs(t, checkCRL(broken, &issuer, issuer.Certificate, template), ErrCheck)
}
