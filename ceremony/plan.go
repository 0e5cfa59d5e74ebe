package ceremony

import (
	"crypto/sha256"
	_ "embed"
	"fmt"
	"os"
	"time"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/conf"
)

// Plan is what people review before a ceremony, and the only input to it. Only
// Load, Parse and DevPlan make one that runs: its hash is that of the reviewed
// text.
type Plan struct {
	Name string `yaml:"name" json:"name"` // what this ceremony is for, in words
	// Root and Issuer are made; both or, in a ceremony for CRLs only, neither.
	Root   *Authority `yaml:"root" json:"root,omitempty"`
	Issuer *Authority `yaml:"issuer" json:"issuer,omitempty"` // certified by Root
	// ExistingRoot is there already and signs cross-certificates and CRLs.
	ExistingRoot *Existing   `yaml:"existing_root" json:"existing_root,omitempty"`
	CrossSign    []CrossSign `yaml:"cross_sign" json:"cross_sign,omitempty"` // by ExistingRoot
	CRLs         []CRL       `yaml:"crl" json:"crl,omitempty"`

	text []byte
}

// Authority is one key and its certificate.
type Authority struct {
	// Key and Generation go into the label, signet/1/_system/<role>/<key>/<generation>.
	Key        string        `yaml:"key" json:"key"`
	Generation int           `yaml:"generation" json:"generation"`
	Algorithm  hsm.Algorithm `yaml:"algorithm" json:"algorithm"` // P-256, P-384, RSA-3072, Ed25519
	Subject    Subject       `yaml:"subject" json:"subject"`
	Validity   conf.Duration `yaml:"validity" json:"validity"` // e.g. 175200h; an issuer's is cut to its root's
}

// Subject is the name in the certificate; only the common name is required.
type Subject struct {
	Country            string `yaml:"country" json:"country,omitempty"`
	Organization       string `yaml:"organization" json:"organization,omitempty"`
	OrganizationalUnit string `yaml:"organizational_unit" json:"organizational_unit,omitempty"`
	CommonName         string `yaml:"common_name" json:"common_name"`
}

//go:embed dev.yaml
var devPlan []byte

// DevPlan is the plan that `signet dev` carries out.
func DevPlan() Plan {
	p, err := Parse("dev.yaml", devPlan)
	if err != nil {
		panic(err) // embedded; a test parses it
	}
	return p
}

// Load reads a plan from a file.
func Load(path string) (Plan, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Plan{}, fmt.Errorf("ceremony: %w: %w", ErrPlan, err)
	}
	return Parse(path, text)
}

// Parse reads a plan that is at hand; name stands in the errors. The YAML is
// strict (package conf), and the plan is validated.
func Parse(name string, text []byte) (Plan, error) {
	p, err := conf.Parse[Plan](name, text)
	if err != nil {
		return Plan{}, fmt.Errorf("ceremony: %w: %w", ErrPlan, err)
	}
	p.text = append([]byte{}, text...)
	return p, nil
}

// Hash is SHA-256 of the plan's text: what sha256sum says of the reviewed file.
func (p *Plan) Hash() [sha256.Size]byte { return sha256.Sum256(p.text) }

// Validate checks the plan as far as it can be without a token and a clock.
func (p *Plan) Validate() error {
	switch {
	case p.Name == "":
		return fmt.Errorf("%w: name is missing", ErrPlan)
	case (p.Root == nil) != (p.Issuer == nil):
		return fmt.Errorf("%w: root and issuer are made together", ErrPlan)
	case p.Root == nil && len(p.CRLs) == 0:
		return fmt.Errorf("%w: nothing to do: no root and no crl", ErrPlan)
	}
	if p.Root != nil {
		if err := p.validateAuthorities(); err != nil {
			return err
		}
	}
	if err := p.validateExisting(); err != nil {
		return err
	}
	if err := p.validateCrossSign(); err != nil {
		return err
	}
	return p.validateCRLs()
}

func (p *Plan) validateAuthorities() error {
	for _, a := range []struct {
		what    string
		role    hsm.Role
		profile issuance.Profile
		plan    *Authority
	}{
		{"root", hsm.RoleRoot, issuance.Root(), p.Root},
		{"issuer", hsm.RoleIssuer, issuance.Issuer(), p.Issuer},
	} {
		if err := a.plan.ref(a.role).Validate(); err != nil {
			return fmt.Errorf("%w: %s: key: %w", ErrPlan, a.what, err)
		}
		if _, ok := throwAway[a.plan.Algorithm]; !ok {
			return fmt.Errorf("%w: %s: algorithm must be P-256, P-384, RSA-3072 or Ed25519", ErrPlan, a.what)
		}
		if err := validity(a.plan.Validity); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrPlan, a.what, err)
		}
		profile := a.plan.profile(a.profile)
		if err := profile.Validate(); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrPlan, a.what, err)
		}
	}
	if p.Issuer.Validity > p.Root.Validity {
		return fmt.Errorf("%w: the issuer would outlive its root", ErrPlan)
	}
	if p.Issuer.Subject == p.Root.Subject {
		return fmt.Errorf("%w: root and issuer need different subjects", ErrPlan)
	}
	return nil
}

func validity(d conf.Duration) error {
	if d.Std() < 24*time.Hour {
		return fmt.Errorf("validity must be a day or more")
	}
	return nil
}

// system is tenant.System, spelled out: that package knows of a database.
const system = "_system"

// newRefs are the labels that must be free.
func (p *Plan) newRefs() []hsm.Ref {
	if p.Root == nil {
		return nil
	}
	return []hsm.Ref{p.Root.ref(hsm.RoleRoot), p.Issuer.ref(hsm.RoleIssuer)}
}

func (a *Authority) ref(role hsm.Role) hsm.Ref {
	return hsm.Ref{Tenant: system, Role: role, Name: a.Key, Generation: a.Generation}
}

// profile is the engine's with the plan's validity.
func (a *Authority) profile(base issuance.Profile) issuance.Profile {
	base.Validity = a.Validity.Std()
	return base
}

func (a *Authority) subject() issuance.Subject {
	return issuance.Subject{
		Country: a.Subject.Country, Organization: a.Subject.Organization,
		OrganizationalUnit: a.Subject.OrganizationalUnit, CommonName: a.Subject.CommonName,
	}
}
