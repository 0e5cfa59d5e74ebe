package main

import (
	"context"
	"crypto"
	"crypto/cipher"
	"fmt"
	"os"
	"sync"

	"github.com/ThalesGroup/crypto11"
	p11 "github.com/miekg/pkcs11"

	"github.com/signet-hsm/signet/hsm"
)

// way is one manner of using the token: an operation for each name.
type way struct {
	name  string
	most  int // callers that it is measured with; 0 = any number
	least int
	ops   map[string]func() error
	close func() error
}

// input is what is signed, sealed or authenticated; rawc does the same.
func input(op string) []byte {
	switch op {
	case "P-384":
		return make([]byte, 48)
	case "HMAC":
		return make([]byte, 64)
	}
	return make([]byte, 32)
}

// signet is package hsm as the service opens it.
func signet(ctx context.Context, t *token, name string, change func(*hsm.Config)) (*way, error) {
	c := t.HSM()
	var err error
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
	w := &way{name: name, ops: map[string]func() error{}, close: open.Close}
	for _, k := range keys {
		in := input(k.op)
		switch k.op {
		case "HMAC":
			m, err := open.MAC(ctx, k.ref)
			if err != nil {
				return nil, err
			}
			w.ops[k.op] = appended(32, func(dst []byte) ([]byte, error) { return m.AppendMAC(ctx, dst, in) })
		case "GCM":
			a, err := open.AEAD(ctx, k.ref)
			if err != nil {
				return nil, err
			}
			w.ops[k.op] = appended(64, func(dst []byte) ([]byte, error) { return a.AppendSeal(ctx, dst, in, aad) })
		default:
			s, err := open.Signer(ctx, k.ref)
			if err != nil {
				return nil, err
			}
			h := hashOf(k.op)
			w.ops[k.op] = appended(512, func(dst []byte) ([]byte, error) { return s.AppendSignature(ctx, dst, in, h) })
		}
	}
	w.ops["lookup"] = func() error { _, err := open.Lookup(ctx, keys[0].ref); return err }
	return w, nil
}

// appended gives f a buffer that is used again, as the issuing of certificates does.
func appended(size int, f func(dst []byte) ([]byte, error)) func() error {
	buffers := sync.Pool{New: func() any { b := make([]byte, 0, size); return &b }}
	return func() error {
		b := buffers.Get().(*[]byte)
		defer buffers.Put(b)
		_, err := f((*b)[:0])
		return err
	}
}

var aad = []byte("alpha|1")

func hashOf(op string) crypto.Hash {
	switch op {
	case "P-384":
		return crypto.SHA384
	case "Ed25519":
		return 0
	}
	return crypto.SHA256
}

// miekg is miekg/pkcs11 with sessions in a channel, as many as callers profit from.
func miekg(t *token) (*way, error) {
	module, err := t.copyModule()
	if err != nil {
		return nil, err
	}
	c, slot, err := t.open(module)
	if err != nil {
		return nil, err
	}
	sessions := make(chan p11.SessionHandle, 4)
	handles := map[string]p11.ObjectHandle{}
	for i := range cap(sessions) {
		s, err := c.OpenSession(slot, p11.CKF_SERIAL_SESSION)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			if err := c.Login(s, p11.CKU_USER, string(t.PIN.Reveal())); err != nil {
				return nil, err
			}
			for _, k := range keys {
				if handles[k.op], err = find(c, s, k.ref.String()); err != nil {
					return nil, err
				}
			}
		}
		sessions <- s
	}
	w := &way{name: "miekg", ops: map[string]func() error{}, close: func() error { err := c.Finalize(); c.Destroy(); return err }}
	for _, k := range keys {
		in, key := input(k.op), handles[k.op]
		m := []*p11.Mechanism{p11.NewMechanism(map[string]uint{
			"P-256": p11.CKM_ECDSA, "P-384": p11.CKM_ECDSA, "RSA-3072": p11.CKM_RSA_PKCS, "Ed25519": 0x1057, "HMAC": p11.CKM_SHA256_HMAC,
		}[k.op], nil)}
		if k.op == "RSA-3072" {
			in = make([]byte, 51) // as long as a DigestInfo
		}
		w.ops[k.op] = func() error {
			s := <-sessions
			defer func() { sessions <- s }()
			if k.op == "GCM" {
				g := p11.NewGCMParams(make([]byte, 12), aad, 128)
				defer g.Free()
				if err := c.EncryptInit(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_GCM, g)}, key); err != nil {
					return err
				}
				_, err := c.Encrypt(s, in)
				return err
			}
			if err := c.SignInit(s, m, key); err != nil {
				return err
			}
			_, err := c.Sign(s, in)
			return err
		}
	}
	return w, nil
}

// find gives the private or secret key of a label.
func find(c *p11.Ctx, s p11.SessionHandle, label string) (p11.ObjectHandle, error) {
	for _, class := range []uint{p11.CKO_PRIVATE_KEY, p11.CKO_SECRET_KEY} {
		if err := c.FindObjectsInit(s, []*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, class), p11.NewAttribute(p11.CKA_LABEL, label)}); err != nil {
			return 0, err
		}
		found, _, err := c.FindObjects(s, 1)
		if err != nil {
			return 0, err
		}
		if err := c.FindObjectsFinal(s); err != nil {
			return 0, err
		}
		if len(found) == 1 {
			return found[0], nil
		}
	}
	return 0, fmt.Errorf("no key %s", label)
}

// thales is crypto11 as it comes; it has no Ed25519.
func thales(t *token) (*way, error) {
	module, err := t.copyModule()
	if err != nil {
		return nil, err
	}
	if err := os.Setenv("SOFTHSM2_CONF", t.Conf); err != nil {
		return nil, err
	}
	c, err := crypto11.Configure(&crypto11.Config{
		Path: module, TokenLabel: t.Label, Pin: string(t.PIN.Reveal()), MaxSessions: 5, // one is kept for the login
	})
	if err != nil {
		return nil, err
	}
	w := &way{name: "crypto11", ops: map[string]func() error{}, close: c.Close}
	for _, k := range keys {
		in, h, label := input(k.op), hashOf(k.op), []byte(k.ref.String())
		switch k.op {
		case "Ed25519":
		case "HMAC", "GCM":
			key, err := c.FindKey(nil, label)
			if err != nil {
				return nil, err
			}
			if key == nil {
				return nil, fmt.Errorf("crypto11 finds no key %s", label)
			}
			if k.op == "GCM" {
				var g cipher.AEAD
				if g, err = key.NewGCM(); err != nil {
					return nil, err
				}
				w.ops[k.op] = func() error { g.Seal(nil, make([]byte, 12), in, aad); return nil }
				continue
			}
			w.ops[k.op] = func() error {
				mac, err := key.NewHMAC(p11.CKM_SHA256_HMAC, 0)
				if err != nil {
					return err
				}
				if _, err := mac.Write(in); err != nil {
					return err
				}
				mac.Sum(nil)
				return nil
			}
		default:
			s, err := c.FindKeyPair(nil, label)
			if err != nil {
				return nil, err
			}
			if s == nil {
				return nil, fmt.Errorf("crypto11 finds no key pair %s", label)
			}
			w.ops[k.op] = func() error { _, err := s.Sign(nil, in, h); return err }
		}
	}
	w.ops["lookup"] = func() error { _, err := c.FindKeyPair(nil, []byte(keys[0].ref.String())); return err }
	return w, nil
}
