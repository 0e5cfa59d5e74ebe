package issuance_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca/issuance"
)

// spy is a linter of the test's.
type spy struct {
	template, candidate error
	seen                func(*issuance.Candidate)
}

func (s spy) Template(*issuance.Template) error { return s.template }

func (s spy) Candidate(c *issuance.Candidate) error {
	if s.seen != nil {
		s.seen(c)
	}
	return s.candidate
}

func TestWithoutTheLintersYesThereIsNothingToSign(t *testing.T) {
	t.Parallel()
	w := ecTower(t)
	broken := errors.New("e_some_rule")
	p := issuance.ASTDevice()
	tpl, err := p.Compile(issuance.Checks{})
	require.ErrorIs(t, err, issuance.ErrProfile)
	require.Nil(t, tpl)
	_, err = p.Compile(issuance.Checks{Linter: spy{}, VerifyEvery: -1})
	require.ErrorIs(t, err, issuance.ErrProfile)
	_, err = p.Compile(issuance.Checks{Linter: spy{template: broken}})
	require.ErrorIs(t, err, issuance.ErrLint)
	require.ErrorIs(t, err, broken)
	o := w.order(t, request(t, ecKey(t, elliptic.P256())))
	o.Profile, err = p.Compile(issuance.Checks{Linter: spy{candidate: broken}})
	require.NoError(t, err)
	d, err := issuance.Prepare(o)
	require.ErrorIs(t, err, issuance.ErrLint)
	require.ErrorIs(t, err, broken)
	require.Nil(t, d)
}

func TestWhatIsLintedIsWhatIsSigned(t *testing.T) {
	t.Parallel()
	w := ecTower(t)
	var linted, tbs []byte
	var refused error
	o := w.order(t, request(t, ecKey(t, elliptic.P256())))
	o.Locations.OCSP = []string{"http://pki.example.com/ocsp"}
	p, err := o.Profile.Profile(), error(nil)
	o.Profile, err = p.Compile(issuance.Checks{Linter: spy{seen: func(c *issuance.Candidate) {
		der, err := c.SignedBy(ecKey(t, elliptic.P256()))
		require.NoError(t, err)
		cert, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		linted, tbs = cert.RawTBSCertificate, c.TBS()
		_, refused = c.SignedBy(w.signerKey)
		_, err = c.SignedBy(ecKey(t, elliptic.P384()))
		require.Error(t, err, "another kind of key would sign another draft")
		_, err = c.SignedBy(ecKey(t, elliptic.P224()))
		require.Error(t, err)
		require.Equal(t, o.Locations, c.Locations())
		require.False(t, c.AltNames())
		require.Same(t, w.signerCA, c.Issuer())
		clear(c.TBS()) // a copy
	}}})
	require.NoError(t, err)
	d, err := issuance.Prepare(o)
	require.NoError(t, err)
	require.Error(t, refused, "a linter can not use the issuer's own key")
	leaf, err := d.Sign(w.signerKey)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(leaf)
	require.NoError(t, err)
	require.Equal(t, cert.RawTBSCertificate, linted)
	require.Equal(t, cert.RawTBSCertificate, tbs)
}

// A self-signed draft is linted as one, though the key that signs it for the
// linter is another.
func TestASelfSignedDraftIsLintedAsOne(t *testing.T) {
	t.Parallel()
	key := ecKey(t, elliptic.P384())
	var linted []byte
	p := issuance.Root()
	tpl, err := p.Compile(issuance.Checks{Linter: spy{seen: func(c *issuance.Candidate) {
		var err error
		linted, err = c.SignedBy(ecKey(t, elliptic.P384()))
		require.NoError(t, err)
	}}})
	require.NoError(t, err)
	d, err := issuance.Prepare(issuance.Order{
		Profile: tpl, Request: request(t, key), Subject: issuance.Subject{CommonName: "Root"}, Serial: serial(t), Now: now,
	})
	require.NoError(t, err)
	twin, err := x509.ParseCertificate(linted)
	require.NoError(t, err)
	require.NoError(t, twin.CheckSignatureFrom(twin))
	der, err := d.Sign(key)
	require.NoError(t, err)
	root, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	// Nothing but the key and its identifier differs.
	same := bytes.ReplaceAll(twin.RawTBSCertificate, twin.RawSubjectPublicKeyInfo, root.RawSubjectPublicKeyInfo)
	same = bytes.ReplaceAll(same, twin.SubjectKeyId, root.SubjectKeyId)
	require.Equal(t, root.RawTBSCertificate, same)
}

