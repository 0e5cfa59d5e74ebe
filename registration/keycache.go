package registration

import (
	"bytes"
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/maypok86/otter/v2"

	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// keyCache holds the key trees of hot registrations. An entry remembers the blob
// it was opened from and serves only that: it needs no invalidation, and a row
// that was changed or sealed anew is opened anew. Evicted keys are left to the
// garbage collector, since a verification may still be using them.
type keyCache struct {
	cache   *otter.Cache[keyID, *openKeys]
	metrics *metrics
}

type keyID struct {
	tenant tenant.ID
	id     uuid.UUID
}

type openKeys struct {
	sealed []byte
	keys   *signature.Keys
}

func newKeyCache(size int, m *metrics) *keyCache {
	return &keyCache{otter.Must(&otter.Options[keyID, *openKeys]{MaximumSize: size}), m}
}

// keysOf returns the key tree of a registration: from the cache, else unsealed
// and derived (AES only, no ECDH and no HSM).
func (r *Registrar) keysOf(ctx context.Context, t tenant.ID, id uuid.UUID, sealed []byte) (*signature.Keys, error) {
	k := keyID{t, id}
	if e, ok := r.keys.cache.GetIfPresent(k); ok && bytes.Equal(e.sealed, sealed) {
		r.metrics.keyHits.Inc()
		return e.keys, nil
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
	keys := signature.DeriveKeys([16]byte(master.Reveal()))
	r.keys.cache.Set(k, &openKeys{sealed, keys})
	return keys, nil
}
