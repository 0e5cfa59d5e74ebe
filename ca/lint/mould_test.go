package lint_test

import (
	"bytes"
	"crypto/x509"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/lint"
)

// catcher keeps the candidate that the engine shows.
type catcher struct{ caught *issuance.Candidate }

func (*catcher) Template(*issuance.Template) error { return nil }

func (c *catcher) Candidate(x *issuance.Candidate) error {
	c.caught = x
	return nil
}

func candidate(t *testing.T, o issuance.Order) *issuance.Candidate {
	t.Helper()
	var c catcher
	p := o.Profile.Profile()
	o.Profile = compile(t, p, &c)
	_, err := issuance.Prepare(o)
	require.NoError(t, err)
	return c.caught
}

// A compiled check may not pass what the full lint refuses. Each byte of a draft
// is changed in every bit: what still passes differs from the mould in the serial,
// in a letter of the subject, or nowhere.
func TestACompiledCheckSeesEveryBit(t *testing.T) {
	t.Parallel()
	w := newTower(t, "P-256", linter(t, 1))
	c := candidate(t, w.device(t, linter(t, 1)))
	check, err := lint.Compiled(c)
	require.NoError(t, err)
	require.NoError(t, lint.Full(c))
	tbs := c.TBS()
	require.NoError(t, check(tbs))
	passed := 0
	for i := range tbs {
		for bit := range 8 {
			bad := slices.Clone(tbs)
			bad[i] ^= 1 << bit
			if check(bad) != nil {
				continue
			}
			passed++
			// The library's certificate around it is judged in full, by the profile.
			der := wrap(t, bad)
			p := issuance.ASTDevice()
			require.Empty(t, lint.Profiled(der, w.signer.Certificate(), &p), "byte %d bit %d", i, bit)
			cert, err := x509.ParseCertificate(der)
			require.NoError(t, err)
			serial := cert.SerialNumber.Cmp(mustParse(t, wrap(t, tbs)).SerialNumber) != 0
			subject := !bytes.Equal(cert.RawSubject, mustParse(t, wrap(t, tbs)).RawSubject)
			require.True(t, serial || subject, "byte %d bit %d", i, bit)
		}
	}
	require.Greater(t, passed, 100, "the holes are there")
	for _, bad := range [][]byte{nil, tbs[:len(tbs)-1], append(slices.Clone(tbs), 0), {0x30, 0}} {
		require.Error(t, check(bad))
	}
}

func mustParse(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return c
}

// wrap makes a certificate of a to-be-signed part, with a signature of no value.
func wrap(t *testing.T, tbs []byte) []byte {
	t.Helper()
	algorithm := []byte{0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02}
	signature := []byte{0x03, 0x09, 0, 0x30, 6, 2, 1, 1, 2, 1, 1}
	body := slices.Concat(tbs, algorithm, signature)
	require.Less(t, len(body), 1<<16)
	require.Greater(t, len(body), 255)
	return append([]byte{0x30, 0x82, byte(len(body) >> 8), byte(len(body))}, body...)
}

func TestWhatIsJudgedInFull(t *testing.T) {
	t.Parallel()
	w := newTower(t, "P-256", linter(t, 1))
	l := linter(t, 1_000_000)
	o := w.device(t, l)
	prepare := func(o issuance.Order) {
		o.Serial = serial(t)
		_, err := issuance.Prepare(o)
		require.NoError(t, err)
	}
	base := 0
	prepare(o)
	require.Equal(t, base+1, l.Moulds(), "the first of a kind makes the mould")
	prepare(o)
	require.Equal(t, base+1, l.Moulds())
	shard := o
	shard.Locations.CRL = []string{"http://pki.example.com/crl/00/1.crl"}
	prepare(shard)
	require.Equal(t, base+2, l.Moulds(), "another address")
	other := o
	other.Request = request(t, newKey(t, "Ed25519"))
	prepare(other)
	require.Equal(t, base+3, l.Moulds(), "another kind of key")
	names := issuance.Order{
		Issuer: w.signer, Profile: compile(t, issuance.Gateway(), l), Request: o.Request, Now: now,
		Subject: issuance.Subject{Organization: "alpha", CommonName: "x"}, AltNames: issuance.AltNames{DNS: []string{"a.example"}},
	}
	base = l.Moulds()
	require.Equal(t, 3, base, "profiles leave none")
	prepare(names)
	ca := issuance.Order{
		Issuer: w.issuer, Profile: compile(t, issuance.Signer(), l), Request: o.Request, Now: now,
		Subject: issuance.Subject{Organization: "alpha", CommonName: "x", SerialNumber: "x"},
	}
	prepare(ca)
	require.Equal(t, base, l.Moulds(), "CAs and certificates with names of hosts have none")
	_, err := lint.New(lint.Config{Every: -1})
	require.Error(t, err)
}
