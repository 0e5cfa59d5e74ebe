package hsm

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	p11 "github.com/miekg/pkcs11"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm/internal/cryptoki"
)

// registry is the one owner of PKCS#11 modules in this process. C_Initialize and
// C_Finalize act on the whole process, so they can belong to nobody else; a
// module is initialised by its first user and finalised by its last.
var registry = struct {
	sync.Mutex
	modules  map[string]*module
	wrap     map[string]func(api) api // faults, by path; tests only
	witness  map[string]func(Call)    // see Witness
	creating map[string]chan struct{} // by serial of the token; holds one value while a key is made
}{modules: map[string]*module{}, witness: map[string]func(Call){}, creating: map[string]chan struct{}{}}

// api is what we call of a module: a library, or a test's wrapper around one
// that lies or fails.
type api interface {
	Initialize(...p11.InitializeOption) error
	Finalize() error
	Destroy()
	GetSlotList(tokenPresent bool) ([]uint, error)
	GetTokenInfo(slot uint) (p11.TokenInfo, error)
	GetMechanismList(slot uint) ([]*p11.Mechanism, error)
	GetMechanismInfo(slot uint, m []*p11.Mechanism) (p11.MechanismInfo, error)
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
	DeriveKey(p11.SessionHandle, []*p11.Mechanism, p11.ObjectHandle, []*p11.Attribute) (p11.ObjectHandle, error)
	GenerateRandom(p11.SessionHandle, int) ([]byte, error)

	// The calls of the hot path, whole: init and operation in one.
	SignOnce(j *cryptoki.Job, s p11.SessionHandle, key p11.ObjectHandle, m rawMechanism) ([]byte, error)
	SealOnce(*cryptoki.Job, p11.SessionHandle, p11.ObjectHandle) (nonce, sealed []byte, err error)
	OpenOnce(j *cryptoki.Job, s p11.SessionHandle, key p11.ObjectHandle, nonce []byte) ([]byte, error)
	CopyObject(p11.SessionHandle, p11.ObjectHandle, []*p11.Attribute) (p11.ObjectHandle, error)

	prober
}

// library is one loaded PKCS#11 library: miekg/pkcs11 for what is rare, our own
// crossing for what is hot, over the same functions.
type library struct {
	*p11.Ctx
	hot *cryptoki.Module
}

func load(path string) (*library, error) {
	ctx := p11.New(path)
	if ctx == nil {
		return nil, fmt.Errorf("hsm: %w: %s is not a PKCS#11 module that loads here", ErrConfig, path)
	}
	hot, err := cryptoki.Open(path)
	if err != nil {
		ctx.Destroy()
		return nil, fmt.Errorf("hsm: %w: %w", ErrConfig, err)
	}
	return &library{ctx, hot}, nil
}

func (l *library) Destroy() {
	l.hot.Close()
	l.Ctx.Destroy()
}

// rawMechanism is what C_SignInit is told; hash and mgf are 0 except for PSS.
type rawMechanism struct {
	typ             uint
	hash, mgf, salt uint
}

func (l *library) SignOnce(j *cryptoki.Job, s p11.SessionHandle, key p11.ObjectHandle, m rawMechanism) ([]byte, error) {
	if m.hash != 0 {
		return l.hot.SignPSS(j, s, key, m.hash, m.mgf, m.salt)
	}
	return l.hot.Sign(j, s, key, m.typ)
}

func (l *library) SealOnce(j *cryptoki.Job, s p11.SessionHandle, key p11.ObjectHandle) (nonce, sealed []byte, err error) {
	return l.hot.Seal(j, s, key)
}

func (l *library) OpenOnce(j *cryptoki.Job, s p11.SessionHandle, key p11.ObjectHandle, nonce []byte) ([]byte, error) {
	return l.hot.Open(j, s, key, nonce)
}

