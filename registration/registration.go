package registration

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/group"
	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/rollback"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// State is the state of a registration.
type State string

// The states of SM-05.
const (
	StateCreated       State = "CREATED"        // waits for the key exchange
	StatePendingCommit State = "PENDING_COMMIT" // has keys, waits for the commit
	StateActive        State = "ACTIVE"         // signatures are verified
	StateBlocked       State = "BLOCKED"        // by wrong attempts or by an operator
	StateRemoved       State = "REMOVED"        // final
)

// inProgress is the two states that expire.
func (s State) inProgress() bool { return s == StateCreated || s == StatePendingCommit }

// BlockedMaxFailedAttempts is the reason of a block by wrong signatures.
const BlockedMaxFailedAttempts = "MAX_FAILED_ATTEMPTS"

// OTPMode says when the one-time password of a registration is checked.
type OTPMode string

// The modes; a Create without one means OTPNone.
const (
	OTPNone          OTPMode = "NONE"
	OTPOnKeyExchange OTPMode = "ON_KEY_EXCHANGE" // which then commits by itself
	OTPOnCommit      OTPMode = "ON_COMMIT"
)

func (m OTPMode) valid() bool { return m == OTPNone || m == OTPOnKeyExchange || m == OTPOnCommit }

// DB is what a Registrar needs of a pool.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Begin(ctx context.Context) (pgx.Tx, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

var _ DB = (*pgxpool.Pool)(nil)

// Config makes a Registrar. DB, Apps, Envelope and Audit are required.
type Config struct {
	DB       DB
	Apps     *app.Registry
	Envelope *envelope.Keyring
	Audit    *audit.Log
	Outbox   outbox.Queue // told of every change of state; nil: outbox.Discard

	// Guard keeps verdicts from being made on a database that was set back; nil:
	// nothing does.
	Guard *rollback.Guard

	// Custom resolves activations of type CUSTOM; nil refuses them.
	Custom ActivationProvider
	// VaultBiometry lets a signature with biometry unlock the vault as well.
	VaultBiometry bool

	Validity time.Duration // how long a registration may be in progress; 0: DefaultValidity
	Cache    int64         // bytes of registrations held ready, with their keys; 0: DefaultCache
	Now      func() time.Time
	Logger   *slog.Logger
	Metrics  prometheus.Registerer
}

// DefaultCache is room for 140,000 registrations, at about 460 bytes each.
const DefaultCache = 64 << 20

// Validate names the first thing that is wrong.
func (c Config) Validate() error {
	switch {
	case c.DB == nil, c.Apps == nil, c.Envelope == nil, c.Audit == nil:
		return errors.New("registration: DB, Apps, Envelope and Audit are required")
	case c.Validity < 0, c.Cache < 0:
		return errors.New("registration: Validity and Cache must not be negative")
	}
	return nil
}

// Registrar makes, changes and verifies registrations.
type Registrar struct {
	gate     gate // devices at the HSM
	db       DB
	apps     *app.Registry
	envelope *envelope.Keyring
	audit    *audit.Log
	outbox   outbox.Queue
	guard    *rollback.Guard
	provider ActivationProvider
	vaultBio bool
	validity time.Duration
	now      func() time.Time
	log      *slog.Logger
	metrics  *metrics
	decoy    *signature.Keys // of nobody
	cache    *cache
	verdicts *group.Group[*change, bool]
	hashing  chan struct{} // one slot for each password hash at once
	asked    asked
}

