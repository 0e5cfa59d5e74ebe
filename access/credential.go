package access

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/tenant"
)

// NewCredential describes a credential to create.
type NewCredential struct {
	Username string    // 1..255 bytes without colon or control characters; unique over all tenants
	Role     Privilege // PAIntegration, PAAdmin or PAInternal
	Apps     []string  // applications to grant; may be empty
}

// Create makes a credential and returns its secret, 43 characters base64url of
// 256 random bits: the only time it can be seen. Errors: ErrCredential,
// ErrUserExists, fault.ErrUnavailable.
func (b *Basic) Create(ctx context.Context, t tenant.ID, n NewCredential) (secret.Bytes, error) {
	if err := n.validate(t); err != nil {
		return secret.Bytes{}, err
	}
	password, sum, err := b.newSecret(ctx, t, n.Username, n.Role.String())
	if err != nil {
		return secret.Bytes{}, err
	}
	apps := slices.Compact(slices.Sorted(slices.Values(n.Apps)))
	err = b.change(ctx, sqlCreate, b.event(t, "create", n.Username, map[string]any{"role": n.Role.String(), "apps": apps}),
		t.String(), n.Username, n.Role.String(), sum, pepperVersion, b.now(), apps)
	switch {
	case err == nil:
		return password, nil
	case pg.IsUnique(err, "access_credential_username"), pg.IsUnique(err, "access_credential_pkey"):
		return secret.Bytes{}, fmt.Errorf("create credential: %w", ErrUserExists)
	}
	return secret.Bytes{}, fmt.Errorf("create credential: %w", err)
}

func (n NewCredential) validate(t tenant.ID) error {
	var v []fault.Violation
	if t.IsZero() || t == tenant.System {
		v = append(v, fault.Violation{Field: "tenant", Hint: "must name a tenant"})
	}
	if !validUsername(n.Username) {
		v = append(v, fault.Violation{Field: "username", Hint: "must have 1 to 255 bytes without colon or control characters"})
	}
	if basicRoles[n.Role.String()] == 0 {
		v = append(v, fault.Violation{Field: "role", Hint: "must be integration, admin or internal"})
	}
	for _, a := range n.Apps {
		if !validName(a) {
			v = append(v, fault.Violation{Field: "apps", Hint: "must be application ids of 1 to 255 bytes"})
			break
		}
	}
	if len(v) > 0 {
		return fmt.Errorf("create credential: %w", ErrCredential.With(v...))
	}
	return nil
}

// Reset replaces the secret of a user and returns the new one; the old one stops
// working. Errors: ErrUserUnknown, fault.ErrUnavailable.
func (b *Basic) Reset(ctx context.Context, t tenant.ID, username string) (secret.Bytes, error) {
	var role string
	if !validUsername(username) {
		return secret.Bytes{}, fmt.Errorf("reset credential: %w", ErrUserUnknown)
	}
	err := b.db.QueryRow(ctx, sqlRole, t.String(), username).Scan(&role)
	if errors.Is(err, pgx.ErrNoRows) {
		return secret.Bytes{}, fmt.Errorf("reset credential: %w", ErrUserUnknown)
	} else if err != nil {
		return secret.Bytes{}, pg.Unavailable(fmt.Errorf("reset credential: %w", err))
	}
	password, sum, err := b.newSecret(ctx, t, username, role)
	if err != nil {
		return secret.Bytes{}, err
	}
	err = b.change(ctx, sqlReset, b.event(t, "reset", username, nil), t.String(), username, role, sum, pepperVersion)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("reset credential: %w", err)
	}
	return password, nil
}

// Disable shuts a user out for good; doing so twice changes nothing. Errors:
// ErrUserUnknown, fault.ErrUnavailable.
func (b *Basic) Disable(ctx context.Context, t tenant.ID, username string) error {
	err := b.change(ctx, sqlDisable, b.event(t, "disable", username, nil), t.String(), username, b.now())
	if err != nil {
		return fmt.Errorf("disable credential: %w", err)
	}
	return nil
}

// Grant lets a user act for an application; doing so twice changes nothing.
// Errors: ErrCredential, ErrUserUnknown, fault.ErrUnavailable.
func (b *Basic) Grant(ctx context.Context, t tenant.ID, username, app string) error {
	if !validName(app) {
		return fmt.Errorf("grant: %w", ErrCredential.With(fault.Violation{Field: "appId", Hint: "must have 1 to 255 bytes"}))
	}
	e := b.event(t, "grant", username, nil)
	e.AppID = app
	if err := b.change(ctx, sqlGrant, e, t.String(), username, app, b.now()); err != nil {
		return fmt.Errorf("grant: %w", err)
	}
	return nil
}

// User is a credential without its secret.
type User struct {
	Username  string
	Role      Privilege
	Enabled   bool
	Apps      []string // granted, in order
	CreatedAt time.Time
}

// List returns the users of a tenant in the order of their names.
func (b *Basic) List(ctx context.Context, t tenant.ID) ([]User, error) {
	rows, err := b.db.Query(ctx, sqlUsers, t.String())
	if err != nil {
		return nil, pg.Unavailable(fmt.Errorf("list credentials: %w", err))
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (u User, err error) {
		var role string
		err = row.Scan(&u.Username, &role, &u.Enabled, &u.CreatedAt, &u.Apps)
		u.Role, u.CreatedAt = basicRoles[role], u.CreatedAt.UTC()
		return u, err
	})
	if err != nil {
		return nil, pg.Unavailable(fmt.Errorf("list credentials: %w", err))
	}
	return list, nil
}

// By returns b for changes that actor asks for: the name stands in their audit
// events, where it is "system" otherwise. Both share everything else.
func (b *Basic) By(actor string) *Basic {
	c := *b
	c.actor = actor
	return &c
}

func (b *Basic) event(t tenant.ID, what, username string, detail map[string]any) audit.Event {
	return audit.Event{
		Tenant: t, Action: "access.user." + what, Actor: b.actor, Subject: username, Outcome: "ok", Detail: detail,
	}
}

// change runs a statement that meets a row exactly when the user exists.
func (b *Basic) change(ctx context.Context, c change, e audit.Event, args ...any) error {
	if !validUsername(e.Subject) { // it is nobody's
		return ErrUserUnknown
	}
	sql := c.plain
	if b.audit != nil {
		event, err := b.audit.Args(e)
		if err != nil {
			return err
		}
		sql, args = c.audited, append(args, event...)
	}
	var users int
	err := b.db.QueryRow(ctx, sql, args...).Scan(&users)
	b.verdicts.InvalidateAll()
	if err != nil {
		return pg.Unavailable(err)
	}
	if users == 0 {
		return ErrUserUnknown
	}
	return nil
}

func (b *Basic) newSecret(ctx context.Context, t tenant.ID, username, role string) (secret.Bytes, []byte, error) {
	key, err := b.pepper.version(ctx, pepperVersion)
	if err != nil {
		return secret.Bytes{}, nil, err
	}
	password := base64.RawURLEncoding.EncodeToString(random32())
	return secret.New([]byte(password)), credentialMAC(key, t.String(), username, role, password), nil
}

func validUsername(s string) bool {
	return validName(s) && !strings.Contains(s, ":") && !slices.Contains(reserved, s)
}

// reserved are actors of the audit log that are no users: who is called like one
// could not be told from it.
var reserved = []string{"device", "system", "operator"}

// validName keeps out what a log, a header or PostgreSQL could stumble over.
func validName(s string) bool {
	return len(s) > 0 && len(s) <= maxName && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
