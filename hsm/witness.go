package hsm

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	p11 "github.com/miekg/pkcs11"
)

// Call is one call into a module that changed, or may have changed, what is on the
// token: for transcripts.
type Call struct {
	Function string // C_GenerateKeyPair
	Result   string // CKR_OK, CKR_PIN_INCORRECT...
	Label    string // CKA_LABEL of what was made, where the call names one
}

// Witness has every such call of a module told to f, in order, by the goroutine
// that made it, until stop. The module must not be open yet, and stop comes after
// it was closed. It sees no PIN and no key.
func Witness(module string, f func(Call)) (stop func(), err error) {
	real, err := filepath.EvalSymlinks(module)
	if err != nil {
		return nil, fmt.Errorf("hsm: module: %w: %w", ErrConfig, err)
	}
	registry.Lock()
	defer registry.Unlock()
	if registry.modules[real] != nil || registry.witness[real] != nil {
		return nil, fmt.Errorf("hsm: %w: module %s is in use already", ErrConfig, real)
	}
	registry.witness[real] = f
	return func() {
		registry.Lock()
		defer registry.Unlock()
		delete(registry.witness, real)
	}, nil
}

// witnessed tells of calls that change state and passes all of them on.
type witnessed struct {
	api
	tell func(Call)
}

func (w witnessed) told(function string, err error, made ...*p11.Attribute) {
	c := Call{Function: function, Result: resultName(err)}
	for _, a := range made {
		if a.Type == p11.CKA_LABEL {
			c.Label = string(a.Value)
		}
	}
	w.tell(c)
}

// resultName is the CKR_ name of a return value.
func resultName(err error) string {
	var ret p11.Error
	switch {
	case err == nil:
		return "CKR_OK"
	case errors.As(err, &ret):
		text := ret.Error() // "pkcs11: 0xA0: CKR_PIN_INCORRECT"
		if i := strings.LastIndex(text, "CKR_"); i >= 0 {
			return text[i:]
		}
		return fmt.Sprintf("0x%X", uint(ret))
	}
	return "no return value"
}

func (w witnessed) InitToken(slot uint, pin, label string) error {
	err := w.api.InitToken(slot, pin, label)
	w.told("C_InitToken", err, p11.NewAttribute(p11.CKA_LABEL, label))
	return err
}

func (w witnessed) InitPIN(s p11.SessionHandle, pin string) error {
	err := w.api.InitPIN(s, pin)
	w.told("C_InitPIN", err)
	return err
}

func (w witnessed) SetPIN(s p11.SessionHandle, old, fresh string) error {
	err := w.api.SetPIN(s, old, fresh)
	w.told("C_SetPIN", err)
	return err
}

func (w witnessed) Login(s p11.SessionHandle, user uint, pin string) error {
	err := w.api.Login(s, user, pin)
	w.told(map[uint]string{p11.CKU_SO: "C_Login(SO)", p11.CKU_USER: "C_Login(USER)"}[user], err)
	return err
}

func (w witnessed) GenerateKey(s p11.SessionHandle, m []*p11.Mechanism, a []*p11.Attribute) (p11.ObjectHandle, error) {
	h, err := w.api.GenerateKey(s, m, a)
	w.told("C_GenerateKey", err, a...)
	return h, err
}

func (w witnessed) GenerateKeyPair(s p11.SessionHandle, m []*p11.Mechanism, public, private []*p11.Attribute) (p11.ObjectHandle, p11.ObjectHandle, error) {
	a, b, err := w.api.GenerateKeyPair(s, m, public, private)
	w.told("C_GenerateKeyPair", err, private...)
	return a, b, err
}

func (w witnessed) CreateObject(s p11.SessionHandle, a []*p11.Attribute) (p11.ObjectHandle, error) {
	h, err := w.api.CreateObject(s, a)
	w.told("C_CreateObject", err, a...)
	return h, err
}

func (w witnessed) DestroyObject(s p11.SessionHandle, h p11.ObjectHandle) error {
	err := w.api.DestroyObject(s, h)
	w.told("C_DestroyObject", err)
	return err
}

func (w witnessed) WrapKey(s p11.SessionHandle, m []*p11.Mechanism, wrapping, key p11.ObjectHandle) ([]byte, error) {
	b, err := w.api.WrapKey(s, m, wrapping, key)
	w.told("C_WrapKey", err)
	return b, err
}

func (w witnessed) UnwrapKey(s p11.SessionHandle, m []*p11.Mechanism, unwrapping p11.ObjectHandle, wrapped []byte, a []*p11.Attribute) (p11.ObjectHandle, error) {
	h, err := w.api.UnwrapKey(s, m, unwrapping, wrapped, a)
	w.told("C_UnwrapKey", err, a...)
	return h, err
}
