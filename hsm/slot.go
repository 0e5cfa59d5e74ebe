package hsm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/signet-hsm/signet/fault"
)

// slot is the login of this process at one token. PKCS#11 logs in applications,
// not sessions, so all Tokens at one slot share it: one anchor session that stays
// open (closing the last session would log out), one login, one epoch.
type slot struct {
	mod           *module
	id            uint // written under the module's gate only
	label, serial string
	users         int // guarded by registry

	// epoch counts logins, twice each: it is odd while C_Login runs. Object
	// handles, and verdicts such as "no such key", live within one even epoch; a
	// search that began without a login and ended with one is worth nothing.
	epoch atomic.Uint64
	// wave counts the times all sessions were found closed. A session of an
	// older wave is forgotten without C_CloseSession, for its number may be
	// somebody else's by now. (Were only the anchor closed, that would leave the
	// lanes' sessions to C_Finalize.)
	wave atomic.Uint64

	lock    chan struct{} // holds one value; a mutex whose wait ends with a ctx
	anchor  p11.SessionHandle
	refused error // the PIN was refused: nobody tries again
}

// slotOf joins or makes the slot's state.
func (m *module) slotOf(id uint, label, serial string) *slot {
	registry.Lock()
	defer registry.Unlock()
	s := m.slots[id]
	if s == nil {
		s = &slot{mod: m, id: id, label: label, serial: serial, lock: make(chan struct{}, 1)}
		m.slots[id] = s
	}
	s.users++
	return s
}

// release closes the anchor when nobody uses the slot any more.
func (s *slot) release() {
	registry.Lock()
	defer registry.Unlock()
	if s.users--; s.users > 0 {
		return
	}
	maps.DeleteFunc(s.mod.slots, func(_ uint, other *slot) bool { return other == s })
	if s.anchor != 0 && !s.mod.leaked.Load() {
		_ = s.mod.ctx.CloseSession(s.anchor)
		s.anchor = 0
	}
}

// errInside: somebody is in the module and does not come out.
var errInside = fmt.Errorf("%w: a call in the module does not end", fault.ErrUnavailable)

// again initialises the module anew for all who use it: C_Finalize, C_Initialize,
// and the tokens found again, for the slots may have new numbers and a token may be
// another one. Every session, handle and login is gone afterwards. It waits so long
// for those who are in the module, then fails with errInside.
func (m *module) again(patience time.Duration) error {
	for end := time.Now().Add(patience); !m.gate.TryLock(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return errInside
		}
	}
	defer m.gate.Unlock()
	_ = m.ctx.Finalize() // what is broken may refuse even that
	slots := m.allSlots()
	for _, s := range slots {
		s.anchor = 0
		s.wave.Add(1)
		s.epoch.Add(2)
	}
	if err := m.initialize(); err != nil && !errors.Is(err, p11.Error(p11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
		return err
	}
	for _, s := range slots {
		id, _, err := m.findToken(s.label, s.serial)
		if err != nil {
			return err
		}
		s.id = id
	}
	return nil
}

func (m *module) allSlots() []*slot {
	registry.Lock()
	defer registry.Unlock()
	return slices.Collect(maps.Values(m.slots))
}

// loginResult says what ensure had to do.
type loginResult struct {
	reopened bool // the anchor was gone, so every session was
	loggedIn bool // C_Login was called
}

// ensure makes the login good again unless somebody did since the caller saw
// epoch seen (0 = always look). It is the only place that calls C_Login, one
// caller at a time: with many calls failing at once one logs in and the rest find
// the work done.
func (s *slot) ensure(ctx context.Context, seen uint64, c *Config) (loginResult, error) {
	var did loginResult
	if err := take(ctx, s.lock); err != nil {
		return did, err
	}
	defer func() { <-s.lock }()
	if s.refused != nil {
		return did, s.refused
	}
	if seen != 0 && s.epoch.Load() != seen {
		return did, nil
	}
	state, err := s.state()
	if s.anchor == 0 || classify(err) == classSession {
		if s.anchor != 0 {
			did.reopened = true
			s.wave.Add(1)
		}
		s.anchor = 0
		if s.anchor, err = s.mod.ctx.OpenSession(s.id, p11.CKF_SERIAL_SESSION); err != nil {
			s.anchor = 0
			return did, wrap("open the anchor session", err)
		}
		state, err = s.state()
	}
	if err != nil {
		return did, wrap("anchor session", err)
	}
	if state == p11.CKS_RO_USER_FUNCTIONS || state == p11.CKS_RW_USER_FUNCTIONS {
		if did.reopened || s.epoch.Load() == 0 {
			s.epoch.Add(2)
		}
		return did, nil
	}
	did.loggedIn = true
	s.epoch.Add(1)
	defer s.epoch.Add(1)
	return did, s.login(ctx, c)
}

func (s *slot) state() (uint, error) {
	if s.anchor == 0 {
		return 0, nil
	}
	info, err := s.mod.ctx.GetSessionInfo(s.anchor)
	return info.State, err
}

func (s *slot) login(ctx context.Context, c *Config) error {
	pin, err := c.PIN(ctx)
	if err != nil {
		return fmt.Errorf("hsm: read the PIN: %w: %w", fault.ErrUnavailable, err)
	}
	err = s.mod.ctx.Login(s.anchor, p11.CKU_USER, text(pin))
	pin.Wipe()
	if err == p11.Error(p11.CKR_USER_ALREADY_LOGGED_IN) {
		err = nil
	}
	refused := classify(err) == classPIN
	err = wrap("log in", err)
	if refused {
		s.refused = err
	}
	if c.LoggedIn != nil {
		c.LoggedIn(err)
	}
	return err
}

// take gets a lock of one place, or the end of ctx.
func take(ctx context.Context, lock chan struct{}) error {
	select {
	case lock <- struct{}{}:
		return nil
	default:
	}
	select {
	case lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("hsm: %w: %w", fault.ErrUnavailable, ctx.Err())
	}
}
