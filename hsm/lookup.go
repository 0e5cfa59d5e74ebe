package hsm

import (
	"context"
	"fmt"

	p11 "github.com/miekg/pkcs11"
)

// Lookup finds a key. The index answers without a call to the module; a miss
// costs one search, because another node may have made the key.
func (t *Token) Lookup(ctx context.Context, ref Ref) (KeyInfo, error) {
	e, err := t.entry(ctx, ref)
	if err != nil {
		return KeyInfo{}, err
	}
	return e.info, nil
}

// Keys enumerates the token anew and returns the usable keys that match (nil =
// all), in no order. It is linear in the objects of the token: not for requests.
func (t *Token) Keys(ctx context.Context, match func(Ref) bool) ([]KeyInfo, error) {
	if err := t.refresh(ctx); err != nil {
		return nil, err
	}
	t.index.RLock()
	defer t.index.RUnlock()
	var list []KeyInfo
	for r, e := range t.index.keys {
		if e.bad == nil && (match == nil || match(r)) {
			list = append(list, e.info)
		}
	}
	return list, nil
}

// entry returns a usable key.
func (t *Token) entry(ctx context.Context, ref Ref) (*entry, error) {
	if e := t.index.get(ref); e != nil && e.bad == nil {
		return e, nil
	}
	// Not known, or bad when it was last seen, which may have been put right.
	e, err := t.fetch(ctx, ref)
	if err != nil {
		return nil, err
	}
	if e.bad != nil {
		return nil, fmt.Errorf("hsm: %w", e.bad)
	}
	return e, nil
}

// fetch searches the token for one key and records what it finds.
func (t *Token) fetch(ctx context.Context, ref Ref) (*entry, error) {
	if err := ref.Validate(); err != nil {
		return nil, err
	}
	var found *entry
	err := t.do(ctx, call{mechanism: "find", run: func(s p11.SessionHandle, _ located) (err error) {
		if found, err = t.search(s, ref, t.slot.epoch.Load()); err == nil && found.bad == nil {
			found.bad, err = t.idTaken(s, found)
		}
		return err
	}})
	if err != nil {
		return nil, err
	}
	return t.index.put(found), nil
}

// idTaken returns ErrAmbiguous when another object has the key's id.
func (t *Token) idTaken(s p11.SessionHandle, e *entry) (bad, err error) {
	objects, err := t.objects(s, []*p11.Attribute{p11.NewAttribute(p11.CKA_ID, e.info.ID[:])})
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

// wrongRole refuses a handle that the key's role has no right to.
func wrongRole(ref Ref, what string) error {
	return fmt.Errorf("hsm: %w: role %s is not for %s", ErrUnsupported, ref.Role, what)
}
