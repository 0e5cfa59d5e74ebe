package ceremony

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/signet-hsm/signet/ceremony/custody"
	"github.com/signet-hsm/signet/hsm"
)

// Step is one step of a plan; exactly one field is set.
type Step struct {
	TokenInit    *TokenInit    `yaml:"token_init" json:"token_init,omitempty"`       // initialise an empty token
	PINInit      *PINInit      `yaml:"pin_init" json:"pin_init,omitempty"`           // the security officer sets the user's PIN
	PINChange    *PINChange    `yaml:"pin_change" json:"pin_change,omitempty"`       // the user's or the security officer's
	Key          *MakeKey      `yaml:"key" json:"key,omitempty"`                     // a key without a certificate
	KeyVerify    *KeyVerify    `yaml:"key_verify" json:"key_verify,omitempty"`       // read back and use a key
	KeyDestroy   *KeyDestroy   `yaml:"key_destroy" json:"key_destroy,omitempty"`     // for ever
	Root         *MakeCA       `yaml:"root" json:"root,omitempty"`                   // key and self-signed certificate
	Intermediate *MakeCA       `yaml:"intermediate" json:"intermediate,omitempty"`   // key, or a request, and certificate
	Existing     *Existing     `yaml:"existing" json:"existing,omitempty"`           // a CA of an earlier ceremony is taken into use
	CrossSign    *CrossSign    `yaml:"cross_sign" json:"cross_sign,omitempty"`       // a second certificate for a CA of this plan
	CSR          *CSR          `yaml:"csr" json:"csr,omitempty"`                     // key and request, for a CA elsewhere
	CRL          *CRL          `yaml:"crl" json:"crl,omitempty"`                     // complete, by a CA of this plan
	BackupVerify *BackupVerify `yaml:"backup_verify" json:"backup_verify,omitempty"` // restore a backup of this plan on the second token, and destroy it there
	Restore      *Restore      `yaml:"restore" json:"restore,omitempty"`             // put a key back from a backup
	Inventory    *Inventory    `yaml:"inventory" json:"inventory,omitempty"`         // list every object of the token
}

// action is what every kind of step can do.
type action interface {
	// check judges the plan alone, in the order of the steps.
	check(c *checker) error
	// look judges the token, before anything is changed.
	look(ctx context.Context, token *hsm.Token, w *work) error
	// do carries it out, or goes on where the transcript says that it was cut off.
	do(w *work) error
}

// action returns the one that is set and its name in the plan.
func (s *Step) action() (kind string, a action, err error) {
	set := 0
	try := func(k string, is bool, v action) {
		if is {
			kind, a = k, v
			set++
		}
	}
	try("token_init", s.TokenInit != nil, s.TokenInit)
	try("pin_init", s.PINInit != nil, s.PINInit)
	try("pin_change", s.PINChange != nil, s.PINChange)
	try("key", s.Key != nil, s.Key)
	try("key_verify", s.KeyVerify != nil, s.KeyVerify)
	try("key_destroy", s.KeyDestroy != nil, s.KeyDestroy)
	try("root", s.Root != nil, root{s.Root})
	try("intermediate", s.Intermediate != nil, intermediate{s.Intermediate})
	try("existing", s.Existing != nil, s.Existing)
	try("cross_sign", s.CrossSign != nil, s.CrossSign)
	try("csr", s.CSR != nil, s.CSR)
	try("crl", s.CRL != nil, s.CRL)
	try("backup_verify", s.BackupVerify != nil, s.BackupVerify)
	try("restore", s.Restore != nil, s.Restore)
	try("inventory", s.Inventory != nil, s.Inventory)
	if set != 1 {
		return "", nil, fmt.Errorf("a step is one thing, this one is %d", set)
	}
	return kind, a, nil
}

// Kinds returns what the plan's steps are, in order.
func (p *Plan) Kinds() (list []string) {
	for _, s := range p.steps() {
		kind, _, _ := s.action()
		list = append(list, kind)
	}
	return list
}

