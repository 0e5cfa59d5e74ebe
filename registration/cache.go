package registration

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/google/uuid"

	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// cache holds what verifications need of ACTIVE registrations, row and keys, so
// that one needs a single round trip: the one that stores its verdict. It is not
// kept in step with other nodes and need not be: a verdict made from an old row
// loses its compare-and-swap on the revision, which every change counts up, is
// never answered, and is made again from the database. Rows that are not ACTIVE are
// not held: their verdicts change nothing, so no swap would find them out.
//
// Its bound is in bytes. What has not been asked for since the hand last came by
// makes room (the clock algorithm), and is overwritten then: keys do not outlive
// their place. Nothing of a place is ever handed out but copied under the lock of
// its shard, so nobody can hold on to it.
type cache struct {
	shards  [cacheShards]cacheShard
	limit   int           // bytes of a shard
	erased  atomic.Uint64 // how often all, or all of a tenant, was forgotten
	metrics *metrics
}

type keyID struct {
	tenant tenant.ID
	id     uuid.UUID
}

const (
	cacheShards = 64
	placeChunk  = 32 // places are made that many at a time, and never moved
)

type cacheShard struct {
	mu     sync.Mutex
	byID   map[uuid.UUID]uint32 // ids are unique over all tenants
	places []*[placeChunk]place
	free   []uint32
	n      uint32 // places in use or free
	hand   uint32
	bytes  int
}

// place is one registration. flags and the texts are shared with nobody who
// changes them.
type place struct {
	id        uuid.UUID
	asked     bool // since the hand came by
	tenant    tenant.ID
	app, user string
	flags     []string
	seal      uint64
	ctr       signature.Counter
	counter   int64
	revision  int64
	failed    int32
	failedPos int32
	max       int32
	keys      signature.Keys
}

// indexBytes is what the map costs for each entry: 20 bytes of key and value and
// one of control, in tables that are between half and seven eighths full.
const indexBytes = 40

func (p *place) bytes() int {
	n := int(unsafe.Sizeof(*p)) + indexBytes + len(p.app) + len(p.user)
	for _, f := range p.flags {
		n += int(unsafe.Sizeof(f)) + len(f)
	}
	return n
}

func newCache(bytes int64, m *metrics) *cache {
	c := &cache{limit: int(bytes / cacheShards), metrics: m}
	for i := range c.shards {
		c.shards[i].byID = map[uuid.UUID]uint32{}
	}
	return c
}

func (c *cache) shard(id uuid.UUID) *cacheShard { return &c.shards[id[15]%cacheShards] }

func (s *cacheShard) at(i uint32) *place { return &s.places[i/placeChunk][i%placeChunk] }

func (s *cacheShard) find(id uuid.UUID) (*place, uint32) {
	i, ok := s.byID[id]
	if !ok {
		return nil, 0
	}
	return s.at(i), i
}

// get copies what is held of a registration of the tenant to h and keys.
func (c *cache) get(t tenant.ID, id uuid.UUID, h *hot, keys *signature.Keys) bool {
	s := c.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	p, _ := s.find(id)
	if p == nil || p.tenant != t {
		return false
	}
	p.asked = true
	*h = hot{
		standing: standing{
			state: StateActive, ctr: p.ctr, counter: p.counter,
			failed: int(p.failed), failedPossession: int(p.failedPos), max: int(p.max),
		},
		tenant: t, id: id, found: true, app: p.app, user: p.user, flags: p.flags, seal: p.seal, revision: p.revision,
	}
	*keys = p.keys
	return true
}

// keysOf copies the keys that were opened from a blob with the seal.
func (c *cache) keysOf(t tenant.ID, id uuid.UUID, seal uint64, keys *signature.Keys) bool {
	s := c.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	p, _ := s.find(id)
	if p == nil || p.tenant != t || p.seal != seal {
		return false
	}
	p.asked = true
	*keys = p.keys
	return true
}

