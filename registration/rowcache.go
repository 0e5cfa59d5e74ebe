package registration

import "github.com/maypok86/otter/v2"

// rowCache holds what verifications read of ACTIVE registrations, so that one
// needs a single round trip: the one that stores its verdict. It is not kept in
// step with other nodes and need not be: a verdict made from an old row loses its
// compare-and-swap on the revision, which every change counts up, is never
// answered, and is made again from the database. Rows that are not ACTIVE are
// not held: their verdicts change nothing, so no swap would find them out.
type rowCache struct {
	cache *otter.Cache[keyID, *hot]
}

func newRowCache(size int) *rowCache {
	return &rowCache{otter.Must(&otter.Options[keyID, *hot]{MaximumSize: size})}
}

func (c *rowCache) get(k keyID) *hot {
	h, _ := c.cache.GetIfPresent(k)
	return h
}

// set holds h, which nobody changes from then on, unless something newer is there.
func (c *rowCache) set(h *hot) {
	if !h.found || h.state != StateActive {
		return
	}
	c.cache.Compute(keyID{h.tenant, h.id}, func(old *hot, found bool) (*hot, otter.ComputeOp) {
		if found && old.revision >= h.revision {
			return old, otter.CancelOp
		}
		return h, otter.WriteOp
	})
}

// clear forgets everything: what it says is of a time that did not happen.
func (c *rowCache) clear() { c.cache.InvalidateAll() }

// drop forgets a registration that was found changed since it was read at
// revision; what is newer than that stays.
func (c *rowCache) drop(k keyID, revision int64) {
	c.cache.ComputeIfPresent(k, func(old *hot) (*hot, otter.ComputeOp) {
		if old.revision > revision {
			return old, otter.CancelOp
		}
		return nil, otter.InvalidateOp
	})
}
