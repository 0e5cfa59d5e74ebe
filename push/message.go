package push

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/tenant"
)

// Message is a push that an application tier asks for (PA-PUSH-01). nil pointers
// are fields that the request did not have.
type Message struct {
	Apps         []string // the caller's applications; the user may have devices in each
	UserID       string   // 1..255 characters
	Registration string   // UUID: only this one, which must be the user's and ACTIVE; "" all
	Silent       bool
	Title        *string // 1..255 characters, not blank; needed unless Silent
	Body         *string // at least 1 character, not blank; needed unless Silent
	Sound        string  // "" means "default"
	Extras       map[string]any
	Actor        string // for the audit log
}

// Send has a message pushed and answers before it is. A user without a device is
// no error: a push is best effort. Errors: ErrRequest with violations; ErrMessage,
// whose text says why; fault.ErrUnavailable.
func (p *Pusher) Send(ctx context.Context, t tenant.ID, m Message) error {
	if m.Sound == "" {
		m.Sound = "default"
	}
	if err := m.validate(); err != nil {
		return fmt.Errorf("push: send: %w", err)
	}
	if m.Registration != "" {
		list, err := p.c.Registrations.Active(ctx, t, registration.ActiveQuery{Apps: m.Apps, UserID: m.UserID, ID: m.Registration})
		if err != nil {
			return fmt.Errorf("push: send: %w", err)
		}
		if len(list) == 0 {
			return fmt.Errorf("push: send: %w", message("Unable to send push message. The user has no such active registration."))
		}
		m.Apps = []string{list[0].App}
	}
	events := make([]outbox.Event, len(m.Apps))
	for i, a := range m.Apps {
		events[i] = m.event(t, a)
	}
	now := p.now()
	err := pg.InTx(ctx, p.c.DB, func(tx pgx.Tx) error {
		if err := p.c.Outbox.AddTx(ctx, tx, events...); err != nil {
			return err
		}
		for _, e := range events {
			if err := p.c.Audit.RecordTx(ctx, tx, audit.Event{
				Tenant: t, At: now, Action: "push.send", Actor: m.Actor, Subject: m.Registration,
				UserID: m.UserID, AppID: e.App, Outcome: "ok", Detail: map[string]any{"silent": m.Silent},
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("push: send: %w", pg.Unavailable(err))
	}
	return nil
}

func (m Message) event(t tenant.ID, app string) outbox.Event {
	data := map[string]any{"silent": m.Silent, "sound": m.Sound, "title": deref(m.Title), "message": deref(m.Body)}
	if len(m.Extras) > 0 {
		data["extras"] = m.Extras
	}
	return outbox.Event{
		Tenant: t, Kind: outbox.MessageSend, App: app, User: m.UserID, Registration: m.Registration, Data: data,
	}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

const hint255 = "size must be between 1 and 255"

// validate looks for broken rules first, since those are answered one by one,
// then for what makes a push impossible.
func (m Message) validate() error {
	var v violations
	if !text(m.UserID, 1, 255) {
		v.add("userId", m.UserID, hint255)
	}
	if m.Registration != "" {
		if _, err := uuid.Parse(m.Registration); err != nil {
			v.add("registrationId", m.Registration, "must be a UUID")
		}
	}
	if m.Title != nil && !text(*m.Title, 1, 255) {
		v.add("title", *m.Title, hint255)
	}
	if m.Body != nil && !text(*m.Body, 1, math.MaxInt) {
		v.add("message", short(*m.Body), "size must be between 1 and 2147483647")
	}
	if !text(m.Sound, 1, 255) {
		v.add("sound", short(m.Sound), hint255)
	}
	for _, k := range slices.Sorted(maps.Keys(m.Extras)) {
		if k == "aps" || k == "from" || k == "message_type" || strings.HasPrefix(k, "google.") || strings.HasPrefix(k, "gcm.") {
			v.add("extras."+k, nil, "is a key of the push provider")
		}
	}
	if err := v.err(); err != nil {
		return err
	}
	if !m.Silent && strings.TrimSpace(deref(m.Title)) == "" {
		return message("Unable to send push message. Title must not be blank.")
	}
	if !m.Silent && strings.TrimSpace(deref(m.Body)) == "" {
		return message("Unable to send push message. Message must not be blank.")
	}
	if size, err := m.size(); err != nil || size > maxPayload {
		return message(fmt.Sprintf("Unable to send push message. The message must not be larger than %d bytes.", maxPayload))
	}
	return nil
}

// size is what the largest form of the message takes, without the token.
func (m Message) size() (int, error) {
	e := m.event(tenant.ID{}, "")
	raw, err := json.Marshal(e.Data) // numbers and nested values as the outbox will have them
	if err != nil {
		return 0, err
	}
	if err := json.Unmarshal(raw, &e.Data); err != nil {
		return 0, err
	}
	n, err := noteOf(e, "")
	if err != nil {
		return 0, err
	}
	largest := 0
	for _, form := range []func() ([]byte, error){
		func() ([]byte, error) { return apnsPayload(n) },
		func() ([]byte, error) { return fcmPayload("", n, n.Expires) },
		func() ([]byte, error) { return hmsPayload("", n, n.Expires) },
	} {
		b, err := form()
		if err != nil {
			return 0, err
		}
		largest = max(largest, len(b))
	}
	return largest, nil
}

// short keeps a refused value from filling an answer.
func short(s string) string {
	if r := []rune(s); len(r) > 300 {
		return string(r[:300])
	}
	return s
}
