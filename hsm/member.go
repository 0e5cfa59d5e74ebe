package hsm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/fault"
)

// errDisagrees: a member holds another key under an agreed name.
var errDisagrees = fmt.Errorf("%w: the member holds another key under this name than the group", ErrAmbiguous)

// member is a token of a group: closed; open and serving the keys it has shown to
// be the agreed ones; out, when the last call said so; or excluded.
type member struct {
	Member
	group *group

	engine   atomic.Pointer[Engine]
	has      sync.Map // Key -> struct{}: shown to be the agreed key
	lacks    atomic.Int64
	down     atomic.Bool
	excluded atomic.Bool
	refused  atomic.Bool // its PIN
	looking  sync.Mutex
}

// serves returns the engine when the member may be asked for the key (nil: for
// anything).
func (m *member) serves(k *Key) Engine {
	e := m.engine.Load()
	if e == nil || m.excluded.Load() {
		return nil
	}
	if k != nil {
		if _, ok := m.has.Load(*k); !ok {
			return nil
		}
	}
	return *e
}

// excuses reports whether another member may do better with what failed here.
func (m *member) excuses(err error) bool {
	return fault.KindOf(err) == fault.Unavailable || errors.Is(err, ErrKeyNotFound) || errors.Is(err, ErrTemplate) || errors.Is(err, ErrAmbiguous)
}

// out notes a failure. A member without a key it had is asked for the others still.
func (m *member) out(err error) {
	if fault.KindOf(err) != fault.Unavailable {
		m.lacks.Add(1)
		return
	}
	if !m.down.Swap(true) {
		m.group.log.Error("hsm: member of the group is out", slog.String("member", m.Name), slog.Any("cause", err))
		m.group.metrics.serving.WithLabelValues(m.Name).Set(0)
	}
}

func (m *member) well() {
	if m.down.Load() && m.down.Swap(false) {
		m.group.log.Warn("hsm: member of the group is back", slog.String("member", m.Name))
		m.group.metrics.serving.WithLabelValues(m.Name).Set(1)
	}
}

// whole reports whether there is nothing to look at.
func (m *member) whole() bool {
	return m.refused.Load() || m.engine.Load() != nil && !m.excluded.Load() && !m.down.Load() && m.lacks.Load() == 0
}

func (m *member) take() Engine {
	if e := m.engine.Swap(nil); e != nil {
		return *e
	}
	return nil
}

// look opens the member when it is closed, and judges it.
func (m *member) look(ctx context.Context) error {
	m.looking.Lock()
	defer m.looking.Unlock()
	if m.engine.Load() == nil {
		e, err := m.Open(ctx)
		if err != nil {
			if errors.Is(err, ErrPIN) {
				m.refused.Store(true)
			}
			m.group.log.Error("hsm: member of the group does not open", slog.String("member", m.Name), slog.Any("cause", err))
			m.group.metrics.serving.WithLabelValues(m.Name).Set(0)
			return err
		}
		m.excluded.Store(true) // until it is judged
		m.engine.Store(&e)
	}
	_, err := m.judge(ctx)
	return err
}

// keys judges the member and returns what it has.
func (m *member) keys(ctx context.Context) ([]Found, error) {
	m.looking.Lock()
	defer m.looking.Unlock()
	if m.engine.Load() == nil {
		return nil, fmt.Errorf("hsm: %w: not open", fault.ErrUnavailable)
	}
	return m.judge(ctx)
}

// judge compares all keys of the member with the agreed ones.
func (m *member) judge(ctx context.Context) ([]Found, error) {
	g, e := m.group, *m.engine.Load()
	found, err := e.Keys(ctx)
	if err != nil {
		m.out(err)
		return nil, err
	}
	there := map[Key]bool{}
	for _, f := range found {
		if f.Bad != nil {
			continue
		}
		k := f.Key()
		there[k] = true
		if err = m.show(ctx, e, f.KeyInfo, k); err != nil {
			break
		}
	}
	if errors.Is(err, errDisagrees) {
		if !m.excluded.Swap(true) {
			g.metrics.serving.WithLabelValues(m.Name).Set(0)
		}
		g.metrics.excluded.WithLabelValues(m.Name).Set(1)
		g.log.Error("hsm: MEMBER OF THE GROUP IS EXCLUDED: it holds another key than the group under one name; compare its token with the others",
			slog.String("member", m.Name), slog.Any("cause", err))
		return nil, err
	}
	if err != nil {
		m.out(err)
		return nil, err
	}
	m.has.Range(func(k, _ any) bool {
		if !there[k.(Key)] {
			m.has.Delete(k)
		}
		return true
	})
	m.lacks.Store(g.lackedBy(there))
	g.metrics.lacks.WithLabelValues(m.Name).Set(float64(m.lacks.Load()))
	g.metrics.excluded.WithLabelValues(m.Name).Set(0)
	g.metrics.serving.WithLabelValues(m.Name).Set(1)
	if m.excluded.Swap(false) {
		g.log.Info("hsm: member of the group serves", slog.String("member", m.Name), slog.Int("keys", len(there)), slog.Int64("lacks", m.lacks.Load()))
	}
	m.well()
	return found, nil
}

