package hsm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	p11 "github.com/miekg/pkcs11"

	"github.com/signet-hsm/signet/internal/secret"
)

// InitConfig says which token InitToken makes.
type InitConfig struct {
	Module   string            // absolute path of the PKCS#11 library
	Env      map[string]string // as in Config
	InitArgs string            // as in Config
	Label    string            // 1..32 bytes; must not be taken in this module
	SOPIN    secret.Bytes
	PIN      secret.Bytes
}

// InitToken initialises the first empty token of a module and sets both PINs. It
// never touches an initialised token. Calls into the module ignore ctx once begun.
func InitToken(ctx context.Context, c InitConfig) (err error) {
	if c.Label == "" || len(c.Label) > 32 {
		return fmt.Errorf("hsm: %w: a token label has 1..32 bytes", ErrConfig)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m, err := openModule(c.Module, c.Module, c.Env, c.InitArgs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.release()) }()
	if _, _, err := m.findToken(c.Label, ""); err == nil || errors.Is(err, ErrAmbiguous) {
		return fmt.Errorf("hsm: %w: token %q", ErrExists, c.Label)
	} else if !errors.Is(err, ErrTokenNotFound) {
		return err
	}
	slots, err := m.ctx.GetSlotList(true)
	if err != nil {
		return wrap("list slots", err)
	}
	empty := slices.IndexFunc(slots, func(id uint) bool {
		info, err := m.ctx.GetTokenInfo(id)
		return err == nil && info.Flags&p11.CKF_TOKEN_INITIALIZED == 0
	})
	if empty < 0 {
		return fmt.Errorf("hsm: %w: the module has no empty token", ErrTokenNotFound)
	}
	if err := m.ctx.InitToken(slots[empty], text(c.SOPIN), c.Label); err != nil {
		return wrap("initialise token", err)
	}
	id, _, err := m.findToken(c.Label, "") // the slot may have a new number
	if err != nil {
		return err
	}
	s, err := m.ctx.OpenSession(id, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err != nil {
		return wrap("open a session", err)
	}
	defer func() { _ = m.ctx.CloseSession(s) }()
	if err := m.ctx.Login(s, p11.CKU_SO, text(c.SOPIN)); err != nil {
		return wrap("log in as security officer", err)
	}
	if err := m.ctx.InitPIN(s, text(c.PIN)); err != nil {
		return wrap("set the PIN", err)
	}
	return wrap("log out", m.ctx.Logout(s))
}

// text lends a secret as a string. The string shares the secret's memory: a Go
// string can not be wiped, so none may hold a copy.
func text(s secret.Bytes) string {
	b := s.Reveal()
	return unsafe.String(unsafe.SliceData(b), len(b))
}
