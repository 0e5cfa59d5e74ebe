package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	p11 "github.com/miekg/pkcs11"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/softhsm"
)

// keys are the keys on each token, by operation.
var keys = []struct {
	op  string
	ref hsm.Ref
	alg hsm.Algorithm
}{
	{"P-256", hsm.Ref{Tenant: "bench", Role: hsm.RoleSigner, Name: "p256"}, hsm.P256},
	{"P-384", hsm.Ref{Tenant: "bench", Role: hsm.RoleSigner, Name: "p384"}, hsm.P384},
	{"RSA-3072", hsm.Ref{Tenant: "bench", Role: hsm.RoleSigner, Name: "rsa"}, hsm.RSA3072},
	{"Ed25519", hsm.Ref{Tenant: "bench", Role: hsm.RoleSigner, Name: "ed"}, hsm.Ed25519},
	{"HMAC", hsm.Ref{Tenant: "bench", Role: hsm.RoleMAC, Name: "mac"}, hsm.HMACSHA256},
	{"GCM", hsm.Ref{Tenant: "bench", Role: hsm.RoleKEK, Name: "kek"}, hsm.AES256},
}

// token is a scratch token with all keys.
type token struct {
	*softhsm.Token
	copies int
}

// tuned is what an operator of SoftHSM may choose (docs/hsm.md): a copy of the
// module for each of two cores, and signing keys that can be copied into sessions.
func tuned(c *hsm.Config) { c.Instances, c.SessionCopies = 2, true }

// newToken makes the keys as the configuration has them made.
func newToken(ctx context.Context, base, name string, change func(*hsm.Config)) (*token, error) {
	st, err := softhsm.Create(ctx, filepath.Join(base, name), name)
	if err != nil {
		return nil, err
	}
	t := &token{Token: st}
	c := st.HSM()
	if c.Module, err = t.copyModule(); err != nil {
		return nil, err
	}
	if change != nil {
		change(&c)
	}
	open, err := hsm.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	for i, k := range keys {
		if _, err := open.Generate(ctx, k.ref, k.alg, [16]byte{byte(i + 1)}); err != nil {
			return nil, fmt.Errorf("%s: %w", k.op, err)
		}
	}
	if err := open.Close(); err != nil {
		return nil, err
	}
	return t, t.generateCopyable()
}

// copyable is the label of the key that rawc uses: ours may forbid C_CopyObject,
// which the ceiling needs.
func copyable(op string) string { return "raw-" + op }

func (t *token) generateCopyable() error {
	module, err := t.copyModule()
	if err != nil {
		return err
	}
	return t.with(module, func(c *p11.Ctx, s p11.SessionHandle) error {
		for _, k := range keys {
			secret := []*p11.Attribute{
				p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_PRIVATE, true), p11.NewAttribute(p11.CKA_SENSITIVE, true),
				p11.NewAttribute(p11.CKA_LABEL, copyable(k.op)), p11.NewAttribute(p11.CKA_SIGN, k.op != "GCM"),
			}
			public := []*p11.Attribute{p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_VERIFY, true)}
			var err error
			switch k.op {
			case "GCM":
				_, err = c.GenerateKey(s, mechanism(p11.CKM_AES_KEY_GEN),
					append(secret, p11.NewAttribute(p11.CKA_VALUE_LEN, 32), p11.NewAttribute(p11.CKA_ENCRYPT, true)))
			case "HMAC":
				_, err = c.GenerateKey(s, mechanism(p11.CKM_GENERIC_SECRET_KEY_GEN), append(secret, p11.NewAttribute(p11.CKA_VALUE_LEN, 32)))
			case "RSA-3072":
				_, _, err = c.GenerateKeyPair(s, mechanism(p11.CKM_RSA_PKCS_KEY_PAIR_GEN),
					append(public, p11.NewAttribute(p11.CKA_MODULUS_BITS, 3072), p11.NewAttribute(p11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1})), secret)
			case "Ed25519":
				_, _, err = c.GenerateKeyPair(s, mechanism(0x1055), append(public, p11.NewAttribute(p11.CKA_EC_PARAMS, curves[k.op])), secret)
			default:
				_, _, err = c.GenerateKeyPair(s, mechanism(p11.CKM_EC_KEY_PAIR_GEN), append(public, p11.NewAttribute(p11.CKA_EC_PARAMS, curves[k.op])), secret)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", k.op, err)
			}
		}
		return nil
	})
}

