package outbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/signet-hsm/signet/tenant"
)

// wire is an Event in the arguments of a job. Names are short and stable: jobs
// outlive the program that wrote them.
type wire struct {
	ID           uuid.UUID      `json:"id"`
	At           time.Time      `json:"at"`
	Tenant       string         `json:"tenant"`
	Kind         Kind           `json:"kind"`
	App          string         `json:"app,omitempty"`
	User         string         `json:"user,omitempty"`
	Registration string         `json:"registration,omitempty"`
	Operation    string         `json:"operation,omitempty"`
	Data         map[string]any `json:"data,omitempty"`
}

// MaxEvent is the most bytes of JSON an event may have: what a push may carry,
// twice over.
const MaxEvent = 16 << 10

func encode(e Event, now time.Time) (wire, error) {
	if e.Tenant.IsZero() || e.Kind == "" {
		return wire{}, fmt.Errorf("outbox: %w: no tenant or kind", ErrInvalid)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return wire{}, fmt.Errorf("outbox: %w", err)
	}
	w := wire{
		ID: id, At: now.UTC().Truncate(time.Microsecond), Tenant: e.Tenant.String(), Kind: e.Kind, App: e.App, User: e.User,
		Registration: e.Registration, Operation: e.Operation, Data: e.Data,
	}
	// Now, not inside River: its error would not tell a defect from an outage.
	raw, err := json.Marshal(w)
	if err != nil {
		return wire{}, fmt.Errorf("outbox: %w: %w", ErrInvalid, err)
	}
	if len(raw) > MaxEvent {
		return wire{}, fmt.Errorf("outbox: %w: %d bytes", ErrInvalid, len(raw))
	}
	return w, nil
}

func (w wire) event() (Event, error) {
	t, err := tenant.Parse(w.Tenant)
	if err != nil {
		return Event{}, errors.Join(ErrInvalid, err)
	}
	return Event{
		ID: w.ID, At: w.At, Tenant: t, Kind: w.Kind, App: w.App, User: w.User,
		Registration: w.Registration, Operation: w.Operation, Data: w.Data,
	}, nil
}

// Text returns the text under key, empty when it is not there or not a text.
func (e Event) Text(key string) string {
	s, _ := e.Data[key].(string)
	return s
}

// The two kinds of jobs: an event as it was added, and one delivery of it.
type (
	eventArgs struct {
		Event wire `json:"event"`
	}
	deliveryArgs struct {
		Consumer string `json:"consumer"`
		Target   string `json:"target"`
		Event    wire   `json:"event"`
	}
)

// Kind implements river.JobArgs.
func (eventArgs) Kind() string { return "signet.event" }

// Kind implements river.JobArgs.
func (deliveryArgs) Kind() string { return "signet.delivery" }

// Delivery is one event on its way to one target.
type Delivery struct {
	Event   Event
	Target  string // as the consumer named it
	Attempt int    // from 1; Later does not count
}

func (a deliveryArgs) delivery(attempt int) (Delivery, error) {
	e, err := a.Event.event()
	return Delivery{Event: e, Target: a.Target, Attempt: attempt}, err
}
