package audit

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/signet-hsm/signet/tenant"
)

// Pack is events of one tenant and one moment that a statement writes as one row
// (docs/design/0015); AfterPack makes the end of that statement.
type Pack struct {
	tenant      tenant.ID
	at          string
	first, last uuid.UUID
	users, apps []string
	events      []byte // JSON array, not closed
}

// NewPack makes room for n events of a tenant at a time.
func NewPack(t tenant.ID, at time.Time, n int) *Pack {
	at = at.UTC().Truncate(time.Microsecond)
	id := newID(at)
	// Ids count up from here, so there must be room above.
	binary.BigEndian.PutUint64(id[8:], binary.BigEndian.Uint64(id[8:])&^(1<<61))
	return &Pack{
		tenant: t, at: at.Format(atFormat), first: id, last: id,
		users: make([]string, 0, n), events: make([]byte, 0, n*512),
	}
}

// atFormat keeps the microseconds that the database keeps.
const atFormat = "2006-01-02T15:04:05.000000Z"

var errText = errors.New("a text that can not be stored")

// Check reports, with ErrInvalid, an event that a pack refuses. Its tenant is the
// pack's and its time as well, whatever the event says.
func Check(e *Event) error {
	if e.Action == "" || e.Outcome == "" {
		return fmt.Errorf("audit: %w: action or outcome is missing", ErrInvalid)
	}
	for _, s := range [...]string{e.Action, e.Actor, e.Subject, e.UserID, e.AppID, e.Outcome} {
		if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
			return fmt.Errorf("audit: %w: %s: %w", ErrInvalid, e.Action, errText)
		}
	}
	if bytes.Contains(e.JSON, []byte(`\u0000`)) || e.Detail != nil {
		return fmt.Errorf("audit: %w: %s: detail of %w", ErrInvalid, e.Action, errText)
	}
	return nil
}

// Add appends an event that passed Check; its detail is e.JSON.
func (p *Pack) Add(e *Event) {
	b := p.events
	if len(b) == 0 {
		b = append(b, `[{"id":"`...)
	} else {
		b = append(b, `,{"id":"`...)
		binary.BigEndian.PutUint64(p.last[8:], binary.BigEndian.Uint64(p.last[8:])+1)
	}
	b = appendUUID(b, p.last)
	b = append(b, `","at":"`...)
	b = append(b, p.at...)
	b = append(b, '"')
	b = appendMember(b, `,"action":`, e.Action)
	b = appendMember(b, `,"actor":`, e.Actor)
	b = appendMember(b, `,"subject":`, e.Subject)
	b = appendMember(b, `,"user_id":`, e.UserID)
	b = appendMember(b, `,"app_id":`, e.AppID)
	b = appendMember(b, `,"outcome":`, e.Outcome)
	if e.JSON != nil {
		b = append(b, `,"detail":`...)
		b = append(b, e.JSON...)
	}
	p.events = append(b, '}')
	if e.UserID != "" {
		p.users = append(p.users, e.UserID)
	}
	if e.AppID != "" && !slices.Contains(p.apps, e.AppID) {
		p.apps = append(p.apps, e.AppID)
	}
}

func appendMember(b []byte, name, text string) []byte {
	b = append(b, name...)
	b, _ = jsontext.AppendQuote(b, text) // fails for bad UTF-8 only, which Check refused
	return b
}

func appendUUID(b []byte, id uuid.UUID) []byte {
	b = append(hex.AppendEncode(b, id[:4]), '-')
	b = append(hex.AppendEncode(b, id[4:6]), '-')
	b = append(hex.AppendEncode(b, id[6:8]), '-')
	b = append(hex.AppendEncode(b, id[8:10]), '-')
	return hex.AppendEncode(b, id[10:])
}

// Args are the five arguments of the statement that AfterPack ends; there must be
// an event.
func (p *Pack) Args() []any {
	slices.Sort(p.users)
	if p.apps == nil {
		p.apps = []string{}
	}
	return []any{
		pgtype.UUID{Bytes: p.last, Valid: true},
		pgtype.UUID{Bytes: p.first, Valid: true},
		slices.Compact(p.users), p.apps, append(p.events, ']'),
	}
}

// AfterPack returns a statement that appends the pack whose arguments start at
// $first, of the tenant $1: as it is when the condition whole holds, else those of
// its events whose number (1 and up) stands in the column n of the common table
// expression cte. The text is made of constants only; call it once, at package
// level.
func AfterPack(cte, n, whole string, first int) string {
	arg := func(i int, as string) string { return "$" + strconv.Itoa(first+i) + "::" + as }
	// It goes as bytes, which the driver copies and does not convert.
	events := "convert_from(" + arg(4, "bytea") + ", 'UTF8')"
	return `insert into audit_pack (tenant_id, id, first_id, users, apps, events)
select $1, ` + arg(0, "uuid") + `, ` + arg(1, "uuid") + `, ` + arg(2, "text[]") + `, ` + arg(3, "text[]") + `, ` + events + ` where ` + whole + `
union all
select $1, max(e.v->>'id' collate "C")::uuid, min(e.v->>'id' collate "C")::uuid,
    coalesce(array_agg(distinct e.v->>'user_id') filter (where e.v->>'user_id' <> ''), '{}'),
    coalesce(array_agg(distinct e.v->>'app_id') filter (where e.v->>'app_id' <> ''), '{}'),
    '[' || string_agg(e.v::text, ',' order by e.n) || ']'
from json_array_elements(case when ` + whole + ` then '[]' else ` + events + ` end::json) with ordinality as e (v, n)
where e.n in (select ` + n + ` from ` + cte + `)
having count(*) > 0`
}

// unpack reads the events of a pack.
func unpack(t tenant.ID, text []byte) ([]Event, error) {
	var list []struct {
		ID      uuid.UUID      `json:"id"`
		At      time.Time      `json:"at"`
		Action  string         `json:"action"`
		Actor   string         `json:"actor"`
		Subject string         `json:"subject"`
		UserID  string         `json:"user_id"`
		AppID   string         `json:"app_id"`
		Outcome string         `json:"outcome"`
		Detail  map[string]any `json:"detail"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	events := make([]Event, len(list))
	for i, p := range list {
		events[i] = Event{
			Tenant: t, ID: p.ID, At: p.At.UTC(), Action: p.Action, Actor: p.Actor, Subject: p.Subject,
			UserID: p.UserID, AppID: p.AppID, Outcome: p.Outcome, Detail: p.Detail,
		}
	}
	return events, nil
}
