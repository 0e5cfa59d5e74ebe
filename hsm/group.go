package hsm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/fault"
)

// Member is one token of a failover group.
type Member struct {
	Name string // for logs and metrics: few, and no secret
	Open func(context.Context) (Engine, error)
}

// GroupOptions of NewGroup.
type GroupOptions struct {
	Logger  *slog.Logger          // nil = silence
	Metrics prometheus.Registerer // nil = not registered
	// Recheck is how often members that are out, or lack keys, are looked at; 0 is 10 s.
	Recheck time.Duration
}

// group is an Engine over several tokens that hold the same keys, as HSM clusters
// do. Calls go to the first member that serves and has the key; when it is out they
// go to the next, which the caller does not notice.
//
// A member serves a key only after it has shown that it is the same key: the
// SubjectPublicKeyInfo of key pairs, for secret keys a value that only the key can
// make (see proof). Agreed is what the first member in the order of the list has. A
// member with another key under an agreed name is not trusted with anything: it is
// excluded until it agrees, or an operator decides. A member that merely lacks keys
// serves the others; copying keys between tokens is the vendor's business.
//
// Generate makes the key on the first member that serves. Destroy destroys on all.
type group struct {
	options GroupOptions
	log     *slog.Logger
	metrics *groupMetrics
	members []*member

	mu     sync.Mutex // of agreed, and of judging members
	agreed map[Ref]agreement

	life context.Context
	die  context.CancelFunc
	work sync.WaitGroup
	once sync.Once
	err  error
}

var _ Engine = (*group)(nil)

// NewGroup opens the members in order. One that does not open, or disagrees, is
// tried again in the background; when none opens the group does not. A refused PIN
// is not tried again.
func NewGroup(ctx context.Context, members []Member, o GroupOptions) (_ Engine, err error) {
	if len(members) == 0 || len(members) > 64 {
		return nil, fmt.Errorf("hsm: %w: a failover group has 1..64 members", ErrConfig)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Recheck <= 0 {
		o.Recheck = 10 * time.Second
	}
	g := &group{options: o, log: o.Logger, agreed: map[Ref]agreement{}}
	g.life, g.die = context.WithCancel(context.Background())
	if g.metrics, err = newGroupMetrics(o.Metrics); err != nil {
		return nil, fmt.Errorf("hsm: %w: register metrics: %w", ErrConfig, err)
	}
	serving := 0
	var causes []error
	for _, m := range members {
		mb := &member{Member: m, group: g}
		g.members = append(g.members, mb)
		if err := mb.look(ctx); err != nil {
			causes = append(causes, fmt.Errorf("%s: %w", m.Name, err))
		} else {
			serving++
		}
	}
	if serving == 0 {
		return nil, errors.Join(append(causes, g.Close())...)
	}
	g.work.Go(g.watch)
	return g, nil
}

// Close implements Engine.
func (g *group) Close() error {
	g.once.Do(func() {
		g.die()
		g.work.Wait()
		for _, m := range g.members {
			if e := m.take(); e != nil {
				g.err = errors.Join(g.err, e.Close())
			}
		}
		g.metrics.unregister()
	})
	return g.err
}

// watch looks at members that are not whole.
func (g *group) watch() {
	tick := time.NewTicker(g.options.Recheck)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-g.life.Done():
			return
		}
		for _, m := range g.members {
			if !m.whole() {
				ctx, cancel := context.WithTimeout(g.life, g.options.Recheck)
				_ = m.look(ctx)
				cancel()
			}
		}
	}
}

// work of one call, told by data so that it allocates nothing.
type groupCall struct {
	op        Op
	key       *Key // nil when no key is used
	ref       Ref
	mechanism Mechanism
	in, aad   []byte
	found     KeyInfo
	info      TokenInfo
}

