package issuance_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca/issuance"
)

func TestBuiltInProfilesAreValid(t *testing.T) {
	t.Parallel()
	seen := map[[32]byte]bool{}
	for _, p := range []issuance.Profile{issuance.Root(), issuance.Issuer(), issuance.Signer(), issuance.ASTDevice(), issuance.Signature(), issuance.Gateway(), issuance.OCSPSigning(), issuance.CRLSigning()} {
		tpl, err := p.Compile(checks)
		require.NoError(t, err, p.Name)
		require.Equal(t, p.Hash(), tpl.Hash())
		require.Equal(t, p, tpl.Profile())
		require.False(t, seen[tpl.Hash()])
		seen[tpl.Hash()] = true
	}
}

func TestProfileValidateRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*issuance.Profile){
		"no name":                  func(p *issuance.Profile) { p.Name = "" },
		"lower-case name":          func(p *issuance.Profile) { p.Name = "device" },
		"no usage":                 func(p *issuance.Profile) { p.KeyUsages = nil },
		"unknown usage":            func(p *issuance.Profile) { p.KeyUsages = []issuance.KeyUsage{"sign"} },
		"usage twice":              func(p *issuance.Profile) { p.KeyUsages = []issuance.KeyUsage{"keyAgreement", "keyAgreement"} },
		"unknown purpose":          func(p *issuance.Profile) { p.ExtKeyUsages = []issuance.ExtKeyUsage{"any"} },
		"leaf that signs":          func(p *issuance.Profile) { p.KeyUsages = []issuance.KeyUsage{issuance.CertSign} },
		"leaf that signs CRLs":     func(p *issuance.Profile) { p.KeyUsages = []issuance.KeyUsage{issuance.CRLSign} },
		"CA that does not":         func(p *issuance.Profile) { p.CA = true },
		"self-signed leaf":         func(p *issuance.Profile) { p.SelfSigned = true },
		"leaf with a path":         func(p *issuance.Profile) { p.MaxPath = 1 },
		"no validity":              func(p *issuance.Profile) { p.Validity = 0 },
		"split second":             func(p *issuance.Profile) { p.Validity = time.Hour + time.Millisecond },
		"a century":                func(p *issuance.Profile) { p.Validity = 100 * 365 * 24 * time.Hour },
		"backdate into the future": func(p *issuance.Profile) { p.Backdate = -time.Second },
		"backdated to death":       func(p *issuance.Profile) { p.Validity, p.Backdate = time.Hour, time.Hour },
		"backdate of a week":       func(p *issuance.Profile) { p.Backdate = 7 * 24 * time.Hour },
		"no keys":                  func(p *issuance.Profile) { p.Keys = nil },
		"unknown key":              func(p *issuance.Profile) { p.Keys = []issuance.KeyAlgorithm{"P-224"} },
		"small RSA":                func(p *issuance.Profile) { p.MinRSABits = 1024 },
		"no subject":               func(p *issuance.Profile) { p.Subject = issuance.SubjectPolicy{} },
		"unknown attribute": func(p *issuance.Profile) {
			p.Subject.Optional = []issuance.Attribute{"emailAddress"}
		},
		"OCSP and TLS": func(p *issuance.Profile) {
			p.ExtKeyUsages = []issuance.ExtKeyUsage{issuance.ClientAuth, issuance.AnswerOCSP}
		},
		"the issuer's name for a leaf": func(p *issuance.Profile) { p.SelfIssued = true },
		"the issuer's name for a CA": func(p *issuance.Profile) {
			*p = issuance.CRLSigning()
			p.CA, p.KeyUsages = true, []issuance.KeyUsage{issuance.CertSign, issuance.CRLSign}
		},
		"the issuer's name and another": func(p *issuance.Profile) {
			*p = issuance.CRLSigning()
			p.Subject.Optional = []issuance.Attribute{issuance.CommonName}
		},
		"the issuer's name for years": func(p *issuance.Profile) {
			*p = issuance.CRLSigning()
			p.Validity = 365 * 24 * time.Hour
		},
		"nocheck for TLS": func(p *issuance.Profile) { p.OCSPNoCheck = true },
		"nocheck for years": func(p *issuance.Profile) {
			p.OCSPNoCheck, p.ExtKeyUsages = true, []issuance.ExtKeyUsage{issuance.AnswerOCSP}
		},
		"a name required, none allowed": func(p *issuance.Profile) { p.AltNames.Required = true },
		"a host that is none":           func(p *issuance.Profile) { p.AltNames.DNS = []string{"a b"} },
		"half a wildcard":               func(p *issuance.Profile) { p.AltNames.DNS = []string{"*a.example"} },
		"a network that is none":        func(p *issuance.Profile) { p.AltNames.IP = []string{"10.0.0.0"} },
		"a network with host bits":      func(p *issuance.Profile) { p.AltNames.IP = []string{"10.0.0.1/8"} },
		"attribute in both":             func(p *issuance.Profile) { p.Subject.Optional = p.Subject.Required },
		"endless list":                  func(p *issuance.Profile) { p.KeyUsages = make([]issuance.KeyUsage, 17) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := issuance.ASTDevice()
			change(&p)
			require.ErrorIs(t, p.Validate(), issuance.ErrProfile)
			tpl, err := p.Compile(checks)
			require.ErrorIs(t, err, issuance.ErrProfile)
			require.Nil(t, tpl)
		})
	}
}

