package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/tenant"
)

// Kind says what happened and so who is told.
type Kind string

// The kinds there are, with what Data holds.
const (
	// RegistrationChanged: "status", and "blockedReason" when BLOCKED.
	RegistrationChanged Kind = "registration.changed"
	// OperationCreated: "name", the operation's type; "title", "message",
	// "expires" (RFC 3339); "flag" that a registration must have; "externalId".
	OperationCreated Kind = "operation.created"
	// OperationFinished: "name", "flag" and "externalId" as before; "status", the
	// final state; "result", one of authentication.success, authentication.fail,
	// operation.timeout, operation.canceled, operation.methodNotAvailable.
	OperationFinished Kind = "operation.finished"
	// MessageSend is a push message that an application tier asked for: "title",
	// "message", "sound", "silent", "extras".
	MessageSend Kind = "message.send"
	// InboxMessage: "inboxId", "title", "message", "silent".
	InboxMessage Kind = "inbox.message"
)

// Event is one thing to tell. Fields that do not apply are empty.
type Event struct {
	ID uuid.UUID // UUIDv7, made by AddTx
	At time.Time // made by AddTx

	Tenant       tenant.ID
	Kind         Kind
	App          string         // application id
	User         string         // user id
	Registration string         // registration id; empty for all of the user
	Operation    string         // operation id, UUID text
	Data         map[string]any // small, no secrets; JSON values only
}

// Queue is what a domain needs to have events delivered.
type Queue interface {
	// AddTx makes the events part of the caller's transaction. An error is an
	// outage (fault.ErrUnavailable) or an event that can not be encoded; either
	// way the caller must roll back.
	AddTx(ctx context.Context, tx pgx.Tx, events ...Event) error
}

// Discard drops every event: for tests and nodes without delivery.
var Discard Queue = discard{}

type discard struct{}

func (discard) AddTx(context.Context, pgx.Tx, ...Event) error { return nil }

// eventQueue is River's queue of events that are not expanded yet.
const eventQueue = "event"

// Config makes an Outbox. DB is required.
type Config struct {
	DB     *pgxpool.Pool
	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil discards
}

// Outbox adds events and keeps dead letters. It has no goroutine: a Runner
// delivers, in this process or another.
type Outbox struct {
	db    *pgxpool.Pool
	river *river.Client[pgx.Tx]
	now   func() time.Time
}

var _ Queue = (*Outbox)(nil)

// New makes an Outbox; it does not touch the database.
func New(c Config) (*Outbox, error) {
	if c.DB == nil {
		return nil, errors.New("outbox: DB is required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	// Without queues and workers a River client only inserts.
	client, err := river.NewClient(riverpgxv5.New(c.DB), &river.Config{Logger: c.Logger})
	if err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	return &Outbox{db: c.DB, river: client, now: c.Now}, nil
}

// AddTx implements Queue.
func (o *Outbox) AddTx(ctx context.Context, tx pgx.Tx, events ...Event) error {
	if len(events) == 0 {
		return nil
	}
	now := o.now()
	jobs := make([]river.InsertManyParams, len(events))
	for i, e := range events {
		w, err := encode(e, now)
		if err != nil {
			return err
		}
		jobs[i] = river.InsertManyParams{
			Args:       eventArgs{Event: w},
			InsertOpts: &river.InsertOpts{Queue: eventQueue, MaxAttempts: eventAttempts},
		}
	}
	if _, err := o.river.InsertManyFastTx(ctx, tx, jobs); err != nil {
		return fmt.Errorf("outbox: add: %w: %w", fault.ErrUnavailable, err)
	}
	return nil
}
