package hsm

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"

	p11 "github.com/miekg/pkcs11"

	"github.com/signet-hsm/signet/fault"
)

// registry is the one owner of PKCS#11 modules in this process. C_Initialize and
// C_Finalize act on the whole process, so they can belong to nobody else; a
// module is initialised by its first user and finalised by its last.
var registry = struct {
	sync.Mutex // also guards the environment during C_Initialize
	modules    map[string]*module
	wrap       map[string]func(cryptoki) cryptoki // faults, by path; tests only
	witness    map[string]func(Call)              // see Witness
}{modules: map[string]*module{}, witness: map[string]func(Call){}}

// cryptoki is what we call of a module: *pkcs11.Ctx, or a test's wrapper around
// one that lies or fails.
type cryptoki interface {
	Initialize(...p11.InitializeOption) error
	Finalize() error
	Destroy()
	GetSlotList(tokenPresent bool) ([]uint, error)
	GetTokenInfo(slot uint) (p11.TokenInfo, error)
	GetMechanismList(slot uint) ([]*p11.Mechanism, error)
	InitToken(slot uint, pin, label string) error
	InitPIN(p11.SessionHandle, string) error
	SetPIN(s p11.SessionHandle, old, new string) error
	OpenSession(slot, flags uint) (p11.SessionHandle, error)
	CloseSession(p11.SessionHandle) error
	GetSessionInfo(p11.SessionHandle) (p11.SessionInfo, error)
	Login(s p11.SessionHandle, user uint, pin string) error
	Logout(p11.SessionHandle) error
	FindObjectsInit(p11.SessionHandle, []*p11.Attribute) error
	FindObjects(p11.SessionHandle, int) ([]p11.ObjectHandle, bool, error)
	FindObjectsFinal(p11.SessionHandle) error
	GetAttributeValue(p11.SessionHandle, p11.ObjectHandle, []*p11.Attribute) ([]*p11.Attribute, error)
	GenerateKey(p11.SessionHandle, []*p11.Mechanism, []*p11.Attribute) (p11.ObjectHandle, error)
	GenerateKeyPair(s p11.SessionHandle, m []*p11.Mechanism, public, private []*p11.Attribute) (p11.ObjectHandle, p11.ObjectHandle, error)
	CreateObject(p11.SessionHandle, []*p11.Attribute) (p11.ObjectHandle, error)
	DestroyObject(p11.SessionHandle, p11.ObjectHandle) error
	WrapKey(s p11.SessionHandle, m []*p11.Mechanism, wrapping, key p11.ObjectHandle) ([]byte, error)
	UnwrapKey(s p11.SessionHandle, m []*p11.Mechanism, unwrapping p11.ObjectHandle, wrapped []byte, a []*p11.Attribute) (p11.ObjectHandle, error)
	SignInit(p11.SessionHandle, []*p11.Mechanism, p11.ObjectHandle) error
	Sign(p11.SessionHandle, []byte) ([]byte, error)
	EncryptInit(p11.SessionHandle, []*p11.Mechanism, p11.ObjectHandle) error
	Encrypt(p11.SessionHandle, []byte) ([]byte, error)
	DecryptInit(p11.SessionHandle, []*p11.Mechanism, p11.ObjectHandle) error
	Decrypt(p11.SessionHandle, []byte) ([]byte, error)
	DeriveKey(p11.SessionHandle, []*p11.Mechanism, p11.ObjectHandle, []*p11.Attribute) (p11.ObjectHandle, error)
	GenerateRandom(p11.SessionHandle, int) ([]byte, error)
}

// module is one loaded and initialised library.
type module struct {
	path string
	env  map[string]string
	ctx  cryptoki

	users int            // guarded by registry
	slots map[uint]*slot // guarded by registry
}

