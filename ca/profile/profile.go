package profile

import (
	"fmt"
	"os"
	"slices"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/lint"
	"github.com/signet-hsm/signet/internal/conf"
)

// Names of the built-in profiles that a file may replace.
const (
	Signer      = "SIGNER"
	ASTDevice   = "AST_DEVICE"
	Signature   = "SIGNATURE"
	Gateway     = "GATEWAY"
	OCSPSigning = "OCSP_SIGNING"
	CRLSigning  = "CRL_SIGNING"
)

// Set holds profiles by name.
type Set map[string]issuance.Profile

// BuiltIn returns what applies without a file.
func BuiltIn() Set {
	return Set{
		Signer: issuance.Signer(), ASTDevice: issuance.ASTDevice(), Signature: issuance.Signature(),
		Gateway: issuance.Gateway(), OCSPSigning: issuance.OCSPSigning(), CRLSigning: issuance.CRLSigning(),
	}
}

// file is the layout; the comments of issuance.Profile are its manual.
type file struct {
	Profiles []entry `yaml:"profiles"`
}

type entry struct {
	Name         string                  `yaml:"name"`
	CA           bool                    `yaml:"ca"`
	MaxPath      int                     `yaml:"max_path"`
	KeyUsages    []issuance.KeyUsage     `yaml:"key_usages"`
	ExtKeyUsages []issuance.ExtKeyUsage  `yaml:"ext_key_usages"`
	OCSPNoCheck  bool                    `yaml:"ocsp_nocheck"`
	SelfIssued   bool                    `yaml:"self_issued"`
	Validity     conf.Duration           `yaml:"validity"`
	Backdate     conf.Duration           `yaml:"backdate"`
	Subject      issuance.SubjectPolicy  `yaml:"subject"`
	AltNames     issuance.AltNamePolicy  `yaml:"alt_names"`
	Keys         []issuance.KeyAlgorithm `yaml:"keys"`
	MinRSABits   int                     `yaml:"min_rsa_bits"`
	IgnoreAsks   bool                    `yaml:"ignore_asks"`
}

func (e *entry) profile() issuance.Profile {
	return issuance.Profile{
		Name: e.Name, CA: e.CA, MaxPath: e.MaxPath, KeyUsages: e.KeyUsages, ExtKeyUsages: e.ExtKeyUsages, OCSPNoCheck: e.OCSPNoCheck, SelfIssued: e.SelfIssued,
		Validity: e.Validity.Std(), Backdate: e.Backdate.Std(), Subject: e.Subject, AltNames: e.AltNames,
		Keys: e.Keys, MinRSABits: e.MinRSABits, IgnoreAsks: e.IgnoreAsks,
	}
}

// Load reads a file of profiles and returns them with the built-in ones that it
// does not replace. All of them were validated and linted. ErrFile.
func Load(path string) (Set, error) {
	f, err := conf.Load[file](path)
	if err != nil {
		return nil, fmt.Errorf("profile: %w: %w", ErrFile, err)
	}
	return f.set(path)
}

// Parse is Load for content that is at hand; name stands in the errors.
func Parse(name string, content []byte) (Set, error) {
	f, err := conf.Parse[file](name, content)
	if err != nil {
		return nil, fmt.Errorf("profile: %w: %w", ErrFile, err)
	}
	return f.set(name)
}

func (f *file) set(name string) (Set, error) {
	linter, err := lint.New(lint.Config{})
	if err != nil {
		return nil, err
	}
	set, seen := BuiltIn(), map[string]bool{}
	if len(f.Profiles) > maxProfiles {
		return nil, fmt.Errorf("profile: %w: %s: more than %d profiles", ErrFile, name, maxProfiles)
	}
	for i := range f.Profiles {
		p := f.Profiles[i].profile()
		if seen[p.Name] {
			return nil, fmt.Errorf("profile: %w: %s: %q twice", ErrFile, name, p.Name)
		}
		seen[p.Name] = true
		if err := sameKind(&p); err != nil {
			return nil, fmt.Errorf("profile: %w: %s: %w", ErrFile, name, err)
		}
		if _, err := p.Compile(issuance.Checks{Linter: linter}); err != nil {
			return nil, fmt.Errorf("profile: %w: %s: %w", ErrFile, name, err)
		}
		set[p.Name] = p
	}
	return set, nil
}