// module is one loaded and initialised library.
type module struct {
	path string
	env  map[string]string
	args string // Config.InitArgs
	ctx  api

	// gate is held for reading by everybody who is in the module, and for writing
	// by who initialises it anew.
	gate sync.RWMutex
	// leaked: a call never came back, so the library stays as it is for ever.
	leaked atomic.Bool

	users int            // guarded by registry
	slots map[uint]*slot // guarded by registry
}

// openModule loads and initialises the library at path, or joins those who did.
// faults is the path whose wrapper a test gave; path, but for copies of a module.
func openModule(path, faults string, env map[string]string, args string) (*module, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("hsm: module: %w: %w", ErrConfig, err)
	}
	registry.Lock()
	defer registry.Unlock()
	if m := registry.modules[real]; m != nil {
		if !maps.Equal(m.env, env) || m.args != args {
			return nil, fmt.Errorf("hsm: %w: module %s is in use with another environment or other arguments", ErrConfig, real)
		}
		m.users++
		return m, nil
	}
	lib, err := load(real)
	if err != nil {
		return nil, err
	}
	m := &module{path: real, env: maps.Clone(env), args: args, ctx: lib, users: 1, slots: map[uint]*slot{}}
	if faults, err = filepath.EvalSymlinks(faults); err == nil && registry.wrap[faults] != nil {
		m.ctx = registry.wrap[faults](lib)
	}
	if f := registry.witness[real]; f != nil {
		m.ctx = witnessed{m.ctx, f}
	}
	if err := m.initialize(); err != nil {
		// ALREADY_INITIALIZED too: somebody outside the registry owns the
		// module, and would finalise it under our feet.
		m.ctx.Destroy()
		return nil, err
	}
	registry.modules[real] = m
	return m, nil
}

// environment is held while the process's environment is a module's own.
var environment sync.Mutex

// initialize calls C_Initialize in the module's environment, with its arguments in
// pReserved when there are any.
func (m *module) initialize() error {
	if len(m.env) > 0 {
		environment.Lock()
		defer environment.Unlock()
	}
	restore, err := setenv(m.env)
	defer restore()
	if err == nil {
		var options []p11.InitializeOption
		if m.args != "" {
			b := append([]byte(m.args), 0)
			var pin runtime.Pinner
			defer pin.Unpin()
			pin.Pin(&b[0])
			options = append(options, p11.InitializeWithReserved(unsafe.Pointer(&b[0])))
		}
		err = m.ctx.Initialize(options...)
	}
	if err != nil {
		return fmt.Errorf("hsm: initialise %s: %w: %w", m.path, fault.ErrUnavailable, err)
	}
	return nil
}

// release gives up one use; the last one finalises and unloads the library.
func (m *module) release() error {
	registry.Lock()
	defer registry.Unlock()
	if m.users--; m.users > 0 {
		return nil
	}
	delete(registry.modules, m.path)
	if m.leaked.Load() {
		return nil // a call is inside: nothing may be taken away under it
	}
	err := m.ctx.Finalize()
	m.ctx.Destroy()
	if err != nil && !errors.Is(err, p11.Error(p11.CKR_CRYPTOKI_NOT_INITIALIZED)) {
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
		there []string
	)
	for _, id := range ids {
		ti, err := m.ctx.GetTokenInfo(id)
		if err != nil || ti.Flags&p11.CKF_TOKEN_INITIALIZED == 0 {
			continue
		}
		if (label == "" || ti.Label == label) && (serial == "" || ti.SerialNumber == serial) {
			found, info, hits = id, ti, hits+1
		}
		there = append(there, fmt.Sprintf("%q serial %q", ti.Label, ti.SerialNumber))
	}
	switch hits {
	case 1:
		return found, info, nil
	case 0:
		if there == nil {
			there = []string{"none"}
		}
		return 0, info, fmt.Errorf("hsm: %w: label %q serial %q; the module has %s", ErrTokenNotFound, label, serial, strings.Join(there, ", "))
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
