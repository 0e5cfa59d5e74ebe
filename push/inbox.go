package push

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// Letter is a message to a user of an application.
type Letter struct {
	App     string
	UserID  string // 1..255 characters
	Subject string // 1..255 characters; the title of the push
	Summary string // 1..1024 characters; the text of the push
	Body    string // at most 65,536 characters
	Type    string // "text" or "html"; "" means text. HTML is for the app to clean
	Silent  bool   // push for the app only
	Actor   string // for the audit log
}

// InboxMessage is a Letter that was posted.
type InboxMessage struct {
	ID                     string // UUIDv7
	App, UserID            string
	Subject, Summary, Body string
	Type                   string
	CreatedAt              time.Time
	ReadAt                 time.Time // zero: unread
}

// Bounds of the inbox.
const (
	maxBody = 65536

	// MaxMessages is how many messages a user has in one application. The next one
	// takes the place of the oldest that was read, or else of the oldest.
	MaxMessages = 1000

	// DefaultRetention is how long a message is kept, read or not, when Config says
	// nothing, and MinRetention the least that it may say.
	DefaultRetention = 90 * 24 * time.Hour
	MinRetention     = 24 * time.Hour

	MaxPage = 1000   // messages that one call lists
	MaxSkip = 10_000 // messages that InboxQuery leaves out; from there on go by Before
)

// PostInbox stores a message in a user's inbox, which holds MaxMessages, and has mtoken.inboxMessage.new
// pushed (PUSHX-12). Errors: ErrRequest, app.ErrNotFound, fault.ErrUnavailable.
func (p *Pusher) PostInbox(ctx context.Context, t tenant.ID, l Letter) (InboxMessage, error) {
	fail := func(err error) (InboxMessage, error) { return InboxMessage{}, fmt.Errorf("push: post: %w", err) }
	if l.Type == "" {
		l.Type = "text"
	}
	if err := l.validate(); err != nil {
		return fail(err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fail(err)
	}
	m := InboxMessage{
		ID: id.String(), App: l.App, UserID: l.UserID, Subject: l.Subject, Summary: l.Summary, Body: l.Body, Type: l.Type, CreatedAt: p.now(),
	}
	err = pg.InTx(ctx, p.c.DB, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sqlPost, t.String(), m.App, m.UserID, m.ID, m.Subject, m.Summary, m.Body, m.Type, m.CreatedAt)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, sqlCrop, t.String(), m.App, m.UserID, MaxMessages); err != nil {
			return err
		}
		if err := p.c.Audit.RecordTx(ctx, tx, audit.Event{
			Tenant: t, At: m.CreatedAt, Action: "inbox.post", Actor: l.Actor, Subject: m.ID, UserID: m.UserID, AppID: m.App, Outcome: "ok",
		}); err != nil {
			return err
		}
		return p.c.Outbox.AddTx(ctx, tx, outbox.Event{
			Tenant: t, Kind: outbox.InboxMessage, App: m.App, User: m.UserID,
			Data: map[string]any{"inboxId": m.ID, "title": clipRunes(m.Subject, 255), "message": clipRunes(m.Summary, 255), "silent": l.Silent},
		})
	})
	if isForeign(err) {
		err = app.ErrNotFound
	}
	if err != nil {
		return fail(pg.Unavailable(err))
	}
	return m, nil
}

func (l Letter) validate() error {
	var v violations
	if !text(l.UserID, 1, 255) {
		v.add("userId", short(l.UserID), hint255)
	}
	if !text(l.Subject, 1, 255) {
		v.add("subject", short(l.Subject), hint255)
	}
	if !text(l.Summary, 1, 1024) {
		v.add("summary", short(l.Summary), "size must be between 1 and 1024")
	}
	if !text(l.Body, 0, maxBody) {
		v.add("body", nil, fmt.Sprintf("size must be between 0 and %d", maxBody))
	}
	if l.Type != "text" && l.Type != "html" {
		v.add("type", short(l.Type), "must be text or html")
	}
	return v.err()
}

// InboxQuery selects a user's messages in one application.
type InboxQuery struct {
	App, UserID string
	Unread      bool   // only those that were not read
	Before      string // continue below this id; "" from the newest
	Skip        int    // leave out that many: how phones page; at most MaxSkip
	Limit       int    // 0: 100; at most MaxPage
}

