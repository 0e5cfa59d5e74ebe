package registration

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

var cacheTenant = tenant.MustParse("alpha")

// cached is registration i at a revision; its keys follow from i.
func cached(i uint32, revision int64) (*hot, *signature.Keys) {
	var id uuid.UUID
	binary.BigEndian.PutUint32(id[12:], i)
	binary.BigEndian.PutUint32(id[:], i*2654435761)
	return &hot{
		standing: standing{state: StateActive, counter: revision, max: 5},
		tenant:   cacheTenant, id: id, found: true, app: "APP", user: fmt.Sprintf("%036d", i), revision: revision,
		seal: uint64(i), flags: []string{},
	}, signature.DeriveKeys([16]byte(id))
}

func testCache(tb testing.TB, bytes int64) *cache {
	m, err := newMetrics(nil)
	require.NoError(tb, err)
	return newCache(bytes, m)
}

// hold puts registration i at a revision.
func hold(c *cache, i uint32, revision int64) {
	h, keys := cached(i, revision)
	c.put(h, keys, c.erased.Load())
}

func (c *cache) total() (bytes, entries int) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		bytes += s.bytes
		entries += len(s.byID)
		s.mu.Unlock()
	}
	return bytes, entries
}

func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// fill puts n registrations with users of 36 characters into a cache and returns
// what each takes of the heap, and by the cache's own count.
func fill(tb testing.TB, n int) (c *cache, perEntry, counted float64) {
	before := heap()
	c = testCache(tb, 1<<40)
	for i := range n {
		hold(c, uint32(i), 1)
	}
	after := heap()
	bytes, entries := c.total()
	require.Equal(tb, n, entries)
	return c, float64(after-before) / float64(n), float64(bytes) / float64(n)
}

func TestACachedRegistrationTakesAtMost512Bytes(t *testing.T) {
	c, perEntry, counted := fill(t, 30_000)
	t.Logf("%.0f bytes of the heap, %.0f counted", perEntry, counted)
	require.LessOrEqual(t, perEntry, 512.0)
	require.InEpsilon(t, perEntry, counted, 0.15, "the bound is kept in what it says it counts")
	runtime.KeepAlive(c)
}

func BenchmarkCacheBytes(b *testing.B) {
	for range b.N {
		c, perEntry, _ := fill(b, 1_000_000)
		b.ReportMetric(perEntry, "B/registration")
		runtime.KeepAlive(c)
	}
}

func BenchmarkCacheGet(b *testing.B) {
	c, _, _ := fill(b, 100_000)
	var h hot
	var keys signature.Keys
	ids := make([]uuid.UUID, 1000)
	for i := range ids {
		r, _ := cached(uint32(i*97), 1)
		ids[i] = r.id
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if !c.get(cacheTenant, ids[i%len(ids)], &h, &keys) {
			b.Fatal("a miss")
		}
	}
}

func TestCacheKeepsItsBoundAndWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	c := testCache(t, limit)
	var h hot
	var keys signature.Keys
	loved, _ := cached(7, 1)
	hold(c, 7, 1)
	for i := range uint32(6_000) {
		hold(c, 1000+i, 1)
		if i%8 == 0 {
			require.True(t, c.get(cacheTenant, loved.id, &h, &keys), "after %d others", i)
		}
	}
	bytes, entries := c.total()
	require.LessOrEqual(t, bytes, limit)
	require.Greater(t, bytes, limit*8/10)
	require.Greater(t, entries, 1000)

	// What made room left nothing behind.
	used, cleared := 0, 0
	for i := range c.shards {
		s := &c.shards[i]
		for k := range s.n {
			p := s.at(k)
			if p.revision == 0 {
				require.Equal(t, place{}, *p)
				cleared++
			} else {
				used++
			}
		}
		require.Less(t, len(s.places)*placeChunk, 3*len(s.byID)+placeChunk, "places are used again")
	}
	require.Equal(t, entries, used)
	c.drop(loved.id, 1)
	require.False(t, c.get(cacheTenant, loved.id, &h, &keys))

	none := testCache(t, 1) // smaller than any
	hold(none, 1, 1)
	_, entries = none.total()
	require.Zero(t, entries)
}

