package access

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/tenant"
)

// DB is the part of a pgx pool that Basic needs.
type DB interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// Sealer keeps the pepper secret at rest; *envelope.Keyring.
type Sealer interface {
	Seal(ctx context.Context, f envelope.Field, plaintext []byte) ([]byte, error)
	Open(ctx context.Context, f envelope.Field, blob []byte) (secret.Bytes, error)
}

// BasicConfig makes a Basic. DB and Sealer are needed.
type BasicConfig struct {
	DB      DB
	Sealer  Sealer
	Audit   *audit.Log // records every change of a credential; nil: none is recorded
	Now     func() time.Time
	Metrics prometheus.Registerer
}

// Basic authenticates and administers HTTP Basic credentials.
//
// Verdicts are remembered for seconds under a MAC of username and password, good
// and bad ones alike, so that verifying signatures costs no extra round trip. (A
// cache by username would answer faster for names that exist.) A change made
// here is seen at once, one made by another node after at most verdictCached.
type Basic struct {
	db       DB
	now      func() time.Time
	pepper   *pepper
	verdicts *otter.Cache[[sha256.Size]byte, verdict]
	lookups  *singleflight.Group
	audit    *audit.Log
	actor    string       // whom changes are recorded for
	process  secret.Bytes // key of the verdicts' names; random, gone with the process
	decoy    []byte       // stands for the MAC of users that do not exist
	results  outcomes
}

// verdict is what became of a username and password.
type verdict struct {
	principal Principal
	good      bool
	until     time.Time
}

// credential is a row, or the decoy.
type credential struct {
	tenant  string
	role    string
	mac     []byte
	pepper  int
	enabled bool
	apps    []string
}

var basicRoles = map[string]Privilege{
	PAIntegration.String(): PAIntegration,
	PAAdmin.String():       PAAdmin,
	PAInternal.String():    PAInternal,
}

