package app

import (
	"errors"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"
)

type bounds struct {
	size int
	ttl  time.Duration
	now  func() time.Time
	hits *prometheus.CounterVec
}

// memo remembers what a query answered, "not found" too, for a short time. The
// age is checked at the read: the cache library's own expiry would start a
// goroutine, and a clock of ours could not drive it. Concurrent misses of one
// key each ask the database: a caller is then bound to no other caller's context.
type memo[K comparable, V any] struct {
	bounds
	cache     *otter.Cache[K, entry[V]]
	hit, miss prometheus.Counter
}

type entry[V any] struct {
	value V
	err   error // nil or one that wraps ErrNotFound
	at    time.Time
}

func newMemo[K comparable, V any](name string, b bounds) *memo[K, V] {
	return &memo[K, V]{
		bounds: b,
		cache:  otter.Must(&otter.Options[K, entry[V]]{MaximumSize: b.size}),
		hit:    b.hits.WithLabelValues(name, "hit"),
		miss:   b.hits.WithLabelValues(name, "miss"),
	}
}

func (m *memo[K, V]) get(k K, load func() (V, error)) (V, error) {
	now := m.now()
	if e, ok := m.cache.GetIfPresent(k); ok && now.Sub(e.at) < m.ttl {
		m.hit.Inc()
		return e.value, e.err
	}
	m.miss.Inc()
	v, err := load()
	if err == nil || errors.Is(err, ErrNotFound) {
		m.cache.Set(k, entry[V]{v, err, now})
	}
	return v, err
}

// forget drops k, so that this process sees its own change at once.
func (m *memo[K, V]) forget(k K) { m.cache.Invalidate(k) }
