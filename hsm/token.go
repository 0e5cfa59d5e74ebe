package hsm

import (
	"context"
	"crypto"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	p11 "github.com/miekg/pkcs11"
)

// KeyInfo describes a key.
type KeyInfo struct {
	Ref       Ref
	ID        [16]byte // CKA_ID
	Algorithm Algorithm
	Public    crypto.PublicKey // *ecdsa.PublicKey, *rsa.PublicKey or ed25519.PublicKey; nil for secrets
}

// Token is one open PKCS#11 token. It is safe for concurrent use.
type Token struct {
	config  Config
	log     *slog.Logger
	metrics *metrics

	mod        *module
	slot       *slot
	mechanisms map[uint]bool
	index      index
	lanes      chan *lane

	lastGood atomic.Int64 // Unix nanoseconds
	closing  chan struct{}
	close    sync.Once
	closeErr error
}

// Open loads the module (or joins it), finds the token, logs in once, opens the
// lanes one after the other and enumerates the keys. It starts no goroutine. A
// refused PIN is ErrPIN and was tried exactly once.
func Open(ctx context.Context, c Config) (_ *Token, err error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	t := &Token{config: c, log: c.Logger, lanes: make(chan *lane, c.Lanes), closing: make(chan struct{})}
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
	if t.metrics, err = newMetrics(c.Metrics, info.Label); err != nil {
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
	if err := t.refresh(ctx); err != nil {
		return nil, err
	}
	return t, nil
}

// refresh enumerates the keys anew. Keys that are held stay what they were.
func (t *Token) refresh(ctx context.Context) error {
	return t.do(ctx, call{mechanism: "enumerate", run: func(s p11.SessionHandle, _ located) error {
		found, err := t.enumerate(s)
		if err != nil {
			return err
		}
		t.index.replace(found)
		return nil
	}})
}

// Close ends waits with ErrClosed, waits for the calls that are in the module,
// closes all sessions and gives the module up. A second Close does nothing.
func (t *Token) Close() error {
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
func (t *Token) shut() error {
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

// Random fills p from the module's generator.
func (t *Token) Random(ctx context.Context, p []byte) error {
	return t.do(ctx, call{mechanism: "random", run: func(s p11.SessionHandle, _ located) error {
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

// Check makes one small call through a lane, the same way as every operation:
// when it returns nil the module answers, the session is open and logged in.
func (t *Token) Check(ctx context.Context) error {
	return t.do(ctx, call{mechanism: "check", run: func(s p11.SessionHandle, _ located) error {
		if err := t.loggedIn(s); err != nil {
			return err
		}
		_, err := t.mod.ctx.GenerateRandom(s, 16)
		return err
	}})
}

// LastGood is when an operation last ended well.
func (t *Token) LastGood() time.Time { return time.Unix(0, t.lastGood.Load()) }

func (t *Token) good() { t.lastGood.Store(t.config.Now().UnixNano()) }
