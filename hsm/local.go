package hsm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/signet-hsm/signet/fault"
)

// local is the Engine whose module is in this process.
type local struct {
	config  Config
	log     *slog.Logger
	metrics *laneMetrics

	label, serial, maker string // of the token
	mechanisms           map[uint]bool
	creating             chan struct{}         // see write
	loggingIn            chan struct{}         // holds one value
	refused              atomic.Pointer[error] // the PIN was, by any instance
	index                index
	lanes                chan *lane
	roster               roster
	breaker              breaker
	started              time.Time
	plain                atomic.Bool  // the module takes no optional lines of a template
	rsaBits              atomic.Int64 // of the longest RSA key it makes; 0 = not known

	mu        sync.Mutex
	instances []*instance
	closed    bool // no new work begins

	closing  chan struct{}
	life     context.Context // ends with closing
	die      context.CancelFunc
	work     sync.WaitGroup // repairs and the watch
	close    sync.Once
	closeErr error
}

var _ Engine = (*local)(nil)

// OpenEngine loads the module (or joins it) and its copies, finds the token, logs
// in once in each and opens the lanes one after the other. A refused PIN is ErrPIN
// and was tried exactly once.
func OpenEngine(ctx context.Context, c Config) (_ Engine, err error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	t := &local{config: c, log: c.Logger, index: index{keys: map[Ref]*entry{}}, lanes: make(chan *lane, c.Lanes), closing: make(chan struct{}), loggingIn: make(chan struct{}, 1), started: time.Now()}
	t.life, t.die = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			_ = t.Close()
		}
	}()
	for place := range c.Instances {
		if err := t.begin(ctx, place); err != nil {
			return nil, err
		}
	}
	t.log.LogAttrs(ctx, slog.LevelInfo, "hsm: token open", slog.String("token", t.label), slog.String("serial", t.serial),
		slog.Int("instances", c.Instances), slog.Int("lanes", c.Lanes))
	t.work.Go(t.watch)
	return t, nil
}

// begin opens one instance with its share of the lanes.
func (t *local) begin(ctx context.Context, place int) error {
	in, err := t.openInstance(ctx, place, place > 0)
	if err != nil {
		return err
	}
	t.instances = append(t.instances, in)
	if place == 0 {
		if err := t.describe(in); err != nil {
			return err
		}
	}
	if err := t.login(ctx, in, 0); err != nil {
		return err
	}
	if place == 0 {
		if err := t.separate(in); err != nil {
			return err
		}
	}
	n := t.config.Lanes / t.config.Instances
	if place < t.config.Lanes%t.config.Instances {
		n++
	}
	return t.fill(in, n)
}

// describe sets what is the same for all instances.
func (t *local) describe(in *instance) (err error) {
	if t.metrics, err = newLaneMetrics(t.config.Metrics, t.label); err != nil {
		return fmt.Errorf("hsm: %w: register metrics: %w", ErrConfig, err)
	}
	t.breaker.init(t.config.Instances, t.metrics.open)
	t.creating = creatingAt(t.serial)
	if t.mechanisms, err = in.mod.mechanisms(in.slot.id); err != nil {
		return err
	}
	rsa := []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil)}
	if info, err := in.mod.ctx.GetMechanismInfo(in.slot.id, rsa); err == nil {
		t.rsaBits.Store(int64(info.MaxKeySize))
	}
	if len(t.config.Accept) > 0 {
		t.log.Warn("hsm: key rules are not enforced whole", slog.Any("accept", t.config.Accept))
	}
	return nil
}

// separate proves once that the module keeps keys to their attributes.
func (t *local) separate(in *instance) error {
	p := separation{api: in.mod.ctx, slot: in.slot.id, have: t.mechanisms, usage: func(r Role, h half, a Algorithm) []attribute {
		return in.usage(roles[r], h, a, guard{})
	}}
	if w, ok := p.api.(witnessed); ok {
		p.api = w.api // nothing of it stays on the token
	}
	if err := p.prove(); err != nil && t.config.unproven {
		t.log.Warn("hsm: this module does not keep keys to their roles", slog.Any("cause", err))
	} else if err != nil {
		return wrap("prove the separation of keys", err)
	}
	if len(p.unproven) > 0 {
		t.log.Warn("hsm: separation of keys is not proved; the module makes no session keys of these roles", slog.Any("roles", p.unproven))
	}
	return nil
}

// creatingAt returns the lock of all who make keys on one token.
func creatingAt(serial string) chan struct{} {
	registry.Lock()
	defer registry.Unlock()
	if registry.creating[serial] == nil {
		registry.creating[serial] = make(chan struct{}, 1)
	}
	return registry.creating[serial]
}

func (t *local) softHSM() bool { return strings.HasPrefix(t.maker, "SoftHSM") }