// learn takes in a key that was just found or made at the member.
func (m *member) learn(ctx context.Context, e Engine, info KeyInfo) error {
	if err := m.show(ctx, e, info, info.Key()); err != nil {
		return err
	}
	for _, other := range m.group.members {
		if other != m {
			other.lacks.Add(1) // to be looked at
		}
	}
	return nil
}

// show makes the member prove that its key is the agreed one, or makes it agreed.
func (m *member) show(ctx context.Context, e Engine, info KeyInfo, k Key) error {
	if _, ok := m.has.Load(k); ok {
		return nil
	}
	g := m.group
	a := g.knows(info.Ref)
	if a == nil {
		proof, err := prove(ctx, e, info, k)
		if err != nil {
			return err
		}
		a = g.agree(agreement{info: info, key: k, proof: proof})
	}
	if a.key != k {
		return fmt.Errorf("hsm: %w: %s", errDisagrees, info.Ref)
	}
	if err := a.check(ctx, e); err != nil {
		return err
	}
	m.has.Store(k, struct{}{})
	return nil
}

func (m *member) forget(ref Ref) {
	m.has.Range(func(k, _ any) bool {
		if k.(Key).Ref == ref {
			m.has.Delete(k)
		}
		return true
	})
}

// agreement is one key of the group.
type agreement struct {
	info  KeyInfo
	key   Key
	proof []byte // of a secret key: what only it can have made
}

// What is authenticated and sealed for proofs; neither is ever used otherwise.
var (
	proofText = []byte("signet: one key of a group of tokens")
	proofAAD  = []byte("signet/group/1")
)

// prove makes the proof of a secret key; key pairs have their Print.
func prove(ctx context.Context, e Engine, info KeyInfo, k Key) ([]byte, error) {
	switch info.Algorithm {
	case HMACSHA256:
		return e.MAC(ctx, k, nil, proofText)
	case AES256:
		return e.Seal(ctx, k, nil, proofText, proofAAD)
	}
	return nil, nil
}

// check has another token repeat or open the proof.
func (a *agreement) check(ctx context.Context, e Engine) error {
	var got, want []byte
	var err error
	switch a.info.Algorithm {
	case HMACSHA256:
		want = a.proof
		got, err = e.MAC(ctx, a.key, nil, proofText)
	case AES256:
		want = proofText
		got, err = e.Unseal(ctx, a.key, nil, a.proof, proofAAD)
	default:
		return nil
	}
	if errors.Is(err, ErrTag) || err == nil && string(got) != string(want) {
		return fmt.Errorf("hsm: %w: %s", errDisagrees, a.info.Ref)
	}
	return err
}

// knows returns what is agreed about a reference; nil is nothing.
func (g *group) knows(ref Ref) *agreement {
	g.mu.Lock()
	defer g.mu.Unlock()
	if a, ok := g.agreed[ref]; ok {
		return &a
	}
	return nil
}

// agree records a key unless another member was first.
func (g *group) agree(a agreement) *agreement {
	g.mu.Lock()
	defer g.mu.Unlock()
	if first, ok := g.agreed[a.info.Ref]; ok {
		return &first
	}
	g.agreed[a.info.Ref] = a
	return &a
}

func (g *group) lackedBy(there map[Key]bool) (n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, a := range g.agreed {
		if !there[a.key] {
			n++
		}
	}
	return n
}

// forgetBut drops what no member has any more; only when all were asked.
func (g *group) forgetBut(there map[Ref]bool, all bool) {
	if !all {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for ref := range g.agreed {
		if !there[ref] {
			delete(g.agreed, ref)
		}
	}
}

// groupMetrics by member.
type groupMetrics struct {
	registered
	serving, excluded, lacks *prometheus.GaugeVec
	failovers                prometheus.Counter
}

func newGroupMetrics(reg prometheus.Registerer) (*groupMetrics, error) {
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"member"})
	}
	m := &groupMetrics{
		serving:  gauge("signet_hsm_member_serving", "1 while the member of the failover group serves."),
		excluded: gauge("signet_hsm_member_excluded", "1 while the member holds another key than the group under one name."),
		lacks:    gauge("signet_hsm_member_keys_missing", "Keys of the group that the member lacks."),
		failovers: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signet_hsm_failovers_total", Help: "Calls that another member of the failover group had to do.",
		}),
	}
	return m, m.register(reg, "", m.serving, m.excluded, m.lacks, m.failovers)
}
