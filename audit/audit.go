package audit

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/tenant"
)

// Event is one thing that happened.
type Event struct {
	Tenant  tenant.ID
	ID      uuid.UUID // made by the Log; what List returns
	At      time.Time // zero: the Log's clock; kept in microseconds
	Action  string    // what was done, "registration.verify"; 1..64 characters
	Actor   string    // who asked: a principal's name, "device", "system"
	Subject string    // what it was done to, e.g. a registration id
	UserID  string    // the person it concerns, empty when none
	AppID   string    // the application it concerns, empty when none
	Outcome string    // "ok" or a stable lower_snake reason; 1..64 characters
	Detail  map[string]any
	// JSON is Detail as the caller has encoded it, for a hot path; it goes before
	// Detail. List fills Detail.
	JSON []byte
}

// DB is what List reads from; a pool, connection or transaction.
type DB interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Config makes a Log.
type Config struct {
	DB  DB
	Now func() time.Time // nil: time.Now
}

// Log appends and lists events.
type Log struct {
	db  DB
	now func() time.Time
}

// New makes a Log; it does not touch the database.
func New(c Config) (*Log, error) {
	if c.DB == nil {
		return nil, fmt.Errorf("audit: %w: no database", ErrInvalid)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Log{db: c.DB, now: c.Now}, nil
}

// Execer is the part of pgx.Tx that RecordTx needs.
type Execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// RecordTx appends e in the caller's transaction.
func (l *Log) RecordTx(ctx context.Context, tx Execer, e Event) error {
	args, err := l.Args(e)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, sqlInsert, args...); err != nil {
		return fmt.Errorf("audit: record %s: %w: %w", e.Action, fault.ErrUnavailable, err)
	}
	return nil
}

// Queue appends e when b is sent. An event that can not be encoded is an error
// and nothing is queued: the caller must not send the change without it.
func (l *Log) Queue(b *pgx.Batch, e Event) error {
	args, err := l.Args(e)
	if err != nil {
		return err
	}
	b.Queue(sqlInsert, args...)
	return nil
}

// Args encodes e as the arguments of the statement that After ends.
func (l *Log) Args(e Event) ([]any, error) {
	if e.Tenant.IsZero() || e.Action == "" || e.Outcome == "" {
		return nil, fmt.Errorf("audit: %w: tenant, action or outcome is missing", ErrInvalid)
	}
	at := e.At
	if at.IsZero() {
		at = l.now()
	}
	at = at.UTC().Truncate(time.Microsecond)
	detail := e.JSON // stays NULL when there is none
	if detail == nil && len(e.Detail) > 0 {
		var err error
		if detail, err = json.Marshal(e.Detail); err != nil {
			return nil, fmt.Errorf("audit: %w: detail of %s: %w", ErrInvalid, e.Action, err)
		}
	}
	return []any{
		// uuid.UUID itself would go over database/sql's text form and back.
		e.Tenant.String(), pgtype.UUID{Bytes: newID(at), Valid: true}, at, e.Action, e.Actor, e.Subject, e.UserID, e.AppID, e.Outcome, detail,
	}, nil
}

// newID makes a UUIDv7 of at: 48 bits of milliseconds, 12 bits of the
// microsecond within, 62 random bits (RFC 9562 section 6.2, method 3). It is not
// uuid.NewV7 because the id must order like the time of the event, which may
// come from a clock of the caller.
func newID(at time.Time) uuid.UUID {
	var id uuid.UUID
	_, _ = rand.Read(id[6:]) // never fails since Go 1.24
	us := at.UnixMicro()
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(us/1000))
	copy(id[:6], ms[2:])
	binary.BigEndian.PutUint16(id[6:], 0x7000|uint16(us%1000))
	id[8] = id[8]&0x3f | 0x80
	return id
}