// maxProfiles bounds the start: each costs some milliseconds of linting.
const maxProfiles = 64

// sameKind keeps what other code relies on: that a signer is a CA with a key that
// lasts, and that what answers OCSP may, and nothing else: its holder could call
// every certificate of the issuer good. New names are leaf certificates: a CA
// below the issuer that is no tenant's signer has nobody to look after it.
func sameKind(p *issuance.Profile) error {
	switch p.Name {
	case issuance.Root().Name, issuance.Issuer().Name:
		return fmt.Errorf("%s is made by a ceremony, from its plan", p.Name)
	case Signer:
		if !p.CA || p.MaxPath != 0 || !slices.Contains(p.KeyUsages, issuance.DigitalSignature) || !slices.Contains(p.KeyUsages, issuance.CRLSign) {
			return fmt.Errorf("%s must be a CA for leaf certificates that signs CRLs and configurations", p.Name)
		}
		if slices.Contains(p.Keys, issuance.RSA) && p.MinRSABits < minSignerRSA {
			return fmt.Errorf("%s must have min_rsa_bits of %d or more", p.Name, minSignerRSA)
		}
		return nil
	case OCSPSigning:
		if standard := issuance.OCSPSigning(); p.Hash() != standard.Hash() { // responders always get that one
			return fmt.Errorf("%s can not be replaced: what is for OCSPSigning is built in", p.Name)
		}
	case CRLSigning:
		if standard := issuance.CRLSigning(); p.Hash() != standard.Hash() { // as above
			return fmt.Errorf("%s can not be replaced: what signs CRLs for a CA is built in", p.Name)
		}
	case ASTDevice:
		if !slices.Contains(p.ExtKeyUsages, issuance.ClientAuth) {
			return fmt.Errorf("%s must be for clientAuth", p.Name)
		}
	}
	if p.CA {
		return fmt.Errorf("%s must not be a CA", p.Name)
	}
	if p.Name != CRLSigning && p.SelfIssued {
		return fmt.Errorf("%s must not be self_issued, which only %s is", p.Name, CRLSigning)
	}
	if p.Name != OCSPSigning && slices.Contains(p.ExtKeyUsages, issuance.AnswerOCSP) {
		return fmt.Errorf("%s must not be for OCSPSigning, which only %s is", p.Name, OCSPSigning)
	}
	return nil
}

// minSignerRSA is for what devices trust for years (NIST SP 800-57 part 1).
const minSignerRSA = 3072

// LoadBlockList reads files of keys that are never certified, in the format of
// issuance.ParseBlockList. ErrFile.
func LoadBlockList(paths ...string) (*issuance.BlockList, error) {
	texts := make([][]byte, len(paths))
	for i, path := range paths {
		info, err := os.Stat(path)
		if err == nil && info.Size() > maxBlockList {
			err = fmt.Errorf("%s is larger than %d bytes", path, maxBlockList)
		}
		if err == nil {
			texts[i], err = os.ReadFile(path)
		}
		if err != nil {
			return nil, fmt.Errorf("profile: block list: %w: %w", ErrFile, err)
		}
		if _, err := issuance.ParseBlockList(texts[i]); err != nil { // by itself, to name the file
			return nil, fmt.Errorf("profile: %w: %s: %w", ErrFile, path, err)
		}
	}
	return issuance.ParseBlockList(texts...)
}

// maxBlockList is far above Debian's lists (2.1 MB for the size most used).
const maxBlockList = 64 << 20
