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

// through is one loaded module behind a faulty; copies of the module share it.
type through struct {
	hsm.Cryptoki
	*faulty
	bare *p11.Ctx // the same module, call by call
}

func (f through) Finalize() error {
	if h := f.snapshot().onFinalize; h != nil {
		h()
	}
	return f.Cryptoki.Finalize()
}

func (f through) Initialize(o ...p11.InitializeOption) error {
	if h := f.snapshot().onInitialize; h != nil {
		if err := h(); err != nil {
			return err
		}
	}
	return f.Cryptoki.Initialize(o...)
}

// faults are the hooks of a faulty; nil ones do nothing.
type faults struct {
	insteadOfSign func() error                                // after the real C_SignInit: the operation stays active
	onSign        func(sig []byte, err error) ([]byte, error) // after the real C_Sign
	onInit        func() error                                // before C_SignInit
	onLogin       func() error                                // before C_Login
	onOpen        func() error                                // before C_OpenSession
	onRandom      func(n int)                                 // before C_GenerateRandom
	onCreate      func(template []*p11.Attribute) error       // before C_GenerateKey(Pair)
	created       func() error                                // after it
	onRead        func(a *p11.Attribute)                      // after C_GetAttributeValue
	onSignAt      func(module *p11.Ctx) error                 // as onInit, of which copy of the module
	onOpenAt      func(module *p11.Ctx) error                 // as onOpen
	onFinalize    func()                                      // before C_Finalize
	onInitialize  func() error                                // before C_Initialize
	onGCM         func() error                                // before sealing and opening
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

func (f through) Login(s p11.SessionHandle, u uint, pin string) error {
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

func (f through) OpenSession(slot, flags uint) (p11.SessionHandle, error) {
	if h := f.snapshot().onOpen; h != nil {
		if err := h(); err != nil {
			return 0, err
		}
	}
	if h := f.snapshot().onOpenAt; h != nil {
		if err := h(f.bare); err != nil {
			return 0, err
		}
	}
	f.gate.RLock()
	defer f.gate.RUnlock()
	f.opened.Add(1)
	return f.Cryptoki.OpenSession(slot, flags)
}

func (f through) CloseSession(s p11.SessionHandle) error {
	f.gate.RLock()
	defer f.gate.RUnlock()
	f.closed.Add(1)
	return f.Cryptoki.CloseSession(s)
}

func (f through) SignOnce(j *hsm.Job, s p11.SessionHandle, key p11.ObjectHandle, m hsm.RawMechanism) ([]byte, error) {
	if h := f.snapshot().onInit; h != nil {
		if err := h(); err != nil {
			return nil, err
		}
	}
	if h := f.snapshot().onSignAt; h != nil {
		if err := h(f.bare); err != nil {
			return nil, err
		}
	}
	f.inits.Add(1)
	f.gate.RLock()
	defer f.gate.RUnlock()
	if h := f.snapshot().insteadOfSign; h != nil {
		if err := f.bare.SignInit(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_ECDSA, nil)}, key); err != nil {
			return nil, err
		}
		return nil, h()
	}
	sig, err := f.Cryptoki.SignOnce(j, s, key, m)
	if h := f.snapshot().onSign; h != nil {
		return h(sig, err)
	}
	return sig, err
}

func (f through) GenerateKeyPair(s p11.SessionHandle, m []*p11.Mechanism, pub, priv []*p11.Attribute) (p11.ObjectHandle, p11.ObjectHandle, error) {
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

func (f through) GenerateKey(s p11.SessionHandle, m []*p11.Mechanism, tpl []*p11.Attribute) (p11.ObjectHandle, error) {
	if h := f.snapshot().onCreate; h != nil {
		if err := h(tpl); err != nil {
			return 0, err
		}
	}
	return f.Cryptoki.GenerateKey(s, m, tpl)
}

func (f through) GetAttributeValue(s p11.SessionHandle, o p11.ObjectHandle, a []*p11.Attribute) ([]*p11.Attribute, error) {
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

func (f through) GetSessionInfo(s p11.SessionHandle) (p11.SessionInfo, error) {
	f.gate.RLock()
	defer f.gate.RUnlock()
	return f.Cryptoki.GetSessionInfo(s)
}

func (f through) FindObjectsInit(s p11.SessionHandle, a []*p11.Attribute) error {
	f.gate.RLock()
	defer f.gate.RUnlock()
	return f.Cryptoki.FindObjectsInit(s, a)
}

func (f through) FindObjects(s p11.SessionHandle, n int) ([]p11.ObjectHandle, bool, error) {
	f.gate.RLock()
	defer f.gate.RUnlock()
	return f.Cryptoki.FindObjects(s, n)
}

func (f through) FindObjectsFinal(s p11.SessionHandle) error {
	f.gate.RLock()
	defer f.gate.RUnlock()
	return f.Cryptoki.FindObjectsFinal(s)
}

func (f through) SealOnce(j *hsm.Job, s p11.SessionHandle, key p11.ObjectHandle) (nonce, sealed []byte, err error) {
	if h := f.snapshot().onGCM; h != nil {
		return nil, nil, h()
	}
	return f.Cryptoki.SealOnce(j, s, key)
}

func (f through) OpenOnce(j *hsm.Job, s p11.SessionHandle, key p11.ObjectHandle, nonce []byte) ([]byte, error) {
	if h := f.snapshot().onGCM; h != nil {
		return nil, h()
	}
	return f.Cryptoki.OpenOnce(j, s, key, nonce)
}

func (f through) GenerateRandom(s p11.SessionHandle, n int) ([]byte, error) {
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
		return through{real, f, hsm.Bare(real)}
	})
	return st, f
}
