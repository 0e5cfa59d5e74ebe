package hsm

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// KeyInfo describes a key.
type KeyInfo struct {
	Ref       Ref
	ID        [16]byte // CKA_ID
	Algorithm Algorithm
	Public    crypto.PublicKey // *ecdsa.PublicKey, *rsa.PublicKey or ed25519.PublicKey; nil for secrets
}

// Token is one open token. It is safe for concurrent use.
type Token struct {
	engine  Engine
	options Options
	metrics *metrics

	keys sync.Map // Ref -> *known

	lastGood atomic.Int64 // Unix nanoseconds
	closing  sync.Once
	closed   error
}

// known is a key as the engine described it.
type known struct {
	info KeyInfo
	key  Key
}

// Options of New.
type Options struct {
	Now     func() time.Time      // nil = time.Now
	Logger  *slog.Logger          // nil = silence
	Metrics prometheus.Registerer // nil = not registered
}

// Open opens the token that c names in this process: New over OpenEngine.
func Open(ctx context.Context, c Config) (*Token, error) {
	e, err := OpenEngine(ctx, c)
	if err != nil {
		return nil, err
	}
	return New(ctx, e, Options{Now: c.Now, Logger: c.Logger, Metrics: c.Metrics})
}

// New puts the front before an engine, which is the Token's from now on: Close
// closes it, and so does a New that fails. It enumerates the keys.
func New(ctx context.Context, e Engine, o Options) (_ *Token, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	t := &Token{engine: e, options: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Close())
		}
	}()
	info, err := e.Info(ctx)
	if err != nil {
		return nil, err
	}
	if t.metrics, err = newMetrics(o.Metrics, info.Label); err != nil {
		return nil, fmt.Errorf("hsm: %w: register metrics: %w", ErrConfig, err)
	}
	if _, err := t.Keys(ctx, nil); err != nil {
		return nil, err
	}
	return t, nil
}

// Close ends waits with ErrClosed, waits for the calls that are in the module,
// closes all sessions and gives the module up. A second Close does nothing.
func (t *Token) Close() error {
	t.closing.Do(func() {
		t.closed = t.engine.Close()
		if t.metrics != nil {
			t.metrics.unregister()
		}
	})
	return t.closed
}

// Lookup finds a key. Known keys are answered without a call to the engine; a
// miss costs one search, because another node may have made the key.
func (t *Token) Lookup(ctx context.Context, ref Ref) (KeyInfo, error) {
	k, err := t.known(ctx, ref)
	if err != nil {
		return KeyInfo{}, err
	}
	return k.info, nil
}

func (t *Token) known(ctx context.Context, ref Ref) (*known, error) {
	if k, ok := t.keys.Load(ref); ok {
		return k.(*known), nil
	}
	if err := ref.Validate(); err != nil {
		return nil, err
	}
	start := time.Now()
	info, err := t.engine.Find(ctx, ref)
	t.done(OpFind, 0, start, err)
	if err != nil {
		return nil, err
	}
	return t.know(info), nil
}

func (t *Token) know(info KeyInfo) *known {
	k := &known{info, info.Key()}
	t.keys.Store(info.Ref, k)
	return k
}

// Keys enumerates the token anew and returns the usable keys that match (nil =
// all), in no order. It is linear in the objects of the token: not for requests.
func (t *Token) Keys(ctx context.Context, match func(Ref) bool) ([]KeyInfo, error) {
	start := time.Now()
	found, err := t.engine.Keys(ctx)
	t.done(OpKeys, 0, start, err)
	if err != nil {
		return nil, err
	}
	var list []KeyInfo
	there := make(map[Ref]bool, len(found))
	for _, f := range found {
		if f.Bad != nil {
			continue
		}
		there[f.Ref] = true
		t.know(f.KeyInfo)
		if match == nil || match(f.Ref) {
			list = append(list, f.KeyInfo)
		}
	}
	t.keys.Range(func(ref, k any) bool {
		if !there[ref.(Ref)] {
			t.keys.CompareAndDelete(ref, k)
		}
		return true
	})
	return list, nil
}

// Generate makes a key in the token from its role's template, reads every
// attribute back, and uses the key once. A key that is not as demanded is
// destroyed, both halves, and the call fails with ErrTemplate or ErrSelfTest.
// ErrExists means that the label or the id is taken. A zero id is replaced by a
// random one.
//
// Nothing is retried: a caller that got another error can not know whether a key
// was made, so it records its intent under id first and reconciles by Lookup.
func (t *Token) Generate(ctx context.Context, ref Ref, alg Algorithm, id [16]byte) (KeyInfo, error) {
	if err := ref.Validate(); err != nil {
		return KeyInfo{}, err
	}
	if _, known := algorithms[alg]; !known || !roles[ref.Role].allows(alg) {
		return KeyInfo{}, fmt.Errorf("hsm: %w: role %s does not allow %q", ErrUnsupported, ref.Role, alg)
	}
	if id == ([16]byte{}) {
		_, _ = rand.Read(id[:]) // never fails
	}
	start := time.Now()
	info, err := t.engine.Generate(ctx, ref, alg, id)
	t.done(OpGenerate, 0, start, err)
	if err != nil {
		return KeyInfo{}, err
	}
	return t.know(info).info, nil
}

// Destroy removes a key, or the debris that has its label. It refuses with
// ErrAmbiguous when the label belongs to more than one key.
func (t *Token) Destroy(ctx context.Context, ref Ref) error {
	if err := ref.Validate(); err != nil {
		return err
	}
	start := time.Now()
	err := t.engine.Destroy(ctx, ref)
	t.done(OpDestroy, 0, start, err)
	t.keys.Delete(ref)
	return err
}

// Random fills p from the module's generator.
func (t *Token) Random(ctx context.Context, p []byte) error {
	start := time.Now()
	err := t.engine.Random(ctx, p)
	t.done(OpRandom, 0, start, err)
	return err
}

// Check makes one small call through a lane, the same way as every operation:
// when it returns nil the module answers, the session is open and logged in.
func (t *Token) Check(ctx context.Context) error {
	start := time.Now()
	err := t.engine.Check(ctx)
	t.done(OpCheck, 0, start, err)
	return err
}

// Info asks the token who it is, for transcripts and operators.
func (t *Token) Info(ctx context.Context) (TokenInfo, error) {
	start := time.Now()
	info, err := t.engine.Info(ctx)
	t.done(OpInfo, 0, start, err)
	return info, err
}

// LastGood is when an operation last ended well.
func (t *Token) LastGood() time.Time { return time.Unix(0, t.lastGood.Load()) }

// done counts the end of an operation.
func (t *Token) done(op Op, s Scheme, start time.Time, err error) {
	t.metrics.done(op, s, time.Since(start), err)
	if err == nil {
		t.lastGood.Store(t.options.Now().UnixNano())
	}
}

// used is done for an operation with a key: one that is gone is forgotten, and
// its holders must look again.
func (t *Token) used(k *known, op Op, s Scheme, start time.Time, err error) {
	t.done(op, s, start, err)
	if err != nil && errors.Is(err, ErrKeyNotFound) {
		t.keys.CompareAndDelete(k.info.Ref, k)
	}
}

// wrongRole refuses a handle that the key's role has no right to.
func wrongRole(ref Ref, what string) error {
	return fmt.Errorf("hsm: %w: role %s is not for %s", ErrUnsupported, ref.Role, what)
}