func TestCacheNeverGoesBack(t *testing.T) {
	t.Parallel()
	c := testCache(t, 1<<20)
	at := func(i uint32) int64 {
		var h hot
		var keys signature.Keys
		r, want := cached(i, 1)
		if !c.get(cacheTenant, r.id, &h, &keys) {
			return 0
		}
		require.Equal(t, want.TransportKey(), keys.TransportKey())
		require.Equal(t, r.user, h.user)
		require.Equal(t, h.revision, h.counter)
		return h.revision
	}
	moved := func(i uint32, revision int64) { h, _ := cached(i, revision); c.moved(h) }
	moved(1, 5)
	require.Zero(t, at(1), "what is not held is not made by a verdict")
	hold(c, 1, 5)
	hold(c, 1, 4)
	moved(1, 3)
	require.EqualValues(t, 5, at(1))
	moved(1, 6)
	require.EqualValues(t, 6, at(1))
	hold(c, 1, 9)
	require.EqualValues(t, 9, at(1))
	h, _ := cached(1, 0)
	c.drop(h.id, 8)
	require.EqualValues(t, 9, at(1), "found changed at an older one")
	require.False(t, c.get(tenant.MustParse("beta"), h.id, h, new(signature.Keys)))
	var keys signature.Keys
	require.True(t, c.keysOf(cacheTenant, h.id, 1, &keys))
	require.False(t, c.keysOf(cacheTenant, h.id, 2, &keys), "opened from another blob")
	c.drop(h.id, 9)
	require.Zero(t, at(1))
}

// What is forgotten is overwritten, is not held again by who had opened it before,
// and only that tenant's.
func TestCacheForgetsATenant(t *testing.T) {
	t.Parallel()
	c := testCache(t, 1<<20)
	beta := tenant.MustParse("beta")
	for i := range uint32(400) {
		h, keys := cached(i, 1)
		if i%4 == 0 {
			h.tenant = beta
		}
		c.put(h, keys, 0)
	}
	before := c.erased.Load()
	c.forgetTenant(cacheTenant)
	_, entries := c.total()
	require.Equal(t, 100, entries)
	h, keys := cached(1, 2)
	require.False(t, c.get(cacheTenant, h.id, new(hot), new(signature.Keys)))
	c.put(h, keys, before)
	require.False(t, c.get(cacheTenant, h.id, new(hot), new(signature.Keys)), "opened before")
	hold(c, 1, 2)
	require.True(t, c.get(cacheTenant, h.id, new(hot), new(signature.Keys)))
	for i := range c.shards {
		s := &c.shards[i]
		for k := range s.n {
			if p := s.at(k); p.revision == 0 {
				require.Equal(t, place{}, *p)
			}
		}
	}
}

// Readers never see half of an entry, whatever is evicted and changed meanwhile.
func TestCacheUnderContention(t *testing.T) {
	t.Parallel()
	c := testCache(t, 64*3*600) // three places in a shard
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			var h hot
			var keys signature.Keys
			for n := range uint32(3000) {
				i := (n*31 + uint32(g)*7) % 700
				r, want := cached(i, int64(n)+1)
				switch n % 4 {
				case 0:
					c.put(r, want, 0)
				case 1:
					c.moved(r)
				case 2:
					c.drop(r.id, int64(n)-100)
				}
				if c.get(cacheTenant, r.id, &h, &keys) && (h.user != r.user || h.counter != h.revision || keys.TransportKey() != want.TransportKey()) {
					t.Errorf("registration %d is mixed up", i)
					return
				}
			}
		})
	}
	wg.Wait()
	bytes, _ := c.total()
	require.LessOrEqual(t, bytes, 64*3*600)
}
