package hsm

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	p11 "github.com/miekg/pkcs11"
)

// entry is one key as it was found. Handles outlive neither a login nor a
// module; everything else is fixed for the life of the key.
type entry struct {
	info  KeyInfo
	print [sha256.Size]byte // of the public key, as in Key
	// copyable: session copies may be made of it, see copyOf.
	copyable atomic.Bool
	bad      error // ErrAmbiguous, ErrTemplate or ErrKeyNotFound (half a pair): not usable

	at     [maxInstances]atomic.Pointer[located] // by the instance's place
	finder sync.Mutex                            // one caller looks the handles up, the others wait for it
}

// located is where a key is within one login of one instance.
type located struct {
	slot            *slot
	epoch           uint64
	private, public p11.ObjectHandle // public is 0 for secret keys
}

// index maps references to keys. Finding an object is linear in the number of
// objects on every module we know (23 us each on SoftHSM), so it is done once.
type index struct {
	sync.RWMutex
	keys map[Ref]*entry
}

func (x *index) get(r Ref) *entry {
	x.RLock()
	defer x.RUnlock()
	return x.keys[r]
}

// put records e, or returns the entry that is there when it is the same key:
// its holders share one set of handles.
func (x *index) put(e *entry) *entry {
	x.Lock()
	defer x.Unlock()
	if old := x.keys[e.info.Ref]; old != nil && old.same(e) {
		old.take(e)
		return old
	}
	x.keys[e.info.Ref] = e
	return e
}

// forget drops e, unless another key took its place. Its holders must look again:
// the numbers of its handles may go to another key.
func (x *index) forget(e *entry) {
	for i := range e.at {
		e.at[i].Store(nil)
	}
	x.Lock()
	defer x.Unlock()
	if x.keys[e.info.Ref] == e {
		delete(x.keys, e.info.Ref)
	}
}

// take takes over where the same key was found.
func (e *entry) take(o *entry) {
	for i := range o.at {
		if at := o.at[i].Load(); at != nil {
			e.at[i].Store(at)
		}
	}
}

func (e *entry) same(o *entry) bool {
	return e.bad == nil && o.bad == nil && e.info.ID == o.info.ID &&
		e.info.Algorithm == o.info.Algorithm && samePublic(e.info.Public, o.info.Public)
}

// locate returns the key's handles in this login of the lane's instance, looking
// them up when the login is a new one. What is found must be the key that was
// indexed.
func (t *local) locate(l *lane, e *entry, epoch uint64) (located, error) {
	in := l.inst
	if at := e.at[in.place].Load(); at != nil && at.epoch == epoch && at.slot == in.slot {
		return *at, nil
	}
	e.finder.Lock()
	defer e.finder.Unlock()
	if at := e.at[in.place].Load(); at != nil && at.epoch == epoch && at.slot == in.slot {
		return *at, nil
	}
	fresh, err := in.search(l.session, e.info.Ref, epoch)
	if err != nil {
		return located{}, err
	}
	if fresh.bad != nil {
		return located{}, fresh.bad
	}
	if !e.same(fresh) {
		return located{}, errOtherKey
	}
	at := fresh.at[in.place].Load()
	e.at[in.place].Store(at)
	return *at, nil
}

// entry returns the indexed key that k names, or fetches it.
func (t *local) entry(ctx context.Context, k Key) (*entry, error) {
	if e := t.index.get(k.Ref); e != nil && e.bad == nil && e.info.ID == k.ID && e.print == k.Print {
		return e, nil
	}
	e, err := t.fetch(ctx, k.Ref)
	switch {
	case err != nil:
		return nil, err
	case e.bad != nil:
		return nil, fmt.Errorf("hsm: %w", e.bad)
	case e.info.ID != k.ID || e.print != k.Print:
		return nil, errOtherKey
	}
	return e, nil
}

var errOtherKey = fmt.Errorf("hsm: %w: another key has its label now", ErrKeyNotFound)

// fetch searches the token for one key and records what it finds.
func (t *local) fetch(ctx context.Context, ref Ref) (*entry, error) {
	if err := ref.Validate(); err != nil {
		return nil, err
	}
	_, found, err := t.do(ctx, &call{op: OpFind, run: func(l *lane) (any, error) {
		e, err := l.inst.search(l.session, ref, l.inst.slot.epoch.Load())
		if err == nil && e.bad == nil {
			e.bad, err = l.inst.idTaken(l.session, e)
		}
		return e, err
	}}, nil)
	if err != nil {
		return nil, err
	}
	return t.index.put(found.(*entry)), nil
}

