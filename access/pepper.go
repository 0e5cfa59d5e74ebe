package access

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/singleflight"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/tenant"
)

// pepperVersion is the version that new MACs are made with. Rows name theirs, so
// that a later version can be brought in beside it.
const pepperVersion = 1

// pepper unwraps each version once per process.
type pepper struct {
	db     DB
	sealer Sealer
	now    func() time.Time
	opens  singleflight.Group

	mu   sync.Mutex // guards keys
	keys map[int]secret.Bytes
}

func (p *pepper) version(ctx context.Context, v int) (secret.Bytes, error) {
	p.mu.Lock()
	k, ok := p.keys[v]
	p.mu.Unlock()
	if ok {
		return k, nil
	}
	return shared(ctx, &p.opens, strconv.Itoa(v), func(ctx context.Context) (secret.Bytes, error) {
		k, err := p.open(ctx, v)
		if err != nil {
			return secret.Bytes{}, fmt.Errorf("pepper %d: %w", v, err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.keys == nil {
			p.keys = map[int]secret.Bytes{}
		}
		p.keys[v] = k
		return k, nil
	})
}

// open reads and unwraps a version. The first is made when it is first wanted; of
// two nodes doing so at once, one wins and both read its row.
func (p *pepper) open(ctx context.Context, v int) (secret.Bytes, error) {
	field := envelope.Field{Tenant: tenant.System, Table: "access_pepper", Column: "sealed", Row: strconv.Itoa(v)}
	sealed, err := p.read(ctx, v)
	if errors.Is(err, pgx.ErrNoRows) && v == pepperVersion {
		if err = p.create(ctx, field, v); err == nil {
			sealed, err = p.read(ctx, v)
		}
	}
	if err != nil {
		return secret.Bytes{}, pg.Unavailable(err)
	}
	return p.sealer.Open(ctx, field, sealed)
}

func (p *pepper) read(ctx context.Context, v int) (sealed []byte, err error) {
	err = p.db.QueryRow(ctx, sqlPepper, tenant.System.String(), v).Scan(&sealed)
	return sealed, err
}

func (p *pepper) create(ctx context.Context, f envelope.Field, v int) error {
	raw := random32()
	defer clear(raw)
	sealed, err := p.sealer.Seal(ctx, f, raw)
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	if _, err := p.db.Exec(ctx, sqlPepperCreate, tenant.System.String(), v, sealed, p.now()); err != nil {
		return fmt.Errorf("store: %w: %w", fault.ErrUnavailable, err)
	}
	return nil
}