// VerifyEvery leaves out the verification for leaf certificates only, and never
// for the first.
func TestVerifyEvery(t *testing.T) {
	t.Parallel()
	w := ecTower(t)
	wrong := badSigner{w.signerKey, func(r io.Reader, _ []byte, o crypto.SignerOpts) ([]byte, error) {
		return w.signerKey.Sign(r, make([]byte, 32), o)
	}}
	sample := issuance.Checks{Linter: checks.Linter, VerifyEvery: 3}
	p := issuance.ASTDevice()
	tpl, err := p.Compile(sample)
	require.NoError(t, err)
	var found []bool
	for range 7 {
		o := w.order(t, request(t, ecKey(t, elliptic.P256())))
		o.Profile = tpl
		d, err := issuance.Prepare(o)
		require.NoError(t, err)
		_, err = d.Sign(wrong)
		found = append(found, errors.Is(err, issuance.ErrSigning))
	}
	require.Equal(t, []bool{true, false, false, true, false, false, true}, found)

	signer := issuance.Signer()
	ca, err := signer.Compile(sample)
	require.NoError(t, err)
	for range 4 {
		d, err := issuance.Prepare(issuance.Order{
			Issuer: w.issuerCA, Profile: ca, Request: request(t, ecKey(t, elliptic.P256())), Serial: serial(t), Now: now,
			Subject: issuance.Subject{Organization: "alpha", CommonName: "x", SerialNumber: "x"},
		})
		require.NoError(t, err)
		_, err = d.Sign(badSigner{w.issuerKey, func(r io.Reader, _ []byte, o crypto.SignerOpts) ([]byte, error) {
			return w.issuerKey.Sign(r, make([]byte, 32), o)
		}})
		require.ErrorIs(t, err, issuance.ErrSigning)
	}
}

func gateway(t *testing.T, w *tower, policy issuance.AltNamePolicy) issuance.Order {
	t.Helper()
	p := issuance.Gateway()
	p.AltNames = policy
	o := w.order(t, request(t, ecKey(t, elliptic.P256())))
	o.Profile = compile(t, p)
	return o
}

func TestAltNames(t *testing.T) {
	t.Parallel()
	w := ecTower(t)
	o := gateway(t, w, issuance.AltNamePolicy{Required: true, DNS: []string{"gw.bank.example", "*.branch.bank.example"}, IP: []string{"10.0.0.0/8", "2001:db8::/32"}})
	good := issuance.AltNames{
		DNS: []string{"gw.bank.example", "a.branch.bank.example", "b.c.branch.bank.example"},
		IP:  []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("2001:db8::1")},
	}
	o.AltNames = good
	d, err := issuance.Prepare(o)
	require.NoError(t, err)
	leaf, err := d.Sign(w.signerKey)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(leaf)
	require.NoError(t, err)
	require.Equal(t, good.DNS, cert.DNSNames)
	require.Len(t, cert.IPAddresses, 2)
	require.True(t, cert.IPAddresses[0].Equal(net.IPv4(10, 1, 2, 3)))
	require.NoError(t, cert.VerifyHostname("b.c.branch.bank.example"))

	host := func(names ...string) issuance.AltNames { return issuance.AltNames{DNS: names} }
	address := func(s string) issuance.AltNames { return issuance.AltNames{IP: []netip.Addr{netip.MustParseAddr(s)}} }
	for name, names := range map[string]issuance.AltNames{
		"none":                    {},
		"another host":            host("www.bank.example"),
		"the domain itself":       host("branch.bank.example"),
		"a look-alike":            host("evilbranch.bank.example"),
		"a wildcard":              host("*.branch.bank.example"),
		"capitals":                host("GW.bank.example"),
		"a dot at the end":        host("gw.bank.example."),
		"an empty label":          host("a..branch.bank.example"),
		"an underscore":           host("a_b.branch.bank.example"),
		"an international label":  host("xn--bcher-kva.branch.bank.example"),
		"a hyphen at an end":      host("-a.branch.bank.example"),
		"a long label":            host(strings.Repeat("a", 64) + ".branch.bank.example"),
		"a long name":             host(strings.Repeat("a.", 120) + "branch.bank.example"),
		"twice":                   host("gw.bank.example", "gw.bank.example"),
		"an address as a name":    host("10.0.0.1"),
		"a NUL":                   host("gw.bank.example\x00.branch.bank.example"),
		"another network":         address("192.168.0.1"),
		"a mapped address":        address("::ffff:10.0.0.1"),
		"an address with a zone":  address("2001:db8::1%eth0"),
		"an address of no family": {IP: make([]netip.Addr, 1)},
	} {
		bad := o
		bad.AltNames = names
		_, err := issuance.Prepare(bad)
		require.ErrorIs(t, err, issuance.ErrAltName, name)
	}
	device := w.order(t, request(t, ecKey(t, elliptic.P256())))
	device.AltNames = host("gw.bank.example")
	_, err = issuance.Prepare(device)
	require.ErrorIs(t, err, issuance.ErrAltName)
}

