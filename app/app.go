package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/tenant"
)

// Application is one READY application.
type Application struct {
	Tenant    tenant.ID
	ID        string
	Roles     []string // in the order given
	CreatedAt time.Time

	// The newest master key: its public half, 65 bytes, uncompressed P-256 point,
	// and its generation, which counts from 0.
	MasterPublic     []byte
	MasterGeneration int
}

// Version is what one generation of the mobile app carries.
type Version struct {
	Tenant    tenant.ID
	App       string
	Name      string // "default" for the one that Create makes
	Key       [16]byte
	Secret    secret.Bytes // the Base64 text (24 bytes) of 16 random bytes, as it enters hashes
	Supported bool         // false: an app version that was called back

	MasterGeneration int // of the master key whose public half it carries
}

// Config makes a Registry. DB, HSM, Envelope and Audit are required.
type Config struct {
	DB       *pgxpool.Pool
	HSM      *hsm.Token
	Envelope *envelope.Keyring
	Audit    *audit.Log

	CacheTTL  time.Duration // how long a change elsewhere may go unseen; 0: 5 s
	CacheSize int           // entries of each cache; 0: 10,000
	Now       func() time.Time
	Metrics   prometheus.Registerer
}

// Validate names the first thing that is missing.
func (c Config) Validate() error {
	switch {
	case c.DB == nil, c.HSM == nil, c.Envelope == nil, c.Audit == nil:
		return errors.New("app: DB, HSM, Envelope and Audit are required")
	case c.CacheTTL < 0, c.CacheSize < 0:
		return errors.New("app: the bounds of the cache are negative")
	}
	return nil
}

// Registry makes and finds applications.
type Registry struct {
	db       *pgxpool.Pool
	hsm      *hsm.Token
	envelope *envelope.Keyring
	audit    *audit.Log
	now      func() time.Time

	apps     *memo[appKey, Application]
	versions *memo[[16]byte, Version]
	masters  *memo[generationKey, []byte] // public halves of older generations
}

type appKey struct {
	tenant tenant.ID
	id     string
}

// New makes a Registry; it does not touch the database or the HSM.
func New(c Config) (*Registry, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.CacheTTL == 0 {
		c.CacheTTL = 5 * time.Second
	}
	if c.CacheSize == 0 {
		c.CacheSize = 10_000
	}
	m, err := newMetrics(c.Metrics)
	if err != nil {
		return nil, err
	}
	b := bounds{size: c.CacheSize, ttl: c.CacheTTL, now: c.Now, hits: m.cache}
	return &Registry{
		db: c.DB, hsm: c.HSM, envelope: c.Envelope, audit: c.Audit, now: c.Now,
		apps:     newMemo[appKey, Application]("app", b),
		versions: newMemo[[16]byte, Version]("version", b),
		masters:  newMemo[generationKey, []byte]("master", b),
	}, nil
}

// Get returns the application as it stands in the database. Error: ErrNotFound,
// also for what can not be an id.
func (r *Registry) Get(ctx context.Context, t tenant.ID, id string) (Application, error) {
	if !text(id) {
		return Application{}, fmt.Errorf("app: get: %w", ErrNotFound)
	}
	a, err := scanApp(r.db.QueryRow(ctx, sqlApp, t.String(), id), t)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Application{}, fmt.Errorf("app: get: %w", ErrNotFound)
	case err != nil:
		return Application{}, fmt.Errorf("app: get: %w: %w", fault.ErrUnavailable, err)
	}
	return a, nil
}

// List returns the applications of a tenant in the order of their ids (PA-ADM-02).
func (r *Registry) List(ctx context.Context, t tenant.ID) ([]Application, error) {
	rows, err := r.db.Query(ctx, sqlApps, t.String())
	if err != nil {
		return nil, fmt.Errorf("app: list: %w: %w", fault.ErrUnavailable, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Application, error) { return scanApp(row, t) })
	if err != nil {
		return nil, fmt.Errorf("app: list: %w: %w", fault.ErrUnavailable, err)
	}
	return list, nil
}

func scanApp(row pgx.Row, t tenant.ID) (Application, error) {
	var (
		a     = Application{Tenant: t}
		owner string
	)
	if err := row.Scan(&owner, &a.ID, &a.Roles, &a.MasterPublic, &a.MasterGeneration, &a.CreatedAt); err != nil {
		return Application{}, err
	}
	if owner != t.String() {
		return Application{}, fmt.Errorf("row of tenant %s", owner)
	}
	a.CreatedAt = a.CreatedAt.UTC()
	return a, nil
}

// Roles returns the roles of the application, at most CacheTTL old.
func (r *Registry) Roles(ctx context.Context, t tenant.ID, id string) ([]string, error) {
	a, err := r.cached(ctx, t, id)
	return a.Roles, err
}

func (r *Registry) cached(ctx context.Context, t tenant.ID, id string) (Application, error) {
	return r.apps.get(appKey{t, id}, func() (Application, error) { return r.Get(ctx, t, id) })
}

// ByKey finds the version that carries an application key, in whatever tenant,
// at most CacheTTL old. The caller compares tenant and application.
func (r *Registry) ByKey(ctx context.Context, key [16]byte) (Version, error) {
	return r.versions.get(key, func() (Version, error) { return r.byKey(ctx, key) })
}

func (r *Registry) byKey(ctx context.Context, key [16]byte) (Version, error) {
	versions, err := r.readVersions(ctx, sqlVersionByKey, key[:])
	switch {
	case err != nil:
		return Version{}, fmt.Errorf("app: by key: %w", err)
	case len(versions) == 0:
		return Version{}, fmt.Errorf("app: by key: %w", ErrNotFound)
	}
	return versions[0], nil
}

// Versions returns all versions of an application, oldest first; none for an
// application that is not there.
func (r *Registry) Versions(ctx context.Context, t tenant.ID, id string) ([]Version, error) {
	if !text(id) {
		return nil, nil
	}
	versions, err := r.readVersions(ctx, sqlVersions, t.String(), id)
	if err != nil {
		return nil, fmt.Errorf("app: versions: %w", err)
	}
	return versions, nil
}

func (r *Registry) readVersions(ctx context.Context, query string, args ...any) ([]Version, error) {
	rows, err := r.db.Query(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", fault.ErrUnavailable, err)
	}
	type sealed struct {
		owner string
		blob  []byte
		Version
	}
	// All rows are read before a secret is opened: that may need the database too.
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s sealed, err error) {
		var key []byte
		err = row.Scan(&s.owner, &s.App, &s.Name, &key, &s.blob, &s.Supported, &s.MasterGeneration)
		if err == nil {
			s.Key = [16]byte(key)
		}
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", fault.ErrUnavailable, err)
	}
	out := make([]Version, 0, len(found))
	for _, s := range found {
		if s.Tenant, err = tenant.Parse(s.owner); err != nil {
			return nil, err
		}
		if s.Secret, err = r.envelope.Open(ctx, secretField(s.Tenant, s.Key), s.blob); err != nil {
			return nil, fmt.Errorf("secret: %w", err)
		}
		out = append(out, s.Version)
	}
	return out, nil
}
