package hsm_test

import (
	"sync"
	"sync/atomic"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/softhsm"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

// faulty is a module that forwards to the real one, counts, and fails or lies
// where a test says so.
type faulty struct {
	hsm.Cryptoki
	logins, opened, closed, inits, pairs atomic.Int64

	// gate keeps a strike from a second handle out of running C calls: SoftHSM
	// frees sessions under the feet of other threads and crashes.
	gate sync.RWMutex
	// door keeps C_Login out of a running C_Logout, which in SoftHSM logs out
	// first and takes the handles away later: one logout would strike twice.
	door sync.Mutex

	mu sync.Mutex
	faults
}

// faults are the hooks of a faulty; nil ones do nothing.
type faults struct {
	insteadOfSign func() error                                // the operation stays active
	onSign        func(sig []byte, err error) ([]byte, error) // after the real C_Sign
	onInit        func() error                                // before C_SignInit
	onLogin       func() error                                // before C_Login
	onOpen        func() error                                // before C_OpenSession
	onRandom      func(n int)                                 // before C_GenerateRandom
	onCreate      func(template []*p11.Attribute) error       // before C_GenerateKey(Pair)
	created       func() error                                // after it
	onRead        func(a *p11.Attribute)                      // after C_GetAttributeValue
	onGCM         func() error                                // before C_EncryptInit and C_DecryptInit
}

// set changes the hooks between calls.
func (f *faulty) set(change func(*faults)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.faults)
}

func (f *faulty) snapshot() faults {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.faults
}

func (f *faulty) Login(s p11.SessionHandle, u uint, pin string) error {
	f.gate.RLock()
	defer f.gate.RUnlock()
	f.door.Lock()
	defer f.door.Unlock()
	f.logins.Add(1)
	if h := f.snapshot().onLogin; h != nil {
		if err := h(); err != nil {
			return err
		}
	}
	return f.Cryptoki.Login(s, u, pin)
}

func (f *faulty) OpenSession(slot, flags uint) (p11.SessionHandle, error) {
	if h := f.snapshot().onOpen; h != nil {
		if err := h(); err != nil {
			return 0, err
		}
	}
	f.gate.RLock()
	defer f.gate.RUnlock()
	f.opened.Add(1)
	return f.Cryptoki.OpenSession(slot, flags)
}

func (f *faulty) CloseSession(s p11.SessionHandle) error {
	f.gate.RLock()
	defer f.gate.RUnlock()
	f.closed.Add(1)
	return f.Cryptoki.CloseSession(s)
}

func (f *faulty) SignInit(s p11.SessionHandle, m []*p11.Mechanism, o p11.ObjectHandle) error {
	if h := f.snapshot().onInit; h != nil {
		if err := h(); err != nil {
			return err
		}
	}
	f.inits.Add(1)
	f.gate.RLock()
	defer f.gate.RUnlock()
	return f.Cryptoki.SignInit(s, m, o)
}

func (f *faulty) Sign(s p11.SessionHandle, in []byte) ([]byte, error) {
	f.gate.RLock()
	defer f.gate.RUnlock()
	if h := f.snapshot().insteadOfSign; h != nil {
		return nil, h()
	}
	h := f.snapshot().onSign
	if h == nil {
		return f.Cryptoki.Sign(s, in)
	}
	sig, err := f.Cryptoki.Sign(s, in)
	return h(sig, err)
}

func (f *faulty) GenerateKeyPair(s p11.SessionHandle, m []*p11.Mechanism, pub, priv []*p11.Attribute) (p11.ObjectHandle, p11.ObjectHandle, error) {
	f.pairs.Add(1)
	hooks := f.snapshot()
	if hooks.onCreate != nil {
		if err := hooks.onCreate(priv); err != nil {
			return 0, 0, err
		}
	}
	a, b, err := f.Cryptoki.GenerateKeyPair(s, m, pub, priv)
	if hooks.created != nil {
		err = hooks.created()
	}
	return a, b, err
}

func (f *faulty) GenerateKey(s p11.SessionHandle, m []*p11.Mechanism, tpl []*p11.Attribute) (p11.ObjectHandle, error) {
	if h := f.snapshot().onCreate; h != nil {
		if err := h(tpl); err != nil {
			return 0, err
		}
	}
	return f.Cryptoki.GenerateKey(s, m, tpl)
}

func (f *faulty) GetAttributeValue(s p11.SessionHandle, o p11.ObjectHandle, a []*p11.Attribute) ([]*p11.Attribute, error) {
	f.gate.RLock()
	got, err := f.Cryptoki.GetAttributeValue(s, o, a)
	f.gate.RUnlock()
	if h := f.snapshot().onRead; h != nil && err == nil {
		for _, v := range got {
			h(v)
		}
	}
	return got, err
}

func (f *faulty) GetSessionInfo(s p11.SessionHandle) (p11.SessionInfo, error) {
	f.gate.RLock()
	defer f.gate.RUnlock()
	return f.Cryptoki.GetSessionInfo(s)
}

func (f *faulty) FindObjectsInit(s p11.SessionHandle, a []*p11.Attribute) error {
	f.gate.RLock()
	defer f.gate.RUnlock()
	return f.Cryptoki.FindObjectsInit(s, a)
}

func (f *faulty) FindObjects(s p11.SessionHandle, n int) ([]p11.ObjectHandle, bool, error) {
	f.gate.RLock()
	defer f.gate.RUnlock()
	return f.Cryptoki.FindObjects(s, n)
}

func (f *faulty) FindObjectsFinal(s p11.SessionHandle) error {
	f.gate.RLock()
	defer f.gate.RUnlock()
	return f.Cryptoki.FindObjectsFinal(s)
}

func (f *faulty) EncryptInit(s p11.SessionHandle, m []*p11.Mechanism, o p11.ObjectHandle) error {
	if h := f.snapshot().onGCM; h != nil {
		return h()
	}
	return f.Cryptoki.EncryptInit(s, m, o)
}

func (f *faulty) DecryptInit(s p11.SessionHandle, m []*p11.Mechanism, o p11.ObjectHandle) error {
	if h := f.snapshot().onGCM; h != nil {
		return h()
	}
	return f.Cryptoki.DecryptInit(s, m, o)
}

func (f *faulty) GenerateRandom(s p11.SessionHandle, n int) ([]byte, error) {
	if h := f.snapshot().onRandom; h != nil {
		h(n)
	}
	f.gate.RLock()
	defer f.gate.RUnlock()
	return f.Cryptoki.GenerateRandom(s, n)
}

// wrapped makes a token whose module goes through a faulty.
func wrapped(t *testing.T) (*softhsm.Token, *faulty) {
	t.Helper()
	st, f := softhsmtest.Create(t), &faulty{}
	hsm.Wrap(st.Module, func(real hsm.Cryptoki) hsm.Cryptoki {
		f.Cryptoki = real
		return f
	})
	return st, f
}