// NewBasic makes a Basic; it does not touch the database.
func NewBasic(c BasicConfig) (*Basic, error) {
	if c.DB == nil || c.Sealer == nil {
		return nil, fmt.Errorf("basic: %w: database or sealer is missing", ErrConfig)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Basic{
		db: c.DB, now: c.Now, audit: c.Audit, actor: "system", lookups: new(singleflight.Group),
		pepper:   &pepper{db: c.DB, sealer: c.Sealer, now: c.Now},
		verdicts: otter.Must(&otter.Options[[sha256.Size]byte, verdict]{MaximumSize: verdictCache}),
		process:  secret.New(random32()),
		decoy:    random32(),
		results:  outcomesOf(newResults(c.Metrics), "basic"),
	}, nil
}

// Authenticate checks a username and password. Errors: ErrUnauthenticated, or
// fault.ErrUnavailable when database or HSM kept it from a verdict.
func (b *Basic) Authenticate(ctx context.Context, username, password string) (Principal, error) {
	v, err := b.verdict(ctx, username, password)
	switch {
	case err != nil:
		b.results.unavailable.Inc()
		return Principal{}, fmt.Errorf("basic: %w", err)
	case !v.good:
		b.results.refused.Inc()
		return Principal{}, fmt.Errorf("basic: %w: wrong, unknown or disabled", ErrUnauthenticated)
	}
	b.results.ok.Inc()
	return v.principal, nil
}

func (b *Basic) verdict(ctx context.Context, username, password string) (verdict, error) {
	if !validUsername(username) || len(password) > maxSecret {
		return verdict{}, nil
	}
	name := b.nameOf(username, password)
	if v, ok := b.verdicts.GetIfPresent(name); ok && b.now().Before(v.until) {
		return v, nil
	}
	return b.lookUp(ctx, name, username, password)
}

// lookUp is apart from verdict, which allocates nothing for what is remembered.
func (b *Basic) lookUp(ctx context.Context, name [sha256.Size]byte, username, password string) (verdict, error) {
	return shared(ctx, b.lookups, string(name[:]), func(ctx context.Context) (verdict, error) {
		v, err := b.judge(ctx, username, password)
		if err == nil {
			v.until = b.now().Add(verdictCached)
			b.verdicts.Set(name, v)
		}
		return v, err
	})
}

// nameOf is what a verdict is remembered by: SHA-256 over a key that only this
// process has, the username with its length, and the password. Nobody outside ever
// sees it, so the key in front is enough, and one hash of a buffer on the stack costs
// a request a quarter of what an HMAC does. Both have been bounded.
func (b *Basic) nameOf(username, password string) [sha256.Size]byte {
	var buffer [32 + 2 + maxName + maxSecret]byte
	in := append(buffer[:0], b.process.Reveal()...)
	in = binary.BigEndian.AppendUint16(in, uint16(len(username)))
	in = append(in, username...)
	in = append(in, password...)
	sum := sha256.Sum256(in)
	clear(in)
	return sum
}

// judge takes one way for all: found, unknown and disabled users differ in the
// two booleans of its last step only.
func (b *Basic) judge(ctx context.Context, username, password string) (verdict, error) {
	c, err := b.read(ctx, username)
	if err != nil {
		return verdict{}, err
	}
	key, err := b.pepper.version(ctx, c.pepper)
	if err != nil {
		return verdict{}, err
	}
	match := hmac.Equal(credentialMAC(key, c.tenant, username, c.role, password), c.mac)
	t, err := tenant.Parse(c.tenant)
	if err != nil {
		return verdict{}, fmt.Errorf("credential of tenant %q: %w", c.tenant, err)
	}
	p := Principal{Tenant: t, Name: username, Privileges: Any(basicRoles[c.role]), Apps: c.apps}
	return verdict{principal: p, good: match && c.enabled}, nil
}

// read returns the user's row or the decoy.
func (b *Basic) read(ctx context.Context, username string) (credential, error) {
	var c credential
	err := b.db.QueryRow(ctx, sqlCredential, username).
		Scan(&c.tenant, &c.role, &c.mac, &c.pepper, &c.enabled, &c.apps)
	if errors.Is(err, pgx.ErrNoRows) {
		return credential{tenant: "decoy", role: PAIntegration.String(), mac: b.decoy, pepper: pepperVersion}, nil
	}
	if err != nil {
		return c, pg.Unavailable(fmt.Errorf("credential: %w", err))
	}
	return c, nil
}

// credentialMAC binds the secret to the row that holds it, so that a row copied
// or promoted inside the database authenticates nobody.
func credentialMAC(pepper secret.Bytes, tenant, username, role, password string) []byte {
	return mac(pepper, "signet/access/1", tenant, username, role, password)
}

// mac is HMAC-SHA256 over the parts; their lengths make the encoding unambiguous.
func mac(key secret.Bytes, parts ...string) []byte {
	m := hmac.New(sha256.New, key.Reveal())
	var n [4]byte
	for _, p := range parts {
		binary.BigEndian.PutUint32(n[:], uint32(len(p)))
		m.Write(n[:])
		m.Write([]byte(p))
	}
	return m.Sum(nil)
}

func random32() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails: the runtime ends the process instead
	return b
}

// shared runs fn once for all who ask for name at the same time. The run has a
// deadline of its own, so that a caller who gives up does not end it for others,
// and each caller waits no longer than its own context allows.
func shared[T any](ctx context.Context, g *singleflight.Group, name string, fn func(context.Context) (T, error)) (T, error) {
	ch := g.DoChan(name, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookupWithin)
		defer cancel()
		return fn(ctx)
	})
	var zero T
	select {
	case r := <-ch:
		if r.Err != nil {
			return zero, r.Err
		}
		return r.Val.(T), nil
	case <-ctx.Done():
		return zero, fmt.Errorf("access: %w: %w", fault.ErrUnavailable, ctx.Err())
	}
}