// on makes the call at one member.
func (c *groupCall) on(ctx context.Context, e Engine, dst []byte) (out []byte, err error) {
	switch c.op {
	case OpSign:
		return e.Sign(ctx, *c.key, c.mechanism, dst, c.in)
	case OpMAC:
		return e.MAC(ctx, *c.key, dst, c.in)
	case OpSeal:
		return e.Seal(ctx, *c.key, dst, c.in, c.aad)
	case OpUnseal:
		return e.Unseal(ctx, *c.key, dst, c.in, c.aad)
	case OpAgree:
		return e.Agree(ctx, *c.key, dst, c.in)
	case OpRandom:
		return nil, e.Random(ctx, c.in)
	case OpFind:
		c.found, err = e.Find(ctx, c.ref)
	case OpInfo:
		c.info, err = e.Info(ctx)
	case OpCheck:
		err = e.Check(ctx)
	}
	return nil, err
}

// do makes a call at the first member that can, then at the next. A member gets no
// more than half of the time that is left, so that one that hangs leaves some for
// the others.
func (g *group) do(ctx context.Context, c *groupCall, dst []byte) ([]byte, error) {
	var asked uint64
	var failed []error
	for _, hopeless := range []bool{false, true} { // first who is well, then who was out when last heard
		for i, m := range g.members {
			e := m.serves(c.key)
			if e == nil || asked&(1<<i) != 0 || m.down.Load() != hopeless {
				continue
			}
			asked |= 1 << i
			out, err := g.try(ctx, c, e, dst)
			if err == nil {
				m.well()
				return out, nil
			}
			if ctx.Err() != nil || !m.excuses(err) {
				return nil, err
			}
			m.out(err)
			g.metrics.failovers.Inc()
			failed = append(failed, fmt.Errorf("%s: %w", m.Name, err))
		}
	}
	if outages := slices.DeleteFunc(slices.Clone(failed), func(err error) bool { return fault.KindOf(err) != fault.Unavailable }); len(outages) > 0 {
		failed = outages // one that is out might have the key that another lacks
	}
	switch {
	case len(failed) > 0:
		return nil, errors.Join(failed...)
	case c.key != nil && g.knows(c.key.Ref) == nil:
		return nil, fmt.Errorf("hsm: %w: %s", ErrKeyNotFound, c.key.Ref)
	}
	return nil, g.nobody()
}

// nobody says why no member was asked.
func (g *group) nobody() error {
	if g.life.Err() != nil {
		return fmt.Errorf("hsm: %w", ErrClosed)
	}
	return fmt.Errorf("hsm: %w: no member of the group serves", fault.ErrUnavailable)
}

func (g *group) try(ctx context.Context, c *groupCall, e Engine, dst []byte) ([]byte, error) {
	if end, ok := ctx.Deadline(); ok && len(g.members) > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/2)
		defer cancel()
	}
	return c.on(ctx, e, dst)
}

// Sign implements Engine.
func (g *group) Sign(ctx context.Context, k Key, m Mechanism, dst, in []byte) ([]byte, error) {
	return g.do(ctx, &groupCall{op: OpSign, key: &k, mechanism: m, in: in}, dst)
}

// MAC implements Engine.
func (g *group) MAC(ctx context.Context, k Key, dst, msg []byte) ([]byte, error) {
	return g.do(ctx, &groupCall{op: OpMAC, key: &k, in: msg}, dst)
}

// Seal implements Engine.
func (g *group) Seal(ctx context.Context, k Key, dst, plaintext, aad []byte) ([]byte, error) {
	return g.do(ctx, &groupCall{op: OpSeal, key: &k, in: plaintext, aad: aad}, dst)
}

// Unseal implements Engine.
func (g *group) Unseal(ctx context.Context, k Key, dst, sealed, aad []byte) ([]byte, error) {
	return g.do(ctx, &groupCall{op: OpUnseal, key: &k, in: sealed, aad: aad}, dst)
}

// Agree implements Engine.
func (g *group) Agree(ctx context.Context, k Key, dst, point []byte) ([]byte, error) {
	return g.do(ctx, &groupCall{op: OpAgree, key: &k, in: point}, dst)
}

