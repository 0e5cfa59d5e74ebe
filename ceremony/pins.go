package ceremony

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/secret"
)

// TokenInit initialises the module's first empty token. A token that is in use is
// never touched.
type TokenInit struct {
	Label string `yaml:"label" json:"label"`
	// PIN and SOPIN say whose the new PINs are: random ones, shared among custodians.
	// Left out: they are the operators', from the configuration (pin, so_pin).
	PIN   *Custody `yaml:"pin" json:"pin,omitempty"`
	SOPIN *Custody `yaml:"so_pin" json:"so_pin,omitempty"`
}

// PINInit has the security officer set a new user's PIN: it was lost or locked.
type PINInit struct {
	PIN *Custody `yaml:"pin" json:"pin,omitempty"` // left out: new_pin of the configuration
}

// PINChange replaces a PIN by a new one.
type PINChange struct {
	Of  string   `yaml:"of" json:"of"`             // user or so
	PIN *Custody `yaml:"pin" json:"pin,omitempty"` // left out: new_pin of the configuration
}

// The files of PINs that custodians have.
const (
	UserPINFile = "user-pin.sealed.json"
	SOPINFile   = "so-pin.sealed.json"
)

func (t *TokenInit) check(c *checker) error {
	if t.Label == "" || len(t.Label) > 32 {
		return errors.New("label must have 1 to 32 bytes")
	}
	if c.plan.Token != nil && c.plan.Token.Label != "" && c.plan.Token.Label != t.Label {
		return errors.New("token.label is another one")
	}
	return errors.Join(c.pin("pin", t.PIN, UserPINFile), c.pin("so_pin", t.SOPIN, SOPINFile))
}

func (c *checker) pin(what string, k *Custody, file string) error {
	if k == nil {
		return nil
	}
	if err := c.custody(what, k); err != nil {
		return err
	}
	return c.file(file)
}

func (p *PINInit) check(c *checker) error { return c.pin("pin", p.PIN, UserPINFile) }

func (p *PINChange) check(c *checker) error {
	switch p.Of {
	case "user":
		return c.pin("pin", p.PIN, UserPINFile)
	case "so":
		return c.pin("pin", p.PIN, SOPINFile)
	}
	return errors.New("of must be user or so")
}

// look of steps that come before the login has no token.
func (t *TokenInit) look(context.Context, *hsm.Token, *work) error { return nil }
func (p *PINInit) look(context.Context, *hsm.Token, *work) error   { return nil }
func (p *PINChange) look(context.Context, *hsm.Token, *work) error { return nil }

// newPIN makes a PIN that custodians will have, or asks the operators' source.
// With custodians it is sealed and signed off before the token knows it: a PIN that
// the token has and nobody else would be the end of the token.
func (w *work) newPIN(what, file string, k *Custody, source func(context.Context) (secret.Bytes, error)) (secret.Bytes, error) {
	if k == nil {
		if source == nil {
			return secret.Bytes{}, fmt.Errorf("%w: the plan gives the %s to no custodians, and the configuration has no source of it", ErrPlan, what)
		}
		return source(w.ctx)
	}
	if w.recalled(eventFile, file) != nil { // sealed before the interruption
		return w.device.opened(file, w.people)
	}
	pin := secret.New([]byte(rand.Text()))
	sealed, content, err := w.seal(what, pin, k)
	if err != nil {
		return secret.Bytes{}, err
	}
	if err := w.write(file, content); err != nil {
		return secret.Bytes{}, err
	}
	return pin, w.signOff(file, sealed, content)
}

func (t *TokenInit) do(w *work) error {
	if w.device == nil {
		return nil
	}
	if done := w.recalled(eventToken, t.Label); done != nil {
		return w.reopen(t.Label)
	}
	so, err := w.newPIN("security officer's PIN of token "+t.Label, SOPINFile, t.SOPIN, w.device.hsm.SOPIN)
	if err != nil {
		return err
	}
	defer so.Wipe()
	pin, err := w.newPIN("user's PIN of token "+t.Label, UserPINFile, t.PIN, w.device.hsm.PIN)
	if err != nil {
		return err
	}
	if err := w.tell(eventTokenIntent, map[string]any{"name": t.Label}); err != nil {
		return err
	}
	c := w.device.hsm
	err = hsm.InitToken(w.ctx, hsm.InitConfig{Module: c.Module, Env: c.Env, Label: t.Label, SOPIN: so, PIN: pin})
	if errors.Is(err, hsm.ErrExists) && w.resumed && w.recalled(eventTokenIntent, t.Label) != nil {
		err = nil // initialised before the interruption; the login will tell
	}
	if err != nil {
		return err
	}
	w.device.setPIN(pin)
	if err := w.device.open(w.ctx, t.Label); err != nil {
		return err
	}
	info, err := w.device.token.Info(w.ctx)
	if err != nil {
		return err
	}
	return w.tell(eventToken, map[string]any{"name": t.Label, "token": info})
}

// reopen logs in at a token that this ceremony has initialised before it was cut
// off, with the PIN that its custodians open if there is no other source.
func (w *work) reopen(label string) error {
	if w.device.token == nil && w.device.hsm.PIN == nil {
		pin, err := w.device.opened(UserPINFile, w.people)
		if err != nil {
			return err
		}
		w.device.setPIN(pin)
	}
	return w.device.open(w.ctx, label)
}

func (p *PINInit) do(w *work) error {
	if w.device == nil {
		return nil
	}
	return w.pins("user", p.PIN, true)
}

func (p *PINChange) do(w *work) error {
	if w.device == nil {
		return nil
	}
	return w.pins(p.Of, p.PIN, p.Of == "so")
}

// pins sets one PIN, as security officer or as the user.
func (w *work) pins(of string, k *Custody, officer bool) error {
	file, what := UserPINFile, "user's PIN"
	if of == "so" {
		file, what = SOPINFile, "security officer's PIN"
	}
	if w.recalled(eventPIN, of) != nil {
		return nil
	}
	fresh, err := w.newPIN(what, file, k, w.device.hsm.NewPIN)
	if err != nil {
		return err
	}
	if err := w.tell(eventPINIntent, map[string]any{"name": of, "bySecurityOfficer": officer}); err != nil {
		return err
	}
	if officer {
		err = w.device.reset(w.ctx, of, fresh)
	} else {
		err = w.device.changePIN(w.ctx, fresh)
	}
	if err != nil {
		return err
	}
	if of == "so" {
		fresh.Wipe()
	}
	return w.tell(eventPIN, map[string]any{"name": of})
}
