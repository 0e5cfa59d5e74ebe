package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// DefaultPeriod is how far back a Query without a From looks.
const DefaultPeriod = 30 * 24 * time.Hour

// The range of times that a Query accepts; ids hold no others.
var (
	earliest = time.Unix(0, 0)
	latest   = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// UserQuery asks for the events of one user (PA-AUD-01).
type UserQuery struct {
	UserID string
	Apps   []string  // the applications that the caller may use; empty means none
	From   time.Time // inclusive; zero: DefaultPeriod before now
	To     time.Time // inclusive to the millisecond; zero: now
}

// Item is one event as the PowerAuth API shows it. docs/divergences.md tells what
// EventType and EventData hold.
type Item struct {
	ActivationID string // empty when the event concerns no single registration
	EventType    string
	EventData    string
	Time         time.Time
}

// Query returns the events of a user, newest first and at most MaxLimit of them.
// Errors: ErrInvalid without a user, ErrPeriod, ErrUser.
func (l *Log) Query(ctx context.Context, t tenant.ID, q UserQuery) ([]Item, error) {
	items, err := l.query(ctx, t, q)
	if err != nil {
		return nil, fmt.Errorf("audit: query: %w", err)
	}
	return items, nil
}

func (l *Log) query(ctx context.Context, t tenant.ID, q UserQuery) ([]Item, error) {
	if q.UserID == "" || strings.ContainsRune(q.UserID, 0) {
		return nil, ErrInvalid.With(fault.Violation{Field: "userId", Hint: "must not be empty"})
	}
	if q.To.IsZero() {
		q.To = l.now()
	}
	if q.From.IsZero() {
		q.From = l.now().Add(-DefaultPeriod)
	}
	if q.From.Before(earliest) || q.To.After(latest) || q.From.After(q.To) {
		return nil, ErrPeriod
	}
	if len(q.Apps) == 0 {
		return nil, ErrUser
	}
	events, err := l.List(ctx, t, Filter{
		UserID: q.UserID, Apps: q.Apps, From: q.From, Limit: MaxLimit,
		To: q.To.Truncate(time.Millisecond).Add(time.Millisecond),
	})
	if err != nil {
		return nil, err
	}
	if len(events) == 0 {
		// A user is known by what happened to them: every registration left a trace.
		if known, err := l.List(ctx, t, Filter{UserID: q.UserID, Apps: q.Apps, Limit: 1}); err != nil {
			return nil, pg.Unavailable(err)
		} else if len(known) == 0 {
			return nil, ErrUser
		}
	}
	items := make([]Item, len(events))
	for i := range events {
		items[i] = item(&events[i])
	}
	return items, nil
}

func item(e *Event) Item {
	i := Item{EventType: eventType(e), EventData: eventData(e), Time: e.At}
	switch domain, _, _ := strings.Cut(e.Action, "."); domain {
	case "registration", "token": // a token's events stand under its registration
		i.ActivationID = e.Subject
	default:
		i.ActivationID, _ = e.Detail["registration"].(string)
	}
	return i
}

// eventType is the outcome of a verdict ("signature_ok"); of a change its name,
// and how it went when it did not go well.
func eventType(e *Event) string {
	if strings.Contains(e.Action, ".verify") || strings.HasPrefix(e.Outcome, "signature_") {
		return e.Outcome
	}
	name := strings.ReplaceAll(e.Action, ".", "_")
	if e.Outcome != "ok" {
		name += "_" + e.Outcome
	}
	return name
}

// eventData is three lines for what was signed, else the details as JSON.
func eventData(e *Event) string {
	method, _ := e.Detail["method"].(string)
	uri, signed := e.Detail["uriId"].(string)
	if hash, ok := e.Detail["dataHash"].(string); ok && signed {
		return method + "\n" + uri + "\nsha256:" + hash
	}
	if len(e.Detail) == 0 {
		return ""
	}
	b, err := json.Marshal(e.Detail) // sorted names; it came from JSON
	if err != nil {
		return ""
	}
	return string(b)
}
