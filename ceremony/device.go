package ceremony

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/signet-hsm/signet/ceremony/custody"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/secret"
)

// HSM says which token a ceremony uses and where its PINs come from. A PIN is asked
// for when it is needed and wiped after it; a source that is nil is not there.
type HSM struct {
	Module                  string
	Env                     map[string]string
	TokenLabel, TokenSerial string
	PIN                     func(context.Context) (secret.Bytes, error)
	SOPIN                   func(context.Context) (secret.Bytes, error)
	NewPIN                  func(context.Context) (secret.Bytes, error) // what pin_init and pin_change set
}

// device is the token at work, and the second one for backups.
type device struct {
	hsm    HSM
	token  *hsm.Token // nil before token_init and while the security officer is logged in
	second *hsm.Token
	lent   bool // the token is the caller's: it stays open, and PINs stay out of reach
	dir    *folder
	pin    secret.Bytes // that this ceremony has set itself
}

func (d *device) setPIN(pin secret.Bytes) {
	d.pin.Wipe()
	d.pin = pin
}

// open logs in, once.
func (d *device) open(ctx context.Context, label string) error {
	if d.token != nil {
		return nil
	}
	source := d.hsm.PIN
	if d.pin.Len() > 0 {
		source = func(context.Context) (secret.Bytes, error) { return secret.New(bytes.Clone(d.pin.Reveal())), nil }
	}
	if source == nil {
		return fmt.Errorf("%w: no source of the user's PIN", ErrPlan)
	}
	token, err := hsm.Open(ctx, hsm.Config{
		Module: d.hsm.Module, Env: d.hsm.Env, TokenLabel: label, TokenSerial: d.hsm.TokenSerial, Lanes: 2, PIN: source, // hsm wipes what it is given
	})
	d.token = token
	return err
}

// reset sets a PIN as security officer, which needs the user logged out.
func (d *device) reset(ctx context.Context, of string, fresh secret.Bytes) error {
	if d.lent {
		return fmt.Errorf("%w: PINs are set by the offline program only", hsm.ErrUnsupported)
	}
	label := d.hsm.TokenLabel
	if d.token != nil {
		info, err := d.token.Info(ctx)
		if err != nil {
			return err
		}
		label = info.Label
		err = d.token.Close()
		d.token = nil
		if err != nil {
			return err
		}
	}
	if d.hsm.SOPIN == nil {
		return fmt.Errorf("%w: no source of the security officer's PIN", ErrPlan)
	}
	so, err := d.hsm.SOPIN(ctx)
	if err != nil {
		return err
	}
	defer so.Wipe()
	c := hsm.ResetConfig{Module: d.hsm.Module, Env: d.hsm.Env, Label: label, Serial: d.hsm.TokenSerial, SOPIN: so}
	if of == "so" {
		c.NewSOPIN = fresh
	} else {
		c.PIN = fresh
	}
	if err := hsm.ResetPIN(ctx, c); err != nil {
		return err
	}
	if of != "so" {
		d.setPIN(fresh)
	}
	return d.open(ctx, label)
}

func (d *device) changePIN(ctx context.Context, fresh secret.Bytes) error {
	if d.lent || d.hsm.PIN == nil {
		return fmt.Errorf("%w: PINs are changed by the offline program, with the old PIN", hsm.ErrUnsupported)
	}
	officer, err := d.token.Officer()
	if err != nil {
		return err
	}
	old, err := d.hsm.PIN(ctx)
	if err != nil {
		return err
	}
	defer old.Wipe()
	if err := officer.ChangePIN(ctx, old, fresh); err != nil {
		return err
	}
	d.setPIN(fresh)
	return nil
}

// opened opens a PIN that custodians have, for a ceremony that is taken up again.
func (d *device) opened(file string, people []*custody.Key) (secret.Bytes, error) {
	content, err := d.dir.read(file)
	if err != nil {
		return secret.Bytes{}, err
	}
	sealed, err := custody.Parse(content)
	if err != nil {
		return secret.Bytes{}, err
	}
	return sealed.Open(people)
}

// attributes are those of a key, read back; nil where the module is in another
// process, which has compared them with the role itself.
func (d *device) attributes(ctx context.Context, ref hsm.Ref) ([]hsm.Object, error) {
	officer, err := d.token.Officer()
	if errors.Is(err, hsm.ErrUnsupported) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return officer.Attributes(ctx, ref)
}

// verify reads a key back, and has a key that signs sign.
func (d *device) verify(ctx context.Context, k hsm.KeyInfo) (map[string]any, error) {
	objects, err := d.attributes(ctx, k.Ref)
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		if o.Fault != "" {
			return nil, fmt.Errorf("%w: %s: %s", ErrKey, k.Ref, o.Fault)
		}
	}
	detail := map[string]any{"attributes": objects}
	if k.Public == nil {
		return detail, nil
	}
	key, err := d.token.Signer(ctx, k.Ref)
	if err != nil {
		return nil, err
	}
	if err := tryKey(key); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrKey, k.Ref, err)
	}
	spki, words, err := spkiOf(k.Public)
	detail["spki"], detail["spkiWords"], detail["signed"] = spki, words, "a random challenge, verified with the public key"
	return detail, err
}

// tryKey signs a challenge as certificates are signed and verifies it.
func tryKey(key crypto.Signer) error {
	_, _, err := signText(key, []byte("signet ceremony challenge 1\n"+rand.Text()+"\n"))
	return err
}

func (d *device) close() error {
	d.pin.Wipe()
	if d.lent || d.token == nil {
		return nil
	}
	err := d.token.Close()
	d.token = nil
	return err
}

// modulePath is the library as the transcript names it.
func (d *device) modulePath() string {
	if real, err := filepath.EvalSymlinks(d.hsm.Module); err == nil {
		return real
	}
	return d.hsm.Module
}
