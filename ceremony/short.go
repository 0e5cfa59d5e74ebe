package ceremony

import (
	"fmt"

	"github.com/signet-hsm/signet/hsm"
)

// The names that the sections of the short form have as steps.
const (
	newRoot      = "root"
	newIssuer    = "issuer"
	existingRoot = "existing_root"
)

func (p *Plan) short() bool {
	return p.Root != nil || p.Issuer != nil || p.ExistingRoot != nil || len(p.CrossSign)+len(p.CRLs) > 0
}

// validateShort checks what the steps do not say: how the sections fit together.
func (p *Plan) validateShort() error {
	if (p.Root == nil) != (p.Issuer == nil) {
		return fmt.Errorf("%w: root and issuer are made together", ErrPlan)
	}
	used := len(p.CrossSign) > 0
	for i := range p.CRLs {
		if b := p.CRLs[i].By; b != newRoot && b != existingRoot {
			return fmt.Errorf("%w: crl %d: by must be root or existing_root", ErrPlan, i+1)
		}
		used = used || p.CRLs[i].By == existingRoot
	}
	for i := range p.CrossSign {
		if p.CrossSign[i].By != "" || p.CrossSign[i].As != "" {
			return fmt.Errorf("%w: cross_sign %d: the existing root signs: write steps for another", ErrPlan, i+1)
		}
	}
	if e := p.ExistingRoot; e != nil {
		switch {
		case !used:
			return fmt.Errorf("%w: existing_root is not used by any step", ErrPlan)
		case e.As != "" || e.Role != "":
			return fmt.Errorf("%w: existing_root: as and role are for steps", ErrPlan)
		}
	}
	return nil
}

// steps are the plan's, those of the short form spelled out.
func (p *Plan) steps() []Step {
	if !p.short() {
		return p.Steps
	}
	var list []Step
	if p.Root != nil && p.Issuer != nil {
		list = append(list,
			Step{Root: &MakeCA{As: newRoot, Authority: *p.Root}},
			Step{Intermediate: &MakeCA{As: newIssuer, By: newRoot, Authority: *p.Issuer}})
	}
	if p.ExistingRoot != nil {
		e := *p.ExistingRoot
		e.As, e.Role = existingRoot, hsm.RoleRoot
		list = append(list, Step{Existing: &e})
	}
	for i := range p.CrossSign {
		c := p.CrossSign[i]
		c.By = existingRoot
		list = append(list, Step{CrossSign: &c})
	}
	for i := range p.CRLs {
		list = append(list, Step{CRL: &p.CRLs[i]})
	}
	return list
}