// Random implements Engine.
func (g *group) Random(ctx context.Context, p []byte) error {
	_, err := g.do(ctx, &groupCall{op: OpRandom, in: p}, nil)
	return err
}

// Check implements Engine: one member is enough.
func (g *group) Check(ctx context.Context) error {
	_, err := g.do(ctx, &groupCall{op: OpCheck}, nil)
	return err
}

// Info implements Engine: of the first member that serves.
func (g *group) Info(ctx context.Context) (TokenInfo, error) {
	c := &groupCall{op: OpInfo}
	_, err := g.do(ctx, c, nil)
	return c.info, err
}

// Find implements Engine. A key that only a later member has is not agreed until
// that member showed it.
func (g *group) Find(ctx context.Context, ref Ref) (KeyInfo, error) {
	if a := g.knows(ref); a != nil {
		k := a.info.Key()
		c := &groupCall{op: OpFind, key: &k, ref: ref}
		_, err := g.do(ctx, c, nil)
		return c.found, err
	}
	var err error
	for _, m := range g.members {
		e := m.serves(nil)
		if e == nil {
			continue
		}
		info, ferr := e.Find(ctx, ref)
		if ferr == nil {
			ferr = m.learn(ctx, e, info)
		}
		switch {
		case ferr == nil:
			return info, nil
		case ctx.Err() != nil || !m.excuses(ferr):
			return KeyInfo{}, ferr
		case fault.KindOf(ferr) == fault.Unavailable || err == nil:
			err = ferr // who is out might have it: no verdict
		}
	}
	if err == nil {
		err = g.nobody()
	}
	return KeyInfo{}, err
}

// Keys implements Engine: what the serving members have, each key once.
func (g *group) Keys(ctx context.Context) ([]Found, error) {
	var list []Found
	var failed []error
	seen := map[Ref]bool{}
	for _, m := range g.members {
		found, err := m.keys(ctx)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", m.Name, err))
			continue
		}
		for _, f := range found {
			if !seen[f.Ref] {
				seen[f.Ref] = true
				list = append(list, f)
			}
		}
	}
	if g.life.Err() != nil {
		return nil, g.nobody()
	}
	if len(failed) == len(g.members) {
		return nil, errors.Join(failed...)
	}
	g.forgetBut(seen, len(failed) == 0)
	return list, nil
}

// Generate implements Engine: at the first member that serves, and never at
// another after an error.
func (g *group) Generate(ctx context.Context, ref Ref, alg Algorithm, id [16]byte) (KeyInfo, error) {
	for _, m := range g.members {
		e := m.serves(nil)
		if e == nil || m.down.Load() {
			continue
		}
		info, err := e.Generate(ctx, ref, alg, id)
		if err == nil {
			err = m.learn(ctx, e, info)
		}
		return info, err
	}
	return KeyInfo{}, g.nobody()
}

// Destroy implements Engine: at all members. One that is out, or not trusted,
// makes it fail, for the key is still there.
func (g *group) Destroy(ctx context.Context, ref Ref) error {
	if g.life.Err() != nil {
		return g.nobody()
	}
	var failed []error
	missing := 0
	for _, m := range g.members {
		e := m.serves(nil)
		if e == nil {
			failed = append(failed, fmt.Errorf("hsm: %w: the key may still be on member %s, which does not serve", fault.ErrUnavailable, m.Name))
			continue
		}
		switch err := e.Destroy(ctx, ref); {
		case errors.Is(err, ErrKeyNotFound):
			missing++
		case err != nil:
			failed = append(failed, fmt.Errorf("%s: %w", m.Name, err))
		}
		m.forget(ref)
	}
	if len(failed) > 0 {
		return errors.Join(failed...)
	}
	g.mu.Lock()
	delete(g.agreed, ref)
	g.mu.Unlock()
	if missing == len(g.members) {
		return fmt.Errorf("hsm: %w: %s", ErrKeyNotFound, ref)
	}
	return nil
}