// Close ends waits with ErrClosed and waits for the calls that are in the module,
// for those that nobody waits for no longer than they are given anyway.
func (t *local) Close() error {
	t.close.Do(func() {
		t.mu.Lock()
		t.closed = true
		t.mu.Unlock()
		close(t.closing)
		t.die()
		t.work.Wait()
		stuck := t.collect()
		for _, in := range t.instances {
			t.closeErr = errors.Join(t.closeErr, in.shut())
		}
		if stuck > 0 {
			t.closeErr = errors.Join(t.closeErr, fmt.Errorf("hsm: %w: %d calls in the module never ended", fault.ErrUnavailable, stuck))
		}
		if t.metrics != nil {
			t.metrics.unregister()
		}
	})
	return t.closeErr
}

// collect ends all lanes and returns how many it could not get.
func (t *local) collect() (stuck int) {
	// Without a guard the calls have callers, who are waited for.
	patience := t.config.Hang
	if t.config.Unguarded {
		patience = 1 << 62
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		for _, in := range t.instances { // those of an instance that is down rest there
			in.mu.Lock()
			parked := in.parked
			in.parked = nil
			in.mu.Unlock()
			for _, l := range parked {
				t.end(l)
			}
		}
		if t.roster.count() == 0 {
			return 0
		}
		select {
		case l := <-t.lanes:
			t.end(l)
		case <-again.C:
		case <-timer.C:
			for _, l := range t.roster.all() {
				l.inst.mod.leaked.Store(true)
				stuck++
			}
			return stuck
		}
	}
}

// Keys implements Engine. Entries that are held stay what they were.
func (t *local) Keys(ctx context.Context) ([]Found, error) {
	_, found, err := t.do(ctx, &call{op: OpKeys, run: func(l *lane) (any, error) { return l.inst.enumerate(l.session) }}, nil)
	if err != nil {
		return nil, err
	}
	keys := found.(map[Ref]*entry)
	list := make([]Found, 0, len(keys))
	for _, e := range keys {
		list = append(list, Found{e.info, e.bad})
	}
	t.index.replace(keys) // it is the index's from here on
	return list, nil
}

// Find implements Engine. It looks at the token, whatever the index says: another
// process may have destroyed the key, or made a new one under its name.
func (t *local) Find(ctx context.Context, ref Ref) (KeyInfo, error) {
	e, err := t.fetch(ctx, ref)
	if err != nil {
		if old := t.index.get(ref); old != nil && errors.Is(err, ErrKeyNotFound) {
			t.index.forget(old)
		}
		return KeyInfo{}, err
	}
	if e.bad != nil {
		return KeyInfo{}, fmt.Errorf("hsm: %w", e.bad)
	}
	return e.info, nil
}

// Random implements Engine.
func (t *local) Random(ctx context.Context, p []byte) error {
	n := len(p)
	_, b, err := t.do(ctx, &call{op: OpRandom, run: func(l *lane) (any, error) {
		b, err := l.inst.mod.ctx.GenerateRandom(l.session, n)
		if err == nil && len(b) != n {
			err = fmt.Errorf("%w: %d random bytes for %d", ErrRefused, len(b), n)
		}
		return b, err
	}}, nil)
	if err == nil {
		copy(p, b.([]byte))
	}
	return err
}

// Check implements Engine.
func (t *local) Check(ctx context.Context) error {
	_, _, err := t.do(ctx, &call{op: OpCheck, run: check}, nil)
	return err
}

func check(l *lane) (any, error) {
	if err := l.inst.loggedIn(l.session); err != nil {
		return nil, err
	}
	_, err := l.inst.mod.ctx.GenerateRandom(l.session, 16)
	return nil, err
}

// watch looks after what no caller does: calls that never end, and lanes that
// were idle for long.
func (t *local) watch() {
	every := t.config.Hang / 4
	if t.config.KeepAlive > 0 {
		every = min(every, t.config.KeepAlive/2)
	}
	for t.pause(every) {
		if !t.config.Unguarded {
			for _, l := range t.roster.all() {
				if since := l.since.Load(); since != 0 && t.clock()-since > int64(t.config.Hang) {
					l.inst.down(errInside)
				}
			}
		}
		if t.config.KeepAlive > 0 {
			t.keepAlive()
		}
	}
}

// keepAlive makes a small call on each lane that was idle for long, with all the
// healing of a call. It takes free lanes only, one at a time.
func (t *local) keepAlive() {
	for range len(t.lanes) {
		ctx, cancel := context.WithTimeout(t.life, t.config.Hang)
		select {
		case l := <-t.lanes:
			t.metrics.inUse.Inc()
			mine := true
			if l.inst.isUp() && t.clock()-l.used > int64(t.config.KeepAlive) {
				mine, _ = t.run(ctx, l, &call{op: OpCheck, run: check})
			}
			if mine {
				t.release(l)
			}
		default:
		}
		cancel()
		runtime.Gosched()
	}
}

// roster lists all lanes that exist.
type roster struct {
	mu    sync.Mutex
	lanes map[*lane]struct{}
}

func (r *roster) add(l *lane) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lanes == nil {
		r.lanes = map[*lane]struct{}{}
	}
	r.lanes[l] = struct{}{}
}

func (r *roster) remove(l *lane) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.lanes, l)
}

func (r *roster) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.lanes)
}

func (r *roster) all() []*lane {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*lane, 0, len(r.lanes))
	for l := range r.lanes {
		list = append(list, l)
	}
	return list
}
