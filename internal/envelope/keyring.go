package envelope

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"

	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/tenant"
)

// KEK seals and opens DEKs inside the HSM; *hsm.AEAD is one. aad is
// authenticated, not stored. An error of Open that carries a *fault.Error of a
// kind other than Unavailable is a verdict on the blob; every other error is
// taken for an outage. Both must be safe for concurrent use.
type KEK interface {
	Seal(ctx context.Context, plaintext, aad []byte) ([]byte, error)
	Open(ctx context.Context, blob, aad []byte) ([]byte, error)
}

// DB is a pool. It must not be a transaction: a DEK has to outlive the caller's
// roll-back, for other rows may be sealed with it by then.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Options tune a Keyring. The zero value is fit for production.
type Options struct {
	// KEKName is what the given KEK is called: the HSM key's reference. It is stored
	// with each DEK, to tell later which key sealed it. "" means "kek".
	KEKName string
	// KEKs finds KEKs of other names, which a rotation left or has made. nil: there
	// are none, and a DEK that was sealed by one is ErrKEK.
	KEKs func(ctx context.Context, name string) (KEK, error)
	// Refresh is how long Seal goes on with a DEK before it asks which one is
	// PRIMARY now; 0 means 30 s.
	Refresh time.Duration
	// Timeout bounds one look-up with its unwrapping; 0 means 10 s.
	Timeout time.Duration
	Now     func() time.Time      // nil means time.Now
	Logger  *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil registers nothing
}

// Keyring seals and opens. It keeps unwrapped DEKs in memory.
type Keyring struct {
	db      DB
	kek     KEK
	o       Options
	metrics *metrics
	flight  singleflight.Group

	mu      sync.RWMutex // guards the maps; their values are never changed
	deks    map[dekID]*dek
	current map[purpose]primary // what Seal uses
	keks    map[string]KEK      // of other names than KEKName
}

// purpose is what one PRIMARY DEK is for.
type purpose struct {
	tenant tenant.ID
	table  string
}

type primary struct {
	*dek
	asked time.Time // when it was the PRIMARY one
}

type dekID struct {
	tenant  tenant.ID
	version uint32
}

// New makes an empty Keyring; nothing is read before the first use.
func New(db DB, kek KEK, o Options) *Keyring {
	if o.KEKName == "" {
		o.KEKName = "kek"
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Refresh == 0 {
		o.Refresh = 30 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Keyring{
		db: db, kek: kek, o: o, metrics: newMetrics(o.Metrics),
		deks: map[dekID]*dek{}, current: map[purpose]primary{}, keks: map[string]KEK{},
	}
}

// Seal encrypts plaintext for its place. The first Seal for a table of a tenant
// makes its DEK. Errors: fault.ErrUnavailable, ErrCorrupt (the tenant's DEK), ErrKEK,
// ErrField.
func (k *Keyring) Seal(ctx context.Context, f Field, plaintext []byte) ([]byte, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	d, err := k.sealing(ctx, purpose{f.Tenant, f.Table})
	if err != nil {
		return nil, err
	}
	return d.seal(f, plaintext)
}

func (d *dek) seal(f Field, plaintext []byte) ([]byte, error) {
	place := appendPlace(make([]byte, 0, 128), f, d.version)
	aead, err := d.rowCipher(place)
	if err != nil {
		return nil, err
	}
	blob := make([]byte, headerLen, minLen+len(plaintext))
	blob[0] = format
	binary.BigEndian.PutUint32(blob[1:], d.version)
	return aead.Seal(blob, nil, plaintext, place), nil
}

// Open decrypts a blob that was sealed for the same place. Errors: ErrCorrupt,
// fault.ErrUnavailable, ErrKEK, ErrField.
func (k *Keyring) Open(ctx context.Context, f Field, blob []byte) (secret.Bytes, error) {
	if err := f.check(); err != nil {
		return secret.Bytes{}, err
	}
	if len(blob) < minLen || blob[0] != format {
		return secret.Bytes{}, fmt.Errorf("envelope: %w: %s.%s: no blob of format 1", ErrCorrupt, f.Table, f.Column)
	}
	d, err := k.opening(ctx, dekID{f.Tenant, binary.BigEndian.Uint32(blob[1:])})
	if err != nil {
		return secret.Bytes{}, err
	}
	if d.table != "" && d.table != f.Table {
		k.metrics.corrupt.Inc()
		return secret.Bytes{}, fmt.Errorf("envelope: %w: %s.%s: the data key is for another table", ErrCorrupt, f.Table, f.Column)
	}
	place := appendPlace(make([]byte, 0, 128), f, d.version)
	aead, err := d.rowCipher(place)
	if err != nil {
		return secret.Bytes{}, err
	}
	plaintext, err := aead.Open(nil, nil, blob[headerLen:], place)
	if err != nil {
		k.metrics.corrupt.Inc()
		return secret.Bytes{}, fmt.Errorf("envelope: %w: %s.%s", ErrCorrupt, f.Table, f.Column)
	}
	return secret.New(plaintext), nil
}

// newGCM takes and writes its nonces itself (FIPS 140-3 wants that, and no
// caller can repeat one): it seals to nonce | ciphertext | tag.
func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("envelope: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("envelope: %w", err)
	}
	return aead, nil
}