// checker goes through the steps of a plan and remembers what the earlier ones
// promise.
type checker struct {
	plan   *Plan
	at     int // number of the step, from 1
	kinds  []string
	cas    map[string]planned // by the name they have in the plan
	labels map[string]bool    // of keys that are made
	backed map[string]bool    // labels with a backup
	files  map[string]bool
	crls   map[string]bool
}

type planned struct {
	make     *MakeCA // nil: existing
	existing *Existing
}

// check goes through all steps.
func (p *Plan) check() error {
	steps := p.steps()
	if len(steps) == 0 {
		return fmt.Errorf("%w: nothing to do: there are no steps", ErrPlan)
	}
	c := &checker{plan: p, cas: map[string]planned{}, labels: map[string]bool{}, backed: map[string]bool{}, files: map[string]bool{}, crls: map[string]bool{}}
	seen := map[string]bool{}
	for i := range p.People {
		if err := p.People[i].Validate(); err != nil {
			return fmt.Errorf("%w: people %d: %w", ErrPlan, i+1, err)
		}
		if seen[p.People[i].Name] {
			return fmt.Errorf("%w: people %d: %s a second time", ErrPlan, i+1, p.People[i].Name)
		}
		seen[p.People[i].Name] = true
	}
	for i := range steps {
		kind, a, err := steps[i].action()
		c.at = i + 1
		if err == nil {
			err = c.order(kind)
		}
		if err == nil {
			err = a.check(c)
		}
		if err != nil {
			return fmt.Errorf("%w: step %d (%s): %w", ErrPlan, i+1, kind, err)
		}
		c.kinds = append(c.kinds, kind)
	}
	return nil
}

var pinKinds = []string{"token_init", "pin_init", "pin_change"}

// order keeps what logs out before what needs a login.
func (c *checker) order(kind string) error {
	if kind == "token_init" && c.at > 1 {
		return fmt.Errorf("a token is initialised in the first step")
	}
	if slices.Contains(pinKinds, kind) {
		for _, k := range c.kinds {
			if !slices.Contains(pinKinds, k) {
				return fmt.Errorf("PINs are set before the other steps")
			}
		}
	}
	return nil
}

// file reserves the name of an output.
func (c *checker) file(name string) error {
	if c.files[name] || name == TranscriptFile || name == PrintFile {
		return fmt.Errorf("the file %s would be written twice: choose another `as`", name)
	}
	c.files[name] = true
	return nil
}

// name checks what a CA is called in the plan: it becomes part of file names.
func (c *checker) name(as string) error {
	switch {
	case as == "" || len(as) > 40 || strings.Trim(as, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "":
		return fmt.Errorf("as must be 1 to 40 of a-z, 0-9, - and _, for the files' names")
	case c.cas[as] != planned{}:
		return fmt.Errorf("%s is there already", as)
	}
	return nil
}

// label reserves a label of a key that is going to be made.
func (c *checker) label(ref hsm.Ref) error {
	if err := ref.Validate(); err != nil {
		return fmt.Errorf("key: %w", err)
	}
	if c.labels[ref.String()] {
		return fmt.Errorf("the key %s is made a second time", ref)
	}
	c.labels[ref.String()] = true
	return nil
}

// Custody says who can open a secret together.
type Custody struct {
	Threshold int      `yaml:"threshold" json:"threshold"`
	Of        []string `yaml:"of" json:"of"` // names of people of the plan
}

func (c *checker) custody(what string, k *Custody) error {
	_, err := k.people(c.plan)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// people are the custodians.
func (k *Custody) people(p *Plan) (list []custody.Person, err error) {
	if k.Threshold < 1 || k.Threshold > len(k.Of) || len(k.Of) > custody.MaxCustodians {
		return nil, fmt.Errorf("a threshold of %d among %d custodians can not be", k.Threshold, len(k.Of))
	}
	for i, name := range k.Of {
		at := slices.IndexFunc(p.People, func(q custody.Person) bool { return q.Name == name })
		if at < 0 || slices.Contains(k.Of[:i], name) {
			return nil, fmt.Errorf("custodian %q must be one of the people, once", name)
		}
		list = append(list, p.People[at])
	}
	return list, nil
}

// hyphens makes a file name of a name in the plan.
func hyphens(as string) string { return strings.ReplaceAll(as, "_", "-") }
