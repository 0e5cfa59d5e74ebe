package access

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

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
	_, err = b.db.Exec(ctx, sqlCreate, t.String(), n.Username, n.Role.String(), sum, pepperVersion, b.now(), apps)
	b.verdicts.InvalidateAll()
	switch {
	case err == nil:
		return password, nil
	case pg.IsUnique(err, "access_credential_username"), pg.IsUnique(err, "access_credential_pkey"):
		return secret.Bytes{}, fmt.Errorf("create credential: %w: %w", ErrUserExists, err)
	}
	return secret.Bytes{}, pg.Unavailable(fmt.Errorf("create credential: %w", err))
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
	err = b.change(ctx, "reset", sqlReset, t.String(), username, role, sum, pepperVersion)
	if err != nil {
		return secret.Bytes{}, err
	}
	return password, nil
}

// Disable shuts a user out for good; doing so twice changes nothing. Errors:
// ErrUserUnknown, fault.ErrUnavailable.
func (b *Basic) Disable(ctx context.Context, t tenant.ID, username string) error {
	return b.change(ctx, "disable", sqlDisable, t.String(), username, b.now())
}

// Grant lets a user act for an application; doing so twice changes nothing.
// Errors: ErrCredential, ErrUserUnknown, fault.ErrUnavailable.
func (b *Basic) Grant(ctx context.Context, t tenant.ID, username, app string) error {
	if !validName(app) {
		return fmt.Errorf("grant: %w", ErrCredential.With(fault.Violation{Field: "appId", Hint: "must have 1 to 255 bytes"}))
	}
	return b.change(ctx, "grant", sqlGrant, t.String(), username, app, b.now())
}

// change runs a statement that touches a row exactly when the user exists.
func (b *Basic) change(ctx context.Context, what, sql string, args ...any) error {
	tag, err := b.db.Exec(ctx, sql, args...)
	b.verdicts.InvalidateAll()
	if err != nil {
		return pg.Unavailable(fmt.Errorf("%s credential: %w", what, err))
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("%s credential: %w", what, ErrUserUnknown)
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

func validUsername(s string) bool { return validName(s) && !strings.Contains(s, ":") }

// validName keeps out what a log, a header or PostgreSQL could stumble over.
func validName(s string) bool {
	return len(s) > 0 && len(s) <= maxName && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
