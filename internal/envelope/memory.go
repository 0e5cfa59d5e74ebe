package envelope

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// ask makes Seal ask anew which DEKs of a tenant are PRIMARY.
func (k *Keyring) ask(t tenant.ID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for p := range k.current {
		if p.tenant == t {
			delete(k.current, p)
		}
	}
}

// refresh forgets the DEKs in memory that are no longer in the database, and
// tells which tenants have lost one: an erased tenant is to be erased here too.
func (k *Keyring) refresh(ctx context.Context, forgotten func(tenant.ID)) error {
	k.mu.RLock()
	tenants, versions := make([]string, 0, len(k.deks)), make([]int32, 0, len(k.deks))
	for id := range k.deks {
		tenants, versions = append(tenants, id.tenant.String()), append(versions, int32(id.version))
	}
	k.mu.RUnlock()
	if len(tenants) == 0 {
		return nil
	}
	rows, err := k.db.Query(ctx, sqlGone, tenants, versions)
	if err != nil {
		return pg.Unavailable(fmt.Errorf("envelope: read data keys: %w", err))
	}
	var (
		name    string
		version int32
		gone    []dekID
	)
	if _, err := pgx.ForEachRow(rows, []any{&name, &version}, func() error {
		t, err := tenant.Stored(name)
		gone = append(gone, dekID{t, uint32(version)})
		return err
	}); err != nil {
		return pg.Unavailable(fmt.Errorf("envelope: read data keys: %w", err))
	}
	lost := map[tenant.ID]bool{}
	for _, id := range gone {
		k.forget(id)
		lost[id.tenant] = true
	}
	for t := range lost {
		if forgotten != nil {
			forgotten(t)
		}
	}
	return nil
}

// forget drops a DEK. Who uses it at this moment still holds it; it is wiped by
// the garbage collector's turn, not under their hands.
func (k *Keyring) forget(id dekID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.deks, id)
	for p, c := range k.current {
		if p.tenant == id.tenant && c.version == id.version {
			delete(k.current, p)
		}
	}
	k.metrics.cached.Set(float64(len(k.deks)))
}
