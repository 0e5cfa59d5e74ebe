package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/signet-hsm/signet/ceremony"
	"github.com/signet-hsm/signet/ceremony/custody"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/conf"
	"github.com/signet-hsm/signet/internal/secret"
)

// Config is the file of --hsm: which token, and where its PINs come from. It holds
// no secret. A PIN is read from a file, a descriptor, a systemd credential or the
// terminal, or opened by its custodians; there is no flag and no variable for one.
type Config struct {
	Module      string             `yaml:"module"`       // absolute path of the PKCS#11 library
	Env         map[string]string  `yaml:"env"`          // environment that the library reads
	TokenLabel  string             `yaml:"token_label"`  // not needed for token_init
	TokenSerial string             `yaml:"token_serial"` // optional second check
	PIN         *conf.SecretSource `yaml:"pin"`          // the user's
	PINSealed   string             `yaml:"pin_sealed"`   // instead: the file that custodians open with their keys (--person)
	SOPIN       *conf.SecretSource `yaml:"so_pin"`       // the security officer's, for token_init, pin_init and pin_change
	SOPINSealed string             `yaml:"so_pin_sealed"`
	NewPIN      *conf.SecretSource `yaml:"new_pin"` // what pin_init and pin_change set, unless the plan gives it to custodians
}

// Validate implements the check of package conf.
func (c *Config) Validate() error {
	switch {
	case c.Module == "":
		return errors.New("module: the path of the PKCS#11 library is needed")
	case c.PIN != nil && c.PINSealed != "":
		return errors.New("pin and pin_sealed: one of them")
	case c.SOPIN != nil && c.SOPINSealed != "":
		return errors.New("so_pin and so_pin_sealed: one of them")
	}
	return nil
}

func loadHSM(path string, people []*custody.Key) (ceremony.HSM, error) {
	c, err := conf.Load[Config](path)
	if err != nil {
		return ceremony.HSM{}, usageError{err}
	}
	return ceremony.HSM{
		Module: c.Module, Env: c.Env, TokenLabel: c.TokenLabel, TokenSerial: c.TokenSerial,
		PIN: source(c.PIN, c.PINSealed, people), SOPIN: source(c.SOPIN, c.SOPINSealed, people), NewPIN: source(c.NewPIN, "", people),
	}, nil
}

// source is nil when the file names none.
func source(s *conf.SecretSource, sealed string, people []*custody.Key) func(context.Context) (secret.Bytes, error) {
	switch {
	case s != nil:
		return s.Read
	case sealed != "":
		return func(context.Context) (secret.Bytes, error) {
			content, err := os.ReadFile(sealed)
			if err != nil {
				return secret.Bytes{}, err
			}
			box, err := custody.Parse(content)
			if err != nil {
				return secret.Bytes{}, err
			}
			return box.Open(people)
		}
	}
	return nil
}

// openToken opens the token of a configuration, for verbs without a plan.
func openToken(ctx context.Context, h ceremony.HSM) (*hsm.Token, error) {
	if h.PIN == nil {
		return nil, usageError{errors.New("the configuration has no pin and no pin_sealed")}
	}
	return hsm.Open(ctx, hsm.Config{Module: h.Module, Env: h.Env, TokenLabel: h.TokenLabel, TokenSerial: h.TokenSerial, PIN: h.PIN, Lanes: 2})
}

func isUnavailable(err error) bool { return errors.Is(err, fault.ErrUnavailable) }

// common are the flags of verbs that carry out a plan.
type common struct {
	hsm, plan, out, second string
	people                 []string
	resume                 bool
}

func (c *common) flags(cmd *cobra.Command, out bool) {
	f := cmd.Flags()
	f.StringVar(&c.hsm, "hsm", "", "configuration of the token (YAML)")
	f.StringVar(&c.plan, "plan", "", "reviewed plan (YAML)")
	f.StringArrayVar(&c.people, "person", nil, "key file of a person; once for each who is here")
	f.StringVar(&c.second, "second", "", "configuration of a second token, for backup_verify")
	need := []string{"hsm", "plan"}
	if out {
		f.StringVar(&c.out, "out", "", "folder for the outputs; must not exist")
		f.BoolVar(&c.resume, "resume", false, "go on with the ceremony of this plan that was cut off in --out")
		need = append(need, "out")
	}
	for _, n := range need {
		_ = cmd.MarkFlagRequired(n)
	}
}

// open reads what the flags name; done gives it back.
func (c *common) open(ctx context.Context) (ceremony.Plan, ceremony.Options, func(), error) {
	o := ceremony.Options{Out: c.out, Resume: c.resume}
	done := func() {
		for _, k := range o.People {
			k.Wipe()
		}
		if o.Second != nil {
			_ = o.Second.Close()
		}
	}
	plan, err := ceremony.Load(c.plan)
	if err != nil {
		return plan, o, done, usageError{err}
	}
	if o.People, err = readPeople(ctx, c.people); err != nil {
		return plan, o, done, err
	}
	if o.HSM, err = loadHSM(c.hsm, o.People); err != nil {
		return plan, o, done, err
	}
	if c.second != "" {
		second, err := loadHSM(c.second, o.People)
		if err != nil {
			return plan, o, done, err
		}
		if o.Second, err = openToken(ctx, second); err != nil {
			return plan, o, done, fmt.Errorf("second token: %w", err)
		}
	}
	return plan, o, done, nil
}

func readPeople(ctx context.Context, paths []string) (list []*custody.Key, err error) {
	for _, p := range paths {
		k, err := custody.ReadKey(ctx, p)
		if err != nil {
			return list, err
		}
		list = append(list, k)
	}
	return list, nil
}
