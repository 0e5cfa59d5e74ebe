package token

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/group"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/rollback"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// DB is what a Keeper needs of a pool.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

var _ DB = (*pgxpool.Pool)(nil)

// Registrations is the part of *registration.Registrar that tokens stand on.
type Registrations interface {
	Authenticate(ctx context.Context, req registration.SignedRequest, uriID string, allowed ...signature.Factor) (registration.Caller, error)
	OpenSigned(ctx context.Context, c registration.Caller, info string, body []byte) (*registration.Opened, error)
	Standing(ctx context.Context, t tenant.ID, id string) (registration.State, []string, error)
}

// Roles tells the roles of an application; *app.Registry does.
type Roles interface {
	Roles(ctx context.Context, t tenant.ID, app string) ([]string, error)
}

// Config makes a Keeper. All up to Audit are required.
type Config struct {
	DB            DB
	Registrations Registrations
	Roles         Roles
	Envelope      *envelope.Keyring
	Audit         *audit.Log

	// Guard keeps verdicts from being made on a database that was set back; nil:
	// nothing does.
	Guard *rollback.Guard

	// MaxTokens is how many tokens one registration may have; 0: 100. An app needs a
	// few, one for each name it gave. No token gives way to a newer one: the phone
	// that holds it would only find out by being refused.
	MaxTokens int
	Cache     int64 // bytes of tokens held ready, with their secrets; 0: DefaultCache
	Now       func() time.Time
	Logger    *slog.Logger
	Metrics   prometheus.Registerer
}

// DefaultCache is room for 80,000 tokens, at about 400 bytes each.
const DefaultCache = 32 << 20

// Validate names the first thing that is wrong.
func (c Config) Validate() error {
	switch {
	case c.DB == nil, c.Registrations == nil, c.Roles == nil, c.Envelope == nil, c.Audit == nil:
		return errors.New("token: DB, Registrations, Roles, Envelope and Audit are required")
	case c.Cache < 0, c.MaxTokens < 0:
		return errors.New("token: Cache and MaxTokens must not be negative")
	}
	return nil
}

// Keeper makes, removes and verifies tokens.
type Keeper struct {
	db            DB
	registrations Registrations
	roles         Roles
	envelope      *envelope.Keyring
	audit         *audit.Log
	guard         *rollback.Guard
	now           func() time.Time
	log           *slog.Logger
	metrics       *metrics
	most          int
	cache         *otter.Cache[key, *held]
	nonces        *group.Group[*spend, spent]
	erased        atomic.Uint64 // how often a tenant was forgotten
}

type key struct {
	tenant tenant.ID
	id     uuid.UUID
}

// held is a token ready for use. Nothing in it ever changes.
type held struct {
	registration uuid.UUID
	app, user    string
	factors      signature.Factor
	secret       secret.Bytes // 16 bytes
}

// weigh is the bytes of an entry: the cache's own node and index, the secret with
// the function that keeps it from being printed, and the rest.
func weigh(_ key, h *held) uint32 {
	const own, sealed = 200, 64
	return uint32(own + sealed + int(unsafe.Sizeof(*h)) + len(h.app) + len(h.user))
}

// Forget drops what is held of a tenant's tokens, whose secrets can not be opened
// any more. A verification that has begun ends as it would have. Evicted secrets
// are left to the garbage collector, since one may still be in use.
func (k *Keeper) Forget(t tenant.ID) {
	k.erased.Add(1)
	for id := range k.cache.Keys() {
		if id.tenant == t {
			k.cache.Invalidate(id)
		}
	}
}

// hold keeps a token ready, unless a tenant was forgotten since erased was read.
func (k *Keeper) hold(id key, h *held, erased uint64) {
	k.cache.Set(id, h)
	if k.erased.Load() != erased {
		k.cache.Invalidate(id)
	}
}

// New makes a Keeper; it does not touch the database.
func New(c Config) (*Keeper, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.MaxTokens == 0 {
		c.MaxTokens = DefaultMaxTokens
	}
	if c.Cache == 0 {
		c.Cache = DefaultCache
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(c.Metrics)
	if err != nil {
		return nil, err
	}
	k := &Keeper{
		db: c.DB, registrations: c.Registrations, roles: c.Roles, envelope: c.Envelope, audit: c.Audit, guard: c.Guard,
		now: c.Now, log: c.Logger, metrics: m, most: c.MaxTokens,
		cache: otter.Must(&otter.Options[key, *held]{MaximumWeight: uint64(c.Cache), Weigher: weigh}),
	}
	k.nonces, err = group.New(group.Config[*spend, spent]{Name: "tokens", Flush: k.spendTogether, Alone: alone, Metrics: c.Metrics})
	return k, err
}

// errStored is a row that no code of ours has written.
var errStored = fault.New(fault.Internal, "TOKEN_STORED", "the stored token is damaged")

// clock is the time in the precision of the database.
func (k *Keeper) clock() time.Time { return k.now().UTC().Truncate(time.Microsecond) }

// find returns nil for an unknown token.
// Who may not see a token is not to learn by the time that it is here.
func (k *Keeper) find(ctx context.Context, id key, apps []string) (*held, error) {
	if h, ok := k.cache.GetIfPresent(id); ok && slices.Contains(apps, h.app) {
		k.metrics.hits.Inc()
		return h, nil
	}
	k.metrics.misses.Inc()
	return k.load(ctx, id)
}

// load reads the token from the database, whatever the cache says.
func (k *Keeper) load(ctx context.Context, id key) (*held, error) {
	var (
		h       held
		factors string
		sealed  []byte
		erased  = k.erased.Load()
	)
	err := k.db.QueryRow(ctx, sqlToken, id.tenant.String(), id.id).Scan(&h.registration, &h.app, &h.user, &factors, &sealed)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		k.cache.Invalidate(id)
		return nil, nil
	case err != nil:
		return nil, pg.Unavailable(err)
	}
	var ok bool
	if h.factors, ok = signature.ParseFactors(factors); !ok {
		return nil, fmt.Errorf("%w: factors", errStored)
	}
	if h.secret, err = k.envelope.Open(ctx, field(id, h.registration), sealed); err != nil {
		return nil, err
	}
	if h.secret.Len() != secretSize {
		return nil, fmt.Errorf("%w: secret", errStored)
	}
	k.hold(id, &h, erased)
	return &h, nil
}

// field binds the secret to the registration as well: a row that was moved to
// another one does not open.
func field(id key, owner uuid.UUID) envelope.Field {
	return envelope.Field{
		Tenant: id.tenant, Table: "token", Column: "secret_sealed", Row: id.id.String() + "/" + owner.String(),
	}
}