// What a request asks for is refused unless it is given, or passed over where
// the profile says so. Nothing is ever copied.
func TestAsksForMoreThanTheProfile(t *testing.T) {
	t.Parallel()
	w := ecTower(t)
	read := func(template *x509.CertificateRequest) *issuance.Request {
		r, err := issuance.ParseRequest(csr(t, ecKey(t, elliptic.P256()), template))
		require.NoError(t, err)
		return r
	}
	names := issuance.AltNames{DNS: []string{"gw.bank.example", "gw2.bank.example"}, IP: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
	policy := issuance.AltNamePolicy{DNS: []string{"*"}, IP: []string{"10.0.0.0/8"}}
	ca := pkix.Extension{Id: oid(19), Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}
	eku := pkix.Extension{Id: oid(37), Value: []byte{0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 9}}
	for name, c := range map[string]struct {
		request        *issuance.Request
		refuse, ignore error
	}{
		"some of the names":    {read(&x509.CertificateRequest{DNSNames: []string{"GW.bank.example"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}}), nil, nil},
		"another name":         {read(&x509.CertificateRequest{DNSNames: []string{"gw.bank.example", "other.example"}}), issuance.ErrExtension, nil},
		"another address":      {read(&x509.CertificateRequest{IPAddresses: []net.IP{net.IPv4(10, 0, 0, 2)}}), issuance.ErrExtension, nil},
		"an e-mail address":    {read(&x509.CertificateRequest{EmailAddresses: []string{"a@bank.example"}}), issuance.ErrExtension, nil},
		"a foreign purpose":    {read(&x509.CertificateRequest{ExtraExtensions: []pkix.Extension{eku}}), issuance.ErrExtension, nil},
		"CA rights":            {read(&x509.CertificateRequest{ExtraExtensions: []pkix.Extension{ca}}), issuance.ErrExtension, issuance.ErrExtension},
		"CA rights and a name": {read(&x509.CertificateRequest{DNSNames: []string{"other.example"}, ExtraExtensions: []pkix.Extension{ca}}), issuance.ErrExtension, issuance.ErrExtension},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := gateway(t, w, policy)
			o.AltNames, o.Request = names, c.request
			_, err := issuance.Prepare(o)
			require.ErrorIs(t, err, c.refuse)
			p := o.Profile.Profile()
			p.IgnoreAsks = true
			o.Profile = compile(t, p)
			d, err := issuance.Prepare(o)
			require.ErrorIs(t, err, c.ignore)
			if err != nil {
				return
			}
			leaf, err := d.Sign(w.signerKey)
			require.NoError(t, err)
			cert, err := x509.ParseCertificate(leaf)
			require.NoError(t, err)
			require.Equal(t, names.DNS, cert.DNSNames)
			require.Len(t, cert.IPAddresses, 1)
			require.Empty(t, cert.EmailAddresses)
			require.Len(t, cert.ExtKeyUsage, 2)
		})
	}
	for name, value := range map[string][]byte{
		"no names": {0x30, 0}, "cut": {0x30, 3, 0x82, 5, 'a'}, "an address of 3 bytes": {0x30, 5, 0x87, 3, 1, 2, 3}, "a tail": {0x30, 3, 0x82, 1, 'a', 0},
	} {
		_, err := issuance.ParseRequest(csr(t, ecKey(t, elliptic.P256()), &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: oid(17), Value: value}}}))
		require.ErrorIs(t, err, issuance.ErrRequest, name)
	}
}
