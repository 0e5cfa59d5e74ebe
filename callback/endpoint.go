package callback

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/egress"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/tenant"
)

// Type says what an endpoint is told.
type Type string

// The types, as PA-X-05 names them.
const (
	Registrations Type = "REGISTRATION_STATUS_CHANGE"
	Operations    Type = "OPERATION_STATUS_CHANGE"
)

// MaxEndpoints bounds what one event can fan out to.
const MaxEndpoints = 100

// previousLife is how long the secret before a rotation still signs.
const previousLife = 24 * time.Hour

// Endpoint is a registered callback.
type Endpoint struct {
	ID        string // UUID
	App       string
	Name      string
	Type      Type
	URL       string
	CreatedAt time.Time
}

// Created is an Endpoint with its secret, which is never shown again.
type Created struct {
	Endpoint
	Secret secret.Bytes // "whsec_" and Base64, as standard-webhooks libraries take it
}

// CreateParams describes a new endpoint.
type CreateParams struct {
	App   string
	Name  string // 1..255 characters, unique in the application
	Type  Type
	URL   string // https, no user, no fragment, at most 2048 bytes
	Actor string // for the audit log
}

// Create registers an endpoint (PA-X-05). Errors: ErrInvalid with violations,
// ErrExists, ErrLimit, app.ErrNotFound, fault.ErrUnavailable.
func (c *Callbacks) Create(ctx context.Context, t tenant.ID, p CreateParams) (Created, error) {
	fail := func(err error) (Created, error) { return Created{}, fmt.Errorf("callback: create: %w", err) }
	if err := c.validate(p); err != nil {
		return fail(err)
	}
	e := Endpoint{ID: uuid.NewString(), App: p.App, Name: p.Name, Type: p.Type, URL: p.URL, CreatedAt: c.now()}
	key := newSecret()
	defer key.Wipe()
	sealed, err := c.c.Envelope.Seal(ctx, secretField(t, e.ID), key.Reveal())
	if err != nil {
		return fail(err)
	}
	err = pg.InTx(ctx, c.c.DB, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sqlCreate, t.String(), e.ID, e.App, e.Name, string(e.Type), e.URL, sealed, e.CreatedAt, MaxEndpoints)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return ErrLimit
		}
		return c.record(ctx, tx, t, "callback.create", e, p.Actor)
	})
	switch {
	case pg.IsUnique(err, "callback_endpoint_name"):
		return fail(ErrExists)
	case isForeign(err):
		return fail(app.ErrNotFound)
	case err != nil:
		return fail(pg.Unavailable(err))
	}
	return Created{e, egress.ShowSecret(key)}, nil
}

// List returns an application's endpoints in the order they were made.
func (c *Callbacks) List(ctx context.Context, t tenant.ID, appID string) ([]Endpoint, error) {
	rows, _ := c.c.DB.Query(ctx, sqlList, t.String(), appID)
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e Endpoint, err error) {
		err = row.Scan(&e.ID, &e.App, &e.Name, &e.Type, &e.URL, &e.CreatedAt)
		e.CreatedAt = e.CreatedAt.UTC()
		return e, err
	})
	if err != nil {
		return nil, pg.Unavailable(fmt.Errorf("callback: list: %w", err))
	}
	return list, nil
}

// Ref names an endpoint of an application, and who asks.
type Ref struct{ App, ID, Actor string }

// Remove ends an endpoint; what is on its way to it is dropped. Errors:
// ErrNotFound, fault.ErrUnavailable.
func (c *Callbacks) Remove(ctx context.Context, t tenant.ID, ref Ref) error {
	return c.change(ctx, t, ref, "callback.remove", func(ctx context.Context, tx pgx.Tx, id string) (pgconn.CommandTag, error) {
		return tx.Exec(ctx, sqlRemove, t.String(), ref.App, id)
	})
}