// idTaken returns ErrAmbiguous when another object has the key's id.
func (in *instance) idTaken(s p11.SessionHandle, e *entry) (bad, err error) {
	objects, err := in.objects(s, []*p11.Attribute{p11.NewAttribute(p11.CKA_ID, e.info.ID[:])})
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		if o.ref != e.info.Ref {
			return fmt.Errorf("%w: %s and %s have one id", ErrAmbiguous, e.info.Ref, o.ref), nil
		}
	}
	return nil, nil
}

// search looks for one reference by label.
func (in *instance) search(s p11.SessionHandle, r Ref, epoch uint64) (*entry, error) {
	objects, err := in.objects(s, []*p11.Attribute{p11.NewAttribute(p11.CKA_LABEL, r.String())})
	if err != nil {
		return nil, err
	}
	e := in.pair(r, objects, epoch)
	if e == nil {
		return nil, fmt.Errorf("%w: %s", ErrKeyNotFound, r)
	}
	return e, nil
}

// enumerate reads all our keys. Objects with labels that are not ours are
// nobody's business here.
func (in *instance) enumerate(s p11.SessionHandle) (map[Ref]*entry, error) {
	epoch := in.slot.epoch.Load()
	objects, err := in.objects(s, nil)
	if err != nil {
		return nil, err
	}
	byRef := map[Ref][]object{}
	for _, o := range objects {
		byRef[o.ref] = append(byRef[o.ref], o)
	}
	keys := make(map[Ref]*entry, len(byRef))
	owner := map[[16]byte]*entry{}
	for r, group := range byRef {
		e := in.pair(r, group, epoch)
		if e == nil {
			continue
		}
		keys[r] = e
		if e.bad == nil {
			if other := owner[e.info.ID]; other != nil {
				e.bad = fmt.Errorf("%w: %s and %s have one id", ErrAmbiguous, r, other.info.Ref)
				if other.bad == nil {
					other.bad = e.bad
				}
			} else {
				owner[e.info.ID] = e
			}
		}
		if e.bad != nil {
			in.t.log.Warn("hsm: key is not usable", slog.String("label", r.String()), slog.Any("cause", e.bad))
		}
	}
	return keys, nil
}

// pair makes one key of the objects that carry its label; nil when there are
// none, bad when they do not make exactly one key that fits its role.
func (in *instance) pair(r Ref, objects []object, epoch uint64) *entry {
	if len(objects) == 0 {
		return nil
	}
	e := &entry{info: KeyInfo{Ref: r}}
	var private, public []object
	for _, o := range objects {
		if o.class == p11.CKO_PUBLIC_KEY {
			public = append(public, o)
		} else {
			private = append(private, o)
		}
	}
	switch {
	case len(private) > 1 || len(public) > 1:
		e.bad = fmt.Errorf("%w: %s: %d private or secret, %d public objects", ErrAmbiguous, r, len(private), len(public))
		return e
	case len(private) == 0:
		e.bad = fmt.Errorf("%w: %s: public half only", ErrKeyNotFound, r)
		return e
	}
	key := private[0]
	at := located{slot: in.slot, epoch: epoch, private: key.handle}
	e.info.ID, e.info.Algorithm = key.id, key.algorithm
	switch {
	case key.bad != nil:
		e.bad = key.bad
	case key.class == p11.CKO_SECRET_KEY:
		if len(public) != 0 {
			e.bad = fmt.Errorf("%w: %s: a secret and a public key", ErrAmbiguous, r)
		}
	case len(public) == 0:
		e.bad = fmt.Errorf("%w: %s: private half only", ErrKeyNotFound, r)
	case public[0].bad != nil:
		e.bad = public[0].bad
	case public[0].id != key.id:
		e.bad = fmt.Errorf("%w: %s: the halves have two ids", ErrAmbiguous, r)
	default:
		at.public = public[0].handle
		e.info.Public, e.info.Algorithm = public[0].public, public[0].algorithm
		e.print = e.info.Key().Print
	}
	if e.bad == nil && !roles[r.Role].allows(e.info.Algorithm) {
		e.bad = fmt.Errorf("%w: %s: role does not allow %s", ErrTemplate, r, e.info.Algorithm)
	}
	e.copyable.Store(key.copyable)
	e.at[in.place].Store(&at)
	return e
}

// replace takes over an enumeration, keeping the entries of keys that stayed.
func (x *index) replace(found map[Ref]*entry) {
	x.Lock()
	defer x.Unlock()
	for r, e := range found {
		if old := x.keys[r]; old != nil && old.same(e) {
			old.take(e)
			found[r] = old
		}
	}
	x.keys = found
}
