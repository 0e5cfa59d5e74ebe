package ceremony

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"github.com/signet-hsm/signet/ceremony/custody"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/softhsm"
)

// Rehearse carries out the same plan by the same lines on a throw-away SoftHSM
// token, in memory where there is a tmpfs, and writes the outputs to the new folder
// out. People, and the CAs and keys that the plan finds on its token, are played by
// stand-ins of the same names; the transcript says that it is a rehearsal's.
func Rehearse(ctx context.Context, plan Plan, out string) (_ Result, err error) {
	if err := plan.Validate(); err != nil {
		return Result{}, fmt.Errorf("ceremony: %w", err)
	}
	first, err := throwAwayToken(ctx, "rehearsal")
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, destroyToken(first)) }()
	o := Options{Out: out, rehearsal: true, HSM: HSM{
		Module: first.Module, Env: first.HSM().Env, TokenLabel: first.Label, PIN: lend(first.PIN), SOPIN: lend(first.SOPIN),
		NewPIN: func(context.Context) (secret.Bytes, error) { return secret.New([]byte(rand.Text())), nil },
	}}
	for _, s := range plan.steps() {
		if s.BackupVerify == nil || o.Second != nil {
			continue
		}
		second, err := throwAwayToken(ctx, "rehearsal-2")
		if err != nil {
			return Result{}, err
		}
		defer func() { err = errors.Join(err, destroyToken(second)) }()
		if o.Second, err = hsm.Open(ctx, second.HSM()); err != nil {
			return Result{}, err
		}
		defer func() { _ = o.Second.Close() }()
	}
	if plan, o.People, err = standIns(plan); err != nil {
		return Result{}, err
	}
	if plan.Kinds()[0] != "token_init" {
		if err := plan.standInKeys(ctx, first); err != nil {
			return Result{}, fmt.Errorf("ceremony: rehearsal: %w", err)
		}
	}
	return Execute(ctx, plan, o)
}

func throwAwayToken(ctx context.Context, label string) (*softhsm.Token, error) {
	base := ""
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		base = "/dev/shm"
	}
	dir, err := os.MkdirTemp(base, "signet-ceremony-")
	if err != nil {
		return nil, err
	}
	token, err := softhsm.Create(ctx, dir, label)
	if err == nil {
		err = token.Isolate()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return token, nil
}

func destroyToken(t *softhsm.Token) error { return errors.Join(t.Destroy(), os.RemoveAll(t.Dir)) }

// lend gives copies of a PIN away: who asks wipes what they got.
func lend(pin secret.Bytes) func(context.Context) (secret.Bytes, error) {
	return func(context.Context) (secret.Bytes, error) { return secret.New(bytes.Clone(pin.Reveal())), nil }
}

// standIns returns a copy of the plan whose people have keys that we know, and
// whose steps may be changed.
func standIns(p Plan) (Plan, []*custody.Key, error) {
	var keys []*custody.Key
	people := make([]custody.Person, len(p.People))
	for i := range p.People {
		k, err := custody.NewKey(p.People[i].Name)
		if err != nil {
			return p, nil, err
		}
		keys, people[i] = append(keys, k), k.Person(p.People[i].Role)
	}
	p.People = people
	p.Steps = append([]Step(nil), p.Steps...)
	for i := range p.Steps {
		s := &p.Steps[i]
		if s.Existing != nil {
			e := *s.Existing
			s.Existing = &e
		}
		if s.KeyVerify != nil {
			v := *s.KeyVerify
			s.KeyVerify = &v
		}
		if s.KeyDestroy != nil {
			d := *s.KeyDestroy
			s.KeyDestroy = &d
		}
	}
	if p.ExistingRoot != nil {
		e := *p.ExistingRoot
		p.ExistingRoot = &e
	}
	return p, keys, nil
}

// standInKeys makes on the throw-away token what the plan expects to find.
func (p *Plan) standInKeys(ctx context.Context, soft *softhsm.Token) error {
	token, err := hsm.Open(ctx, soft.HSM())
	if err != nil {
		return err
	}
	defer func() { _ = token.Close() }()
	made := map[hsm.Ref]hsm.KeyInfo{}
	generate := func(ref hsm.Ref, alg hsm.Algorithm) (hsm.KeyInfo, error) {
		if k, ok := made[ref]; ok {
			return k, nil
		}
		k, err := token.Generate(ctx, ref, alg, [16]byte{})
		made[ref] = k
		return k, err
	}
	existing := func(e *Existing) error {
		real, err := e.authority()
		if err != nil {
			return err
		}
		alg, err := algorithmOf(real.Certificate().PublicKey)
		if err != nil {
			return err
		}
		if _, err := generate(e.ref(), alg); err != nil {
			return err
		}
		key, err := token.Signer(ctx, e.ref())
		if err != nil {
			return err
		}
		der, err := standIn(real.Certificate(), key)
		e.Certificate = string(pemOf(der))
		if e.Role == hsm.RoleIssuer { // what stands above it is itself
			e.Certificate += e.Certificate
		}
		return err
	}
	known := func(k *Known) error {
		alg := hsm.P256
		switch k.Role {
		case hsm.RoleKEK:
			alg = hsm.AES256
		case hsm.RoleMAC:
			alg = hsm.HMACSHA256
		}
		info, err := generate(k.ref(), alg)
		if err != nil {
			return err
		}
		k.SPKISHA256, k.ID = "", hex.EncodeToString(info.ID[:])
		if info.Public != nil {
			spki, _, err := spkiOf(info.Public)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(spki)
			k.SPKISHA256, k.ID = hex.EncodeToString(sum[:]), ""
		}
		return nil
	}
	if p.ExistingRoot != nil {
		if err := existing(p.ExistingRoot); err != nil {
			return err
		}
	}
	for i := range p.Steps {
		s := &p.Steps[i]
		if s.Existing != nil {
			err = existing(s.Existing)
		}
		if s.KeyVerify != nil {
			err = known(&s.KeyVerify.Known)
		}
		if s.KeyDestroy != nil {
			err = known(&s.KeyDestroy.Known)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