// Rotate gives an endpoint a new secret, which is shown once; the present one
// signs as well for a day. Errors: ErrNotFound, fault.ErrUnavailable.
func (c *Callbacks) Rotate(ctx context.Context, t tenant.ID, ref Ref) (secret.Bytes, error) {
	id, err := uuid.Parse(ref.ID)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("callback: rotate: %w", ErrNotFound)
	}
	key := newSecret()
	defer key.Wipe()
	sealed, err := c.c.Envelope.Seal(ctx, secretField(t, id.String()), key.Reveal())
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("callback: rotate: %w", err)
	}
	until := c.now().Add(previousLife)
	err = c.change(ctx, t, ref, "callback.rotate", func(ctx context.Context, tx pgx.Tx, id string) (pgconn.CommandTag, error) {
		return tx.Exec(ctx, sqlRotate, t.String(), ref.App, id, sealed, until)
	})
	if err != nil {
		return secret.Bytes{}, err
	}
	return egress.ShowSecret(key), nil
}

// change runs one statement about one endpoint, with its audit event.
func (c *Callbacks) change(ctx context.Context, t tenant.ID, ref Ref, action string, do func(context.Context, pgx.Tx, string) (pgconn.CommandTag, error)) error {
	id, err := uuid.Parse(ref.ID)
	if err != nil {
		return fmt.Errorf("%s: %w", action, ErrNotFound)
	}
	err = pg.InTx(ctx, c.c.DB, func(tx pgx.Tx) error {
		tag, err := do(ctx, tx, id.String())
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return ErrNotFound
		}
		return c.record(ctx, tx, t, action, Endpoint{ID: id.String(), App: ref.App}, ref.Actor)
	})
	if err != nil {
		return pg.Unavailable(fmt.Errorf("%s: %w", action, err))
	}
	return nil
}

// record writes an audit event. The URL's query stays out: backends put keys there.
func (c *Callbacks) record(ctx context.Context, tx pgx.Tx, t tenant.ID, action string, e Endpoint, actor string) error {
	var detail map[string]any
	if e.URL != "" {
		at, _, _ := strings.Cut(e.URL, "?")
		detail = map[string]any{"name": e.Name, "type": string(e.Type), "url": at}
	}
	return c.c.Audit.RecordTx(ctx, tx, audit.Event{
		Tenant: t, At: c.now(), Action: action, Actor: actor, Subject: e.ID, AppID: e.App, Outcome: "ok", Detail: detail,
	})
}

func (c *Callbacks) validate(p CreateParams) error {
	var v []fault.Violation
	if n := utf8.RuneCountInString(p.Name); n < 1 || n > 255 || !utf8.ValidString(p.Name) || strings.ContainsRune(p.Name, 0) {
		v = append(v, fault.Violation{Field: "name", Value: clip(p.Name), Hint: "size must be between 1 and 255"})
	}
	if p.Type != Registrations && p.Type != Operations {
		v = append(v, fault.Violation{Field: "type", Value: clip(string(p.Type)), Hint: "must be REGISTRATION_STATUS_CHANGE or OPERATION_STATUS_CHANGE"})
	}
	if hint := c.checkURL(p.URL); hint != "" {
		v = append(v, fault.Violation{Field: "callbackUrl", Value: clip(p.URL), Hint: hint})
	}
	if v != nil {
		return ErrInvalid.With(v...)
	}
	return nil
}

// checkURL says what is wrong with s. An address that is written out is judged
// here, so that a mistake is seen at once; a name is judged when it is dialled.
func (c *Callbacks) checkURL(s string) string {
	u, err := url.Parse(s)
	if err != nil || len(s) > 2048 || u.Host == "" || u.Hostname() == "" || u.Opaque != "" || strings.ContainsFunc(s, notGraphic) {
		return "must be an absolute URL of at most 2048 characters"
	}
	if u.Scheme != "https" && !(u.Scheme == "http" && c.c.AllowHTTP) {
		return "must be https"
	}
	if u.User != nil || u.Fragment != "" || strings.HasSuffix(s, "#") {
		return "must not have a user or a fragment"
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil && !c.guard.Permits(a) {
		return "must not lead to an internal address"
	}
	return ""
}

func notGraphic(r rune) bool { return r <= ' ' || r > '~' }

// clip keeps a refused value from filling an answer.
func clip(s string) string {
	if r := []rune(s); len(r) > 300 {
		return string(r[:300])
	}
	return s
}

func secretField(t tenant.ID, id string) envelope.Field {
	return envelope.Field{Tenant: t, Table: "callback_endpoint", Column: "secret_sealed", Row: id}
}

// isForeign reports a foreign key that points nowhere: the application is unknown.
func isForeign(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == "23503"
}

func (c *Callbacks) now() time.Time { return c.c.Now().UTC().Truncate(time.Microsecond) }
