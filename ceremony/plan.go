package ceremony

import (
	"crypto/sha256"
	_ "embed"
	"fmt"
	"os"
	"time"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ceremony/custody"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/conf"
)

// Plan is what people review before a ceremony, and the only input to it. Only
// Load, Parse and DevPlan make one that runs: its hash is that of the reviewed
// text. It has Steps, or the short form: the sections Root to CRLs, which stand for
// the steps of the commonest ceremonies (see short.go).
type Plan struct {
	Name string `yaml:"name" json:"name"` // what this ceremony is for, in words
	// Token is compared with the token that is found; left out: the configuration decides.
	Token *TokenCheck `yaml:"token" json:"token,omitempty"`
	// People sign the transcript, all of them, and may be custodians.
	People []custody.Person `yaml:"people" json:"people,omitempty"`
	Steps  []Step           `yaml:"steps" json:"steps,omitempty"`

	// Root and Issuer are made; both or, in a ceremony for CRLs only, neither.
	Root   *Authority `yaml:"root" json:"root,omitempty"`
	Issuer *Authority `yaml:"issuer" json:"issuer,omitempty"` // certified by Root
	// ExistingRoot is there already and signs cross-certificates and CRLs.
	ExistingRoot *Existing   `yaml:"existing_root" json:"existing_root,omitempty"`
	CrossSign    []CrossSign `yaml:"cross_sign" json:"cross_sign,omitempty"` // by ExistingRoot
	CRLs         []CRL       `yaml:"crl" json:"crl,omitempty"`

	text []byte
}

// TokenCheck says on which token the plan may run. Empty fields are not compared.
type TokenCheck struct {
	Label  string `yaml:"label" json:"label,omitempty"`
	Serial string `yaml:"serial" json:"serial,omitempty"`
}

// Authority is one key and its certificate.
type Authority struct {
	// Key and Generation go into the label, signet/1/_system/<role>/<key>/<generation>.
	Key        string        `yaml:"key" json:"key,omitempty"`
	Generation int           `yaml:"generation" json:"generation"`
	Algorithm  hsm.Algorithm `yaml:"algorithm" json:"algorithm,omitempty"` // P-256, P-384, RSA-3072, Ed25519
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
	if p.Name == "" {
		return fmt.Errorf("%w: name is missing", ErrPlan)
	}
	if p.short() {
		if len(p.Steps) > 0 {
			return fmt.Errorf("%w: a plan has steps or the sections root, issuer, existing_root, cross_sign and crl, not both", ErrPlan)
		}
		if err := p.validateShort(); err != nil {
			return err
		}
	}
	return p.check()
}

func validity(d conf.Duration) error {
	if d.Std() < 24*time.Hour {
		return fmt.Errorf("validity must be a day or more")
	}
	return nil
}

// system is tenant.System, spelled out: that package knows of a database.
const system = "_system"

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
