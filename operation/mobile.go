package operation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// Device is a registration whose device has just proven itself, by a token or a
// signature: the caller has checked that it is ACTIVE and takes the fields from
// the verdict, not from the request.
type Device struct {
	Registration string
	UserID       string
	App          string
	Flags        []string

	// Where the request came from, for the record; both may be empty.
	Address string // IP address
	Agent   string // User-Agent
}

// Item is an operation as a phone shows it.
type Item struct {
	ID        string
	Name      string // the operation type
	Data      string // what Authorize must be given back, byte for byte
	State     State
	Types     []signature.Factor // how it may be approved
	CreatedAt time.Time
	ExpiresAt time.Time
	Form      Form

	// How the phone shall ask.
	FlipButtons  bool // risk flag X
	FraudWarning bool // risk flag F
	BlockOnCall  bool // risk flag C
	Proximity    bool // Authorize needs the OTP of the screen the person is in front of
}

// List returns the PENDING operations that the device may decide, newest first,
// at most MaxList. language is two small letters; one without texts gets the
// operation's own.
func (l *Ledger) List(ctx context.Context, t tenant.ID, d Device, language string) ([]Item, error) {
	rows, err := l.many(ctx, t, sqlPending, d.UserID, d.App, d.flags(), l.clock(), MaxList)
	return items(rows, language, "list", err)
}

// History is List with the operations of any state. One that ran out a moment
// ago may still be PENDING in the table; it is told as EXPIRED.
func (l *Ledger) History(ctx context.Context, t tenant.ID, d Device, language string) ([]Item, error) {
	rows, err := l.many(ctx, t, sqlHistory, d.UserID, d.App, d.flags(), MaxList)
	for _, row := range rows {
		if row.overdue(l.now()) {
			row.state = StateExpired
		}
	}
	return items(rows, language, "history", err)
}

func items(rows []*record, language, what string, err error) ([]Item, error) {
	list := make([]Item, 0, len(rows))
	for _, row := range rows {
		var item Item
		if item, err = row.item(language); err != nil {
			break
		}
		list = append(list, item)
	}
	if err != nil {
		return nil, fmt.Errorf("operation: %s: %w", what, err)
	}
	return list, nil
}

// Detail returns one PENDING operation. Errors: ErrNotFound, ErrFlag, and for
// one that ended ErrFinished, ErrFailed, ErrCanceled or ErrExpired.
func (l *Ledger) Detail(ctx context.Context, t tenant.ID, d Device, id, language string) (Item, error) {
	row, err := l.open(ctx, t, d, id)
	if err != nil {
		return Item{}, fmt.Errorf("operation: detail: %w", err)
	}
	item, err := row.item(language)
	if err != nil {
		return Item{}, fmt.Errorf("operation: detail: %w", err)
	}
	return item, nil
}

// open is the operation if it still is to be decided and the device may.
// Another user's is unknown here and costs its owner nothing: the reference
// counts the attempt, so that anybody could fail anybody's operations.
func (l *Ledger) open(ctx context.Context, t tenant.ID, d Device, id string) (*record, error) {
	row, err := l.current(ctx, t, id)
	switch {
	case err != nil:
		return nil, err
	case row.user != d.UserID || !slices.Contains(row.apps, d.App):
		return nil, ErrNotFound
	case row.state != StatePending:
		return nil, row.state.ended()
	case row.flag != "" && !slices.Contains(d.Flags, row.flag):
		return nil, ErrFlag
	}
	return row, nil
}

// ended is what a device is told of an operation in a final state.
func (s State) ended() error {
	switch s {
	case StateExpired:
		return ErrExpired
	case StateCanceled:
		return ErrCanceled
	case StateFailed:
		return ErrFailed
	default:
		return ErrFinished
	}
}

func (d Device) flags() []string {
	if d.Flags == nil {
		return []string{}
	}
	return d.Flags
}

func (row *record) item(language string) (Item, error) {
	data, err := ParseData(row.data)
	if err != nil {
		return Item{}, fmt.Errorf("%w: %w", errStored, err)
	}
	return Item{
		ID: row.id.String(), Name: row.kind, Data: row.data, State: row.state, Types: row.types,
		CreatedAt: row.createdAt.UTC(), ExpiresAt: row.expiresAt.UTC(), Form: form(data, row.text(language)),
		FlipButtons: strings.Contains(row.riskFlags, "X"), FraudWarning: strings.Contains(row.riskFlags, "F"),
		BlockOnCall: strings.Contains(row.riskFlags, "C"), Proximity: row.seed != nil,
	}, nil
}