// New makes a Registrar; it does not touch the database or the HSM.
func New(c Config) (*Registrar, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Outbox == nil {
		c.Outbox = outbox.Discard
	}
	if c.Validity == 0 {
		c.Validity = DefaultValidity
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
	var nobody [16]byte
	_, _ = rand.Read(nobody[:]) // never fails since Go 1.24
	r := &Registrar{
		gate: make(gate, runtime.GOMAXPROCS(0)), // half of the sessions that hsm opens by default
		db:   c.DB, apps: c.Apps, envelope: c.Envelope, audit: c.Audit, outbox: c.Outbox, guard: c.Guard,
		provider: c.Custom, vaultBio: c.VaultBiometry, validity: c.Validity, now: c.Now, log: c.Logger, metrics: m,
		decoy:   signature.DeriveKeys(nobody),
		cache:   newCache(c.Cache, m),
		hashing: make(chan struct{}, runtime.GOMAXPROCS(0)),
		asked:   newAsked(),
	}
	c.Guard.OnHold(func(*tenant.ID) { r.cache.clear() })
	r.verdicts, err = group.New(group.Config[*change, bool]{
		Name: "verdicts", Flush: r.storeTogether, Alone: alone, Metrics: c.Metrics,
	})
	return r, err
}

// clock is the time in the precision of the database.
func (r *Registrar) clock() time.Time { return r.now().UTC().Truncate(time.Microsecond) }

// apply runs a statement that changes at most one row by compare-and-swap and
// ends with its event. It reports whether the row was still as expected.
func (r *Registrar) apply(ctx context.Context, sql string, args []any, e audit.Event) (bool, error) {
	event, err := r.audit.Args(e)
	if err != nil {
		return false, err
	}
	tag, err := r.db.Exec(ctx, sql, append(args, event...)...)
	if err != nil {
		return false, pg.Unavailable(err)
	}
	return tag.RowsAffected() == 1, nil
}

// transit is apply for a statement that changes the state: the world is told of
// it in the same transaction, which holds nothing but statements.
func (r *Registrar) transit(ctx context.Context, sql string, args []any, e audit.Event, told outbox.Event) (won bool, err error) {
	event, err := r.audit.Args(e)
	if err != nil {
		return false, err
	}
	args = append(args, event...)
	err = pg.InTx(ctx, r.db, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sql, args...)
		if err != nil {
			return err
		}
		if won = tag.RowsAffected() == 1; !won {
			return nil
		}
		return r.outbox.AddTx(ctx, tx, told)
	})
	if err != nil {
		return false, pg.Unavailable(err)
	}
	return won, nil
}

// expire writes REMOVED for a registration that was in progress for too long. It
// reports false when the registration was changed since it was read: a commit may
// have won, so the caller has to read again before it says REMOVED.
func (r *Registrar) expire(ctx context.Context, row *record) (won bool, err error) {
	now := r.clock()
	won, err = r.transit(ctx, sqlSettle, []any{
		row.tenant.String(), row.id, row.revision, StateRemoved, row.failed, now,
	}, row.event(now, "registration.expire", "system", "expired"), row.told(StateRemoved, ""))
	if err != nil {
		return false, fmt.Errorf("expire: %w", err)
	}
	if won {
		r.log.LogAttrs(ctx, slog.LevelInfo, "registration expired",
			slog.String("tenant", row.tenant.String()), slog.String("registration", row.id.String()))
	}
	return won, nil
}

func privateField(t tenant.ID, id uuid.UUID) envelope.Field {
	return envelope.Field{Tenant: t, Table: "registration", Column: "server_private_sealed", Row: id.String()}
}

func masterField(t tenant.ID, id uuid.UUID) envelope.Field {
	return envelope.Field{Tenant: t, Table: "registration", Column: "master_secret_sealed", Row: id.String()}
}

// fingerprint is what both screens show; empty before the key exchange.
func (row *record) fingerprint() (string, error) {
	if row.devicePublic == nil {
		return "", nil
	}
	device, err := signature.ParsePublicKey(row.devicePublic)
	if err != nil {
		return "", fmt.Errorf("%w: device key: %w", errStored, err)
	}
	server, err := signature.ParsePublicKey(row.serverPublic)
	if err != nil {
		return "", fmt.Errorf("%w: server key: %w", errStored, err)
	}
	return signature.Fingerprint(device, row.id.String(), server), nil
}
