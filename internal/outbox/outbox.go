package outbox

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/tenant"
)

// Kind says what happened and so who is told.
type Kind string

// The kinds there are, with what Data holds.
const (
	// RegistrationChanged: "status", and "blockedReason" when BLOCKED.
	RegistrationChanged Kind = "registration.changed"
	// OperationCreated: "name" of the template, "title", "message", "expires"
	// (RFC 3339).
	OperationCreated Kind = "operation.created"
	// OperationFinished: "name" of the template and "result", one of
	// authentication.success, authentication.fail, operation.timeout,
	// operation.canceled, operation.methodNotAvailable.
	OperationFinished Kind = "operation.finished"
	// MessageSend is a push message that an application tier asked for.
	MessageSend Kind = "message.send"
	// InboxMessage: "inboxId", "title".
	InboxMessage Kind = "inbox.message"
)

// Event is one thing to tell. Fields that do not apply are empty.
type Event struct {
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