// Inbox lists a user's messages without their bodies, newest first. Errors:
// ErrRequest, fault.ErrUnavailable.
func (p *Pusher) Inbox(ctx context.Context, t tenant.ID, q InboxQuery) ([]InboxMessage, error) {
	before := uuid.Max
	if q.Before != "" {
		var err error
		if before, err = uuid.Parse(q.Before); err != nil {
			var v violations
			v.add("before", q.Before, "must be a UUID")
			return nil, fmt.Errorf("push: inbox: %w", v.err())
		}
	}
	if q.Skip < 0 || q.Skip > MaxSkip {
		var v violations
		v.add("skip", q.Skip, fmt.Sprintf("must be between 0 and %d", MaxSkip))
		return nil, fmt.Errorf("push: inbox: %w", v.err())
	}
	if q.Limit <= 0 {
		q.Limit = 100
	}
	rows, _ := p.c.DB.Query(ctx, sqlInbox, t.String(), q.App, q.UserID, before.String(), q.Unread, q.Skip, min(q.Limit, MaxPage))
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m InboxMessage, err error) {
		return m, m.scan(row)
	})
	if err != nil {
		return nil, pg.Unavailable(fmt.Errorf("push: inbox: %w", err))
	}
	return list, nil
}

func (m *InboxMessage) scan(row pgx.Row) error {
	var read *time.Time
	err := row.Scan(&m.ID, &m.App, &m.UserID, &m.Subject, &m.Summary, &m.Body, &m.Type, &m.CreatedAt, &read)
	m.CreatedAt = m.CreatedAt.UTC()
	if read != nil {
		m.ReadAt = read.UTC()
	}
	return err
}

// Message returns one of a user's messages with its body; this does not mark it as
// read. Errors: ErrInboxNotFound, fault.ErrUnavailable.
func (p *Pusher) Message(ctx context.Context, t tenant.ID, q InboxQuery, id string) (m InboxMessage, err error) {
	if _, err := uuid.Parse(id); err != nil || len(id) != 36 { // Parse knows forms that the database does not
		return m, fmt.Errorf("push: inbox message: %w", ErrInboxNotFound)
	}
	err = m.scan(p.c.DB.QueryRow(ctx, sqlMessage, t.String(), q.App, q.UserID, id))
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrInboxNotFound
	}
	if err != nil {
		return InboxMessage{}, pg.Unavailable(fmt.Errorf("push: inbox message: %w", err))
	}
	return m, nil
}

// Unread counts the messages that a user has not read.
func (p *Pusher) Unread(ctx context.Context, t tenant.ID, q InboxQuery) (n int, err error) {
	if err := p.c.DB.QueryRow(ctx, sqlUnread, t.String(), q.App, q.UserID).Scan(&n); err != nil {
		return 0, pg.Unavailable(fmt.Errorf("push: unread: %w", err))
	}
	return n, nil
}

// Read marks a user's message as read; again changes nothing. Errors:
// ErrInboxNotFound, fault.ErrUnavailable.
func (p *Pusher) Read(ctx context.Context, t tenant.ID, q InboxQuery, id string) error {
	if _, err := uuid.Parse(id); err != nil || len(id) != 36 { // Parse knows forms that the database does not
		return fmt.Errorf("push: read: %w", ErrInboxNotFound)
	}
	tag, err := p.c.DB.Exec(ctx, sqlRead, t.String(), q.App, q.UserID, id, p.now())
	switch {
	case err != nil:
		return pg.Unavailable(fmt.Errorf("push: read: %w", err))
	case tag.RowsAffected() == 0:
		return fmt.Errorf("push: read: %w", ErrInboxNotFound)
	}
	return nil
}

// ReadAll marks all of a user's messages as read.
func (p *Pusher) ReadAll(ctx context.Context, t tenant.ID, q InboxQuery) error {
	if _, err := p.c.DB.Exec(ctx, sqlReadAll, t.String(), q.App, q.UserID, p.now()); err != nil {
		return pg.Unavailable(fmt.Errorf("push: read all: %w", err))
	}
	return nil
}

func clipRunes(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