// moved notes what a verdict has made of a registration that is held; what is
// newer stays.
func (c *cache) moved(h *hot) {
	s := c.shard(h.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, _ := s.find(h.id); p != nil && p.revision < h.revision && p.tenant == h.tenant {
		p.move(h)
	}
}

func (p *place) move(h *hot) {
	p.ctr, p.counter, p.revision = h.ctr, h.counter, h.revision
	p.failed, p.failedPos, p.max = int32(h.failed), int32(h.failedPossession), int32(h.max)
}

// put holds an ACTIVE registration with its keys, unless something newer is there,
// or forgetAll ran since erased was read: this may be what it was about.
func (c *cache) put(h *hot, keys *signature.Keys, erased uint64) {
	s := c.shard(h.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.erased.Load() != erased {
		return
	}
	p, i := s.find(h.id)
	if p != nil {
		if p.revision >= h.revision {
			return
		}
		c.forget(s, p, i)
	}
	fresh := place{
		id: h.id, tenant: h.tenant, app: h.app, user: h.user, flags: h.flags, seal: h.seal, keys: *keys,
	}
	fresh.move(h)
	defer fresh.keys.Wipe()
	need := fresh.bytes()
	if need > c.limit {
		return
	}
	for s.bytes+need > c.limit {
		c.evict(s)
	}
	i = s.room()
	*s.at(i) = fresh
	s.byID[h.id] = i
	s.bytes += need
	c.metrics.cacheBytes.Add(float64(need))
}

// room is a place without a registration.
func (s *cacheShard) room() uint32 {
	if n := len(s.free); n > 0 {
		i := s.free[n-1]
		s.free = s.free[:n-1]
		return i
	}
	if int(s.n) == len(s.places)*placeChunk {
		s.places = append(s.places, new([placeChunk]place))
	}
	s.n++
	return s.n - 1
}

// evict forgets the first registration from the hand on that nobody asked for
// since it came by. There is one: the caller has counted bytes.
func (c *cache) evict(s *cacheShard) {
	for {
		i := s.hand
		s.hand = (s.hand + 1) % s.n
		p := s.at(i)
		switch {
		case p.revision == 0: // free
		case p.asked:
			p.asked = false
		default:
			c.metrics.evictions.Inc()
			c.forget(s, p, i)
			return
		}
	}
}

// forget overwrites a place, its keys with it.
func (c *cache) forget(s *cacheShard, p *place, i uint32) {
	n := p.bytes()
	s.bytes -= n
	c.metrics.cacheBytes.Sub(float64(n))
	delete(s.byID, p.id)
	*p = place{}
	s.free = append(s.free, i)
}

// drop forgets a registration that was found changed since it was read at
// revision; what is newer than that stays.
func (c *cache) drop(id uuid.UUID, revision int64) {
	s := c.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, i := s.find(id); p != nil && p.revision <= revision {
		c.forget(s, p, i)
	}
}

// clear forgets everything: what it says is of a time that did not happen.
func (c *cache) clear() { c.forgetAll(func(*place) bool { return true }) }

// forgetTenant forgets all of a tenant.
func (c *cache) forgetTenant(t tenant.ID) { c.forgetAll(func(p *place) bool { return p.tenant == t }) }

// forgetAll forgets whom of says. What was read before and is not put yet is not
// held either.
func (c *cache) forgetAll(of func(*place) bool) {
	c.erased.Add(1)
	for k := range c.shards {
		s := &c.shards[k]
		s.mu.Lock()
		for i := range s.n {
			if p := s.at(i); p.revision != 0 && of(p) {
				c.forget(s, p, i)
			}
		}
		s.mu.Unlock()
	}
}

// Forget drops what is held of a tenant's registrations, whose secrets can not be
// opened any more. A verification that has begun ends as it would have.
func (r *Registrar) Forget(t tenant.ID) { r.cache.forgetTenant(t) }

// sealOf tells one sealed blob from another: the end of its authentication tag.
func sealOf(blob []byte) uint64 {
	if len(blob) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(blob[len(blob)-8:])
}

// keysOf returns the key tree of a registration: from the cache, else unsealed
// and derived (AES only, no ECDH and no HSM).
func (r *Registrar) keysOf(ctx context.Context, t tenant.ID, id uuid.UUID, sealed []byte) (*signature.Keys, error) {
	keys := new(signature.Keys)
	if r.cache.keysOf(t, id, sealOf(sealed), keys) {
		r.metrics.keyHits.Inc()
		return keys, nil
	}
	r.metrics.keyMiss.Inc()
	master, err := r.envelope.Open(ctx, masterField(t, id), sealed)
	if err != nil {
		return nil, err
	}
	defer master.Wipe()
	if master.Len() != 16 {
		return nil, fmt.Errorf("%w: master secret", errStored)
	}
	return signature.DeriveKeys([16]byte(master.Reveal())), nil
}