// curves are the DER names of CKA_EC_PARAMS.
var curves = map[string][]byte{
	"P-256":   {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07},
	"P-384":   {0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22},
	"Ed25519": {0x06, 0x03, 0x2b, 0x65, 0x70},
}

func mechanism(m uint) []*p11.Mechanism { return []*p11.Mechanism{p11.NewMechanism(m, nil)} }

// copyModule gives a copy of the library that nobody else loads.
func (t *token) copyModule() (string, error) {
	raw, err := os.ReadFile(t.Module)
	if err != nil {
		return "", err
	}
	t.copies++
	path := filepath.Join(t.Dir, fmt.Sprintf("module-%d.so", t.copies))
	return path, os.WriteFile(path, raw, 0o700)
}

// fill brings the token to n objects. SoftHSM keeps an object in a file of its
// own, so one secret key of a foreign label is made and its file copied: 10,000
// calls of C_CreateObject would take minutes, because each reads the others.
func (t *token) fill(n int) error {
	path, err := t.copyModule()
	if err != nil {
		return err
	}
	before, err := t.objects()
	if err != nil {
		return err
	}
	if err := t.createOne(path); err != nil {
		return err
	}
	after, err := t.objects()
	if err != nil {
		return err
	}
	var made string
	for file := range after {
		if !before[file] {
			made = file
		}
	}
	raw, err := os.ReadFile(made)
	if err != nil {
		return err
	}
	for range n - len(after) {
		var id [16]byte
		_, _ = rand.Read(id[:])
		file := filepath.Join(filepath.Dir(made), fmt.Sprintf("%x-%x-%x-%x-%x.object", id[:4], id[4:6], id[6:8], id[8:10], id[10:]))
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (t *token) objects() (map[string]bool, error) {
	files, err := filepath.Glob(filepath.Join(t.Dir, "tokens", "*", "*.object"))
	found := map[string]bool{}
	for _, f := range files {
		if !strings.HasSuffix(f, "token.object") {
			found[f] = true
		}
	}
	return found, err
}

func (t *token) createOne(module string) error {
	return t.with(module, func(c *p11.Ctx, s p11.SessionHandle) error {
		_, err := c.CreateObject(s, []*p11.Attribute{
			p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_AES),
			p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_PRIVATE, true),
			p11.NewAttribute(p11.CKA_LABEL, "filler"), p11.NewAttribute(p11.CKA_VALUE, make([]byte, 32)),
		})
		return err
	})
}

// with runs f in a logged-in session of a module that is closed afterwards.
func (t *token) with(module string, f func(*p11.Ctx, p11.SessionHandle) error) error {
	c, slot, err := t.open(module)
	if err != nil {
		return err
	}
	defer c.Destroy()
	defer func() { _ = c.Finalize() }()
	s, err := c.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err != nil {
		return err
	}
	if err := c.Login(s, p11.CKU_USER, string(t.PIN.Reveal())); err != nil {
		return err
	}
	return f(c, s)
}

// open initialises a module without package hsm and finds the slot of the token.
func (t *token) open(module string) (*p11.Ctx, uint, error) {
	if err := os.Setenv("SOFTHSM2_CONF", t.Conf); err != nil {
		return nil, 0, err
	}
	c := p11.New(module)
	if c == nil {
		return nil, 0, fmt.Errorf("%s can not be loaded", module)
	}
	if err := c.Initialize(); err != nil {
		return nil, 0, err
	}
	slots, err := c.GetSlotList(true)
	if err != nil {
		return nil, 0, err
	}
	for _, s := range slots {
		if info, err := c.GetTokenInfo(s); err == nil && strings.TrimSpace(info.Label) == t.Label {
			return c, s, nil
		}
	}
	return nil, 0, fmt.Errorf("no token %q", t.Label)
}