// openModule loads and initialises the library at path, or joins those who did.
func openModule(path string, env map[string]string) (*module, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("hsm: module: %w: %w", ErrConfig, err)
	}
	registry.Lock()
	defer registry.Unlock()
	if m := registry.modules[real]; m != nil {
		if !maps.Equal(m.env, env) {
			return nil, fmt.Errorf("hsm: %w: module %s is in use with another environment", ErrConfig, real)
		}
		m.users++
		return m, nil
	}
	loaded := p11.New(real)
	if loaded == nil {
		return nil, fmt.Errorf("hsm: %w: %s is not a PKCS#11 module that loads here", ErrConfig, real)
	}
	ctx := cryptoki(loaded)
	if wrap := registry.wrap[real]; wrap != nil {
		ctx = wrap(ctx)
	}
	if f := registry.witness[real]; f != nil {
		ctx = witnessed{ctx, f}
	}
	restore, err := setenv(env)
	defer restore()
	if err == nil {
		err = ctx.Initialize()
	}
	if err != nil {
		// ALREADY_INITIALIZED too: somebody outside the registry owns the
		// module, and would finalise it under our feet.
		ctx.Destroy()
		return nil, fmt.Errorf("hsm: initialise %s: %w: %w", real, fault.ErrUnavailable, err)
	}
	m := &module{path: real, env: maps.Clone(env), ctx: ctx, users: 1, slots: map[uint]*slot{}}
	registry.modules[real] = m
	return m, nil
}

// release gives up one use; the last one finalises and unloads the library.
func (m *module) release() error {
	registry.Lock()
	defer registry.Unlock()
	if m.users--; m.users > 0 {
		return nil
	}
	delete(registry.modules, m.path)
	err := m.ctx.Finalize()
	m.ctx.Destroy()
	if err != nil {
		return fmt.Errorf("hsm: finalise %s: %w: %w", m.path, fault.ErrUnavailable, err)
	}
	return nil
}

// setenv sets the variables (in C's environment as well: os.Setenv does both
// when cgo is in use) and returns what puts the old ones back.
func setenv(env map[string]string) (restore func(), err error) {
	var undo []func() error
	restore = func() {
		for _, u := range undo {
			_ = u()
		}
	}
	for k, v := range env {
		if old, was := os.LookupEnv(k); was {
			undo = append(undo, func() error { return os.Setenv(k, old) })
		} else {
			undo = append(undo, func() error { return os.Unsetenv(k) })
		}
		err = errors.Join(err, os.Setenv(k, v))
	}
	return restore, err
}

// findToken returns the slot of the one token that matches. A slot that fails to
// describe its token is passed over: a removed card must not hide the others.
func (m *module) findToken(label, serial string) (uint, p11.TokenInfo, error) {
	ids, err := m.ctx.GetSlotList(true)
	if err != nil {
		return 0, p11.TokenInfo{}, wrap("list slots", err)
	}
	var (
		found uint
		info  p11.TokenInfo
		hits  int
	)
	for _, id := range ids {
		ti, err := m.ctx.GetTokenInfo(id)
		if err != nil || ti.Flags&p11.CKF_TOKEN_INITIALIZED == 0 {
			continue
		}
		if (label == "" || ti.Label == label) && (serial == "" || ti.SerialNumber == serial) {
			found, info, hits = id, ti, hits+1
		}
	}
	switch hits {
	case 1:
		return found, info, nil
	case 0:
		return 0, info, fmt.Errorf("hsm: %w: label %q serial %q", ErrTokenNotFound, label, serial)
	}
	return 0, info, fmt.Errorf("hsm: %w: %d tokens match label %q serial %q", ErrAmbiguous, hits, label, serial)
}

// mechanisms returns what the token can do.
func (m *module) mechanisms(id uint) (map[uint]bool, error) {
	list, err := m.ctx.GetMechanismList(id)
	if err != nil {
		return nil, wrap("list mechanisms", err)
	}
	set := make(map[uint]bool, len(list))
	for _, mech := range list {
		set[mech.Mechanism] = true
	}
	return set, nil
}
