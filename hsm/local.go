package hsm

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	p11 "github.com/miekg/pkcs11"
)

// local is the Engine whose module is in this process.
type local struct {
	config  Config
	log     *slog.Logger
	metrics *laneMetrics

	mod        *module
	slot       *slot
	mechanisms map[uint]bool
	index      index
	lanes      chan *lane

	closing  chan struct{}
	close    sync.Once
	closeErr error
}

var _ Engine = (*local)(nil)

// OpenEngine loads the module (or joins it), finds the token, logs in once and
// opens the lanes one after the other. It starts no goroutine. A refused PIN is
// ErrPIN and was tried exactly once.
func OpenEngine(ctx context.Context, c Config) (_ Engine, err error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	t := &local{config: c, log: c.Logger, lanes: make(chan *lane, c.Lanes), closing: make(chan struct{})}
	if t.mod, err = openModule(c.Module, c.Env); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			t.shut()
		}
	}()
	id, info, err := t.mod.findToken(c.TokenLabel, c.TokenSerial)
	if err != nil {
		return nil, err
	}
	if t.metrics, err = newLaneMetrics(c.Metrics, info.Label); err != nil {
		return nil, fmt.Errorf("hsm: %w: register metrics: %w", ErrConfig, err)
	}
	if t.mechanisms, err = t.mod.mechanisms(id); err != nil {
		return nil, err
	}
	t.slot = t.mod.slotOf(id)
	if err := t.login(ctx, 0); err != nil {
		return nil, err
	}
	for range c.Lanes {
		l := &lane{}
		t.lanes <- l
		if err := t.connect(l); err != nil {
			return nil, wrap("open a session", err)
		}
	}
	t.log.LogAttrs(ctx, slog.LevelInfo, "hsm: token open", slog.String("token", info.Label),
		slog.String("serial", info.SerialNumber), slog.String("model", info.Model), slog.Int("lanes", c.Lanes))
	return t, nil
}

func (t *local) Close() error {
	t.close.Do(func() {
		close(t.closing)
		for range cap(t.lanes) {
			t.drop(<-t.lanes)
		}
		t.closeErr = t.shut()
	})
	return t.closeErr
}

// shut gives back whatever Open has taken so far.
func (t *local) shut() error {
	for {
		select {
		case l := <-t.lanes:
			t.drop(l)
			continue
		default:
		}
		break
	}
	if t.metrics != nil {
		t.metrics.unregister()
	}
	if t.slot != nil {
		t.slot.release()
	}
	return t.mod.release()
}

// Keys implements Engine. Entries that are held stay what they were.
func (t *local) Keys(ctx context.Context) (list []Found, err error) {
	err = t.do(ctx, call{op: OpKeys, run: func(s p11.SessionHandle, _ located) error {
		found, err := t.enumerate(s)
		if err != nil {
			return err
		}
		t.index.replace(found)
		list = make([]Found, 0, len(found))
		for _, e := range found {
			list = append(list, Found{e.info, e.bad})
		}
		return nil
	}})
	return list, err
}

// Find implements Engine. A good entry of the index is not looked up again.
func (t *local) Find(ctx context.Context, ref Ref) (KeyInfo, error) {
	e := t.index.get(ref)
	if e == nil || e.bad != nil {
		var err error
		if e, err = t.fetch(ctx, ref); err != nil {
			return KeyInfo{}, err
		}
	}
	if e.bad != nil {
		return KeyInfo{}, fmt.Errorf("hsm: %w", e.bad)
	}
	return e.info, nil
}

// Random implements Engine.
func (t *local) Random(ctx context.Context, p []byte) error {
	return t.do(ctx, call{op: OpRandom, run: func(s p11.SessionHandle, _ located) error {
		b, err := t.mod.ctx.GenerateRandom(s, len(p))
		if err != nil {
			return err
		}
		if copy(p, b) != len(p) {
			return fmt.Errorf("the module gave %d random bytes for %d", len(b), len(p))
		}
		return nil
	}})
}

// Check implements Engine.
func (t *local) Check(ctx context.Context) error {
	return t.do(ctx, call{op: OpCheck, run: func(s p11.SessionHandle, _ located) error {
		if err := t.loggedIn(s); err != nil {
			return err
		}
		_, err := t.mod.ctx.GenerateRandom(s, 16)
		return err
	}})
}