// Two nodes that disagree about any field must see it in the hash; two that
// wrote a list in another order must not.
func TestProfileHash(t *testing.T) {
	t.Parallel()
	base := issuance.Signer()
	seen := map[[32]byte]string{base.Hash(): "base"}
	for name, change := range map[string]func(*issuance.Profile){
		"name":     func(p *issuance.Profile) { p.Name = "SIGNER2" },
		"self":     func(p *issuance.Profile) { p.SelfSigned = true },
		"ca":       func(p *issuance.Profile) { p.CA = false },
		"path":     func(p *issuance.Profile) { p.MaxPath = 1 },
		"usages":   func(p *issuance.Profile) { p.KeyUsages = p.KeyUsages[1:] },
		"purposes": func(p *issuance.Profile) { p.ExtKeyUsages = []issuance.ExtKeyUsage{issuance.ClientAuth} },
		"nocheck":  func(p *issuance.Profile) { p.OCSPNoCheck = true },
		"issued":   func(p *issuance.Profile) { p.SelfIssued = true },
		"names":    func(p *issuance.Profile) { p.AltNames.DNS = []string{"*"} },
		"networks": func(p *issuance.Profile) { p.AltNames.IP = []string{"*"} },
		"a name":   func(p *issuance.Profile) { p.AltNames.Required = true },
		"asks":     func(p *issuance.Profile) { p.IgnoreAsks = true },
		"validity": func(p *issuance.Profile) { p.Validity += time.Second },
		"backdate": func(p *issuance.Profile) { p.Backdate += time.Second },
		"required": func(p *issuance.Profile) { p.Subject.Required = p.Subject.Required[1:] },
		"optional": func(p *issuance.Profile) { p.Subject.Optional = []issuance.Attribute{issuance.Country} },
		"keys":     func(p *issuance.Profile) { p.Keys = p.Keys[:1] },
		"bits":     func(p *issuance.Profile) { p.MinRSABits = 4096 },
		"split":    func(p *issuance.Profile) { p.KeyUsages = append([]issuance.KeyUsage{"x"}, p.KeyUsages...) },
	} {
		p := issuance.Signer()
		change(&p)
		h := p.Hash()
		require.Empty(t, seen[h], name)
		seen[h] = name
	}
	turned := issuance.Signer()
	turned.KeyUsages = []issuance.KeyUsage{issuance.CRLSign, issuance.DigitalSignature, issuance.CertSign}
	require.Equal(t, base.Hash(), turned.Hash())
	implicit, explicit := issuance.ASTDevice(), issuance.ASTDevice()
	explicit.MinRSABits = 2048
	require.Equal(t, implicit.Hash(), explicit.Hash())
}

// A template must not change under its users.
func TestTemplateIsACopy(t *testing.T) {
	t.Parallel()
	p := issuance.ASTDevice()
	tpl, err := p.Compile(checks)
	require.NoError(t, err)
	p.Keys[0] = "changed"
	got := tpl.Profile()
	require.Equal(t, issuance.P256, got.Keys[0])
	got.KeyUsages[0] = "changed"
	require.Equal(t, issuance.DigitalSignature, tpl.Profile().KeyUsages[0])
}
