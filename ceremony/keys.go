package ceremony

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/signet-hsm/signet/hsm"
)

// KeyRef names a key of a plan.
type KeyRef struct {
	Tenant     string   `yaml:"tenant" json:"tenant,omitempty"` // left out: _system
	Role       hsm.Role `yaml:"role" json:"role"`
	Key        string   `yaml:"key" json:"key"`
	Generation int      `yaml:"generation" json:"generation"`
}

func (k *KeyRef) ref() hsm.Ref {
	tenant := k.Tenant
	if tenant == "" {
		tenant = system
	}
	return hsm.Ref{Tenant: tenant, Role: k.Role, Name: k.Key, Generation: k.Generation}
}

// MakeKey is a key without a certificate: the KEK, the audit key, a signer.
type MakeKey struct {
	KeyRef    `yaml:",inline"`
	Algorithm hsm.Algorithm `yaml:"algorithm" json:"algorithm"`
	Backup    *Backup       `yaml:"backup" json:"backup,omitempty"`
}

func (k *MakeKey) check(c *checker) error {
	if err := c.label(k.ref()); err != nil {
		return err
	}
	if !hsm.Allows(k.Role, k.Algorithm) {
		return fmt.Errorf("role %s has no keys of algorithm %q", k.Role, k.Algorithm)
	}
	return c.backup(k.ref(), k.Backup)
}

func (k *MakeKey) look(ctx context.Context, token *hsm.Token, _ *work) error {
	return labelFree(ctx, token, k.ref())
}

func (k *MakeKey) do(w *work) error {
	_, err := w.key(k.ref(), k.Algorithm, k.Backup)
	return err
}

// Known is how a plan names a key that is there already, so that no other key can
// be meant: by its public half or, if it has none, by its id.
type Known struct {
	KeyRef     `yaml:",inline"`
	SPKISHA256 string `yaml:"spki_sha256" json:"spki_sha256,omitempty"` // 64 hex digits, as the transcript has it
	ID         string `yaml:"id" json:"id,omitempty"`                   // 32 hex digits, for secret keys
}

func (k *Known) check(c *checker) error {
	if err := k.ref().Validate(); err != nil {
		return fmt.Errorf("key: %w", err)
	}
	if (len(k.SPKISHA256) == 64) == (len(k.ID) == 32) {
		return errors.New("a key is named by spki_sha256 (64 hex digits) or, if it is a secret key, by id (32)")
	}
	if len(c.kinds) > 0 && c.kinds[0] == "token_init" {
		return errors.New("a token that this plan initialises has no keys yet")
	}
	return nil
}

// find returns the key, and refuses another one under its label.
func (k *Known) find(ctx context.Context, token *hsm.Token) (hsm.KeyInfo, error) {
	found, err := token.Lookup(ctx, k.ref())
	if err != nil {
		if errors.Is(err, hsm.ErrKeyNotFound) {
			err = fmt.Errorf("%w: %s: %w", ErrKey, k.ref(), err)
		}
		return found, err
	}
	what, want := hex.EncodeToString(found.ID[:]), k.ID
	if found.Public != nil {
		spki, _, err := spkiOf(found.Public)
		if err != nil {
			return found, err
		}
		sum := sha256.Sum256(spki)
		what, want = hex.EncodeToString(sum[:]), k.SPKISHA256
	}
	if what != want {
		return found, fmt.Errorf("%w: %s is %s and not the plan's", ErrKey, k.ref(), what)
	}
	return found, nil
}

// KeyVerify reads a key back and uses it once.
type KeyVerify struct {
	Known `yaml:",inline"`
}

func (k *KeyVerify) look(ctx context.Context, token *hsm.Token, _ *work) error {
	_, err := k.find(ctx, token)
	return err
}

func (k *KeyVerify) do(w *work) error {
	if w.device == nil {
		return nil
	}
	found, err := k.find(w.ctx, w.device.token)
	if err != nil {
		return err
	}
	detail, err := w.device.verify(w.ctx, found)
	if err != nil {
		return err
	}
	detail["name"] = found.Ref.String()
	return w.tell(eventKeyVerified, detail)
}

// KeyDestroy destroys a key, both halves.
type KeyDestroy struct {
	Known  `yaml:",inline"`
	Reason string `yaml:"reason" json:"reason"`
	// Dependants is what hangs from the key, in words, as those who review the plan
	// found it: certificates still valid, CRLs still due, data it seals. [none] if
	// nothing does.
	Dependants []string `yaml:"dependants" json:"dependants"`
}

func (k *KeyDestroy) check(c *checker) error {
	if k.Reason == "" || len(k.Dependants) == 0 || slices.Contains(k.Dependants, "") {
		return errors.New("reason and dependants are needed; dependants: [none] if nothing hangs from the key")
	}
	return k.Known.check(c)
}

func (k *KeyDestroy) look(ctx context.Context, token *hsm.Token, w *work) error {
	if w.resumed {
		return nil // it may be gone by now; do looks at what the transcript has
	}
	_, err := k.find(ctx, token)
	return err
}

func (k *KeyDestroy) do(w *work) error {
	if w.device == nil {
		return nil
	}
	label := k.ref().String()
	if w.recalled(eventKeyDestroyed, label) != nil {
		return nil
	}
	found, err := k.find(w.ctx, w.device.token)
	if errors.Is(err, hsm.ErrKeyNotFound) && w.recalled(eventKeyDestroying, label) != nil {
		err = nil // done before the interruption
	} else if err == nil {
		if err = w.tell(eventKeyDestroying, map[string]any{
			"name": label, "id": hex.EncodeToString(found.ID[:]), "reason": k.Reason, "dependants": k.Dependants,
		}); err == nil {
			err = w.device.token.Destroy(w.ctx, k.ref())
		}
	}
	if err != nil {
		return err
	}
	left, err := w.device.attributes(w.ctx, k.ref())
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("%w: %d objects of %s are still there", ErrKey, len(left), label)
	}
	return w.tell(eventKeyDestroyed, map[string]any{"name": label, "reason": k.Reason, "left": 0})
}

// Inventory lists every object of the token in inventory.json.
type Inventory struct {
	File string `yaml:"file" json:"file,omitempty"` // left out: inventory.json
}

func (i *Inventory) file() string {
	if i.File == "" {
		return "inventory.json"
	}
	return i.File
}

func (i *Inventory) check(c *checker) error {
	if err := c.name(trimJSON(i.file())); err != nil {
		return errors.New("file must be a name such as inventory.json")
	}
	return c.file(i.file())
}

func trimJSON(s string) string {
	if len(s) > 5 && s[len(s)-5:] == ".json" {
		return s[:len(s)-5]
	}
	return ""
}

func (i *Inventory) look(context.Context, *hsm.Token, *work) error { return nil }

func (i *Inventory) do(w *work) error {
	if w.device == nil || w.recalled(eventFile, i.file()) != nil {
		return nil
	}
	o, err := w.device.token.Officer()
	if err != nil {
		return err
	}
	list, err := o.Inventory(w.ctx)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(list, "", " ")
	if err != nil {
		return err
	}
	foreign := 0
	for _, o := range list {
		if !o.Ours {
			foreign++
		}
	}
	if err := w.tell(eventInventory, map[string]any{"objects": len(list), "foreign": foreign}); err != nil {
		return err
	}
	return w.write(i.file(), append(text, '\n'))
}
