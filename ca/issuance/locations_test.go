package issuance_test

import (
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca/issuance"
)

func TestLocationsAreInTheCertificate(t *testing.T) {
	t.Parallel()
	w := ecTower(t)
	o := w.order(t, request(t, ecKey(t, elliptic.P256())))
	o.Locations = issuance.Locations{
		CRL:    []string{"http://pki.example.com/crl/00ff/3.crl", "http://pki2.example.com/crl/00ff/3.crl"},
		OCSP:   []string{"http://pki.example.com/ocsp/00ff"},
		Issuer: []string{"http://pki.example.com/ca/00ff.cer"},
	}
	d, err := issuance.Prepare(o)
	require.NoError(t, err)
	leaf, err := d.Sign(w.signerKey)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(leaf)
	require.NoError(t, err)
	require.Equal(t, o.Locations.CRL, cert.CRLDistributionPoints)
	require.Equal(t, o.Locations.OCSP, cert.OCSPServer)
	require.Equal(t, o.Locations.Issuer, cert.IssuingCertificateURL)
	require.Len(t, cert.Extensions, 7)
	require.NoError(t, issuance.VerifyChain(w.chain(leaf), now))
}

func TestLocationsRefuses(t *testing.T) {
	t.Parallel()
	w := ecTower(t)
	for name, l := range map[string]issuance.Locations{
		"https":         {CRL: []string{"https://pki.example.com/x.crl"}},
		"ldap":          {CRL: []string{"ldap://pki.example.com/cn=x"}},
		"no host":       {OCSP: []string{"http:///ocsp"}},
		"only a port":   {OCSP: []string{"http://:80/ocsp"}},
		"relative":      {Issuer: []string{"/ca/x.cer"}},
		"opaque":        {Issuer: []string{"http:pki.example.com"}},
		"a password":    {OCSP: []string{"http://a:b@pki.example.com/"}},
		"a fragment":    {OCSP: []string{"http://pki.example.com/#x"}},
		"not ASCII":     {OCSP: []string{"http://pki.exämple.com/"}},
		"a blank":       {OCSP: []string{"http://pki.example.com/a b"}},
		"an empty one":  {OCSP: []string{""}},
		"a long one":    {OCSP: []string{"http://pki.example.com/" + strings.Repeat("a", 255)}},
		"too many":      {OCSP: strings.Split(strings.Repeat("http://a.example/ ", 5), " ")},
		"broken escape": {OCSP: []string{"http://pki.example.com/%zz"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := w.order(t, request(t, ecKey(t, elliptic.P256())))
			o.Locations = l
			_, err := issuance.Prepare(o)
			require.ErrorIs(t, err, issuance.ErrLocation)
		})
	}
	crl := issuance.Locations{CRL: []string{"http://pki.example.com/x.crl"}}
	root := issuance.Order{
		Profile: compile(t, issuance.Root()), Request: request(t, w.rootKey), Subject: issuance.Subject{CommonName: "R"},
		Serial: serial(t), Now: now, Locations: crl,
	}
	_, err := issuance.Prepare(root)
	require.ErrorIs(t, err, issuance.ErrLocation)
	ocsp := w.order(t, request(t, ecKey(t, elliptic.P256())))
	ocsp.Profile, ocsp.Locations = compile(t, issuance.OCSPSigning()), crl
	_, err = issuance.Prepare(ocsp)
	require.ErrorIs(t, err, issuance.ErrLocation)
}

func TestOCSPSigningCertificateContent(t *testing.T) {
	t.Parallel()
	w := ecTower(t)
	o := w.order(t, request(t, ecKey(t, elliptic.P256())))
	o.Profile = compile(t, issuance.OCSPSigning())
	o.Locations.Issuer = []string{"http://pki.example.com/ca/00ff.cer"}
	d, err := issuance.Prepare(o)
	require.NoError(t, err)
	leaf, err := d.Sign(w.signerKey)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(leaf)
	require.NoError(t, err)
	require.Equal(t, []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}, cert.ExtKeyUsage)
	require.Equal(t, x509.KeyUsageDigitalSignature, cert.KeyUsage)
	var nocheck []byte
	for _, e := range cert.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}) {
			require.False(t, e.Critical)
			nocheck = e.Value
		}
	}
	require.Equal(t, asn1.NullBytes, nocheck)
}

func TestSchemeSignsWholeStructures(t *testing.T) {
	t.Parallel()
	key := ecKey(t, elliptic.P384())
	s, err := issuance.SchemeOf(key.Public())
	require.NoError(t, err)
	require.Equal(t, x509.ECDSAWithSHA384, s.Algorithm())
	der, err := s.Sign(key, []byte{0x30, 0})
	require.NoError(t, err)
	var signed struct {
		TBS       asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}
	rest, err := asn1.Unmarshal(der, &signed)
	require.NoError(t, err)
	require.Empty(t, rest)
	require.Equal(t, []byte{0x30, 0}, signed.TBS.FullBytes)
	require.Equal(t, s.Identifier(), signed.Algorithm.FullBytes)
	require.NoError(t, (&x509.Certificate{PublicKey: key.Public()}).CheckSignature(s.Algorithm(), []byte{0x30, 0}, signed.Signature.RightAlign()))
	_, err = s.Sign(ecKey(t, elliptic.P384()), []byte{0x30, 0})
	require.ErrorIs(t, err, issuance.ErrSigning)
}
