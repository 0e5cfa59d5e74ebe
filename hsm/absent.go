package hsm

import (
	"fmt"
	"slices"

	p11 "github.com/miekg/pkcs11"
)

// Absent checks what InitToken will need: no token of this label, and an empty one.
// With there, a token of the label is taken for the one that an interrupted
// ceremony has made.
func Absent(module string, env map[string]string, label string, there bool) error {
	m, err := openModule(module, module, env, "")
	if err != nil {
		return err
	}
	defer func() { _ = m.release() }()
	if _, _, err := m.findToken(label, ""); err == nil {
		if there {
			return nil
		}
		return fmt.Errorf("hsm: %w: a token with the label %q is there: a token in use is never initialised, choose another label", ErrExists, label)
	}
	slots, err := m.ctx.GetSlotList(true)
	if err != nil {
		return wrap("list slots", err)
	}
	if !slices.ContainsFunc(slots, func(id uint) bool {
		info, err := m.ctx.GetTokenInfo(id)
		return err == nil && info.Flags&p11.CKF_TOKEN_INITIALIZED == 0
	}) {
		return fmt.Errorf("hsm: %w: the module has no empty token: erase one by its maker's means, if it may be", ErrTokenNotFound)
	}
	return nil
}
