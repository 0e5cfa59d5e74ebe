package tenant

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signet-hsm/signet/fault"
)

// Length bounds of a tenant name in bytes (inventory DISC-02: the seeds give
// 1..255 and 3..255; we provision what all of them accept).
const (
	MinLen = 3
	MaxLen = 64
)

// ID names a tenant. The zero value names none.
type ID struct{ s string }

// System owns what belongs to the installation. Its name can not be parsed.
var System = ID{"_system"}

// ErrInvalid is returned for a name that no tenant can have.
var ErrInvalid = fault.New(fault.Invalid, "TENANT_INVALID",
	"tenant must be 3..64 characters of a-z, 0-9, '-', '_' or '.', starting with a letter or digit")

// Parse accepts 3..64 characters a-z 0-9 - _ . that start with a letter or a
// digit. Upper case is refused rather than folded: two spellings of one tenant
// are a hole in every comparison.
func Parse(s string) (ID, error) {
	if len(s) < MinLen || len(s) > MaxLen {
		return ID{}, ErrInvalid
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case i > 0 && (c == '-' || c == '_' || c == '.'):
		default:
			return ID{}, ErrInvalid
		}
	}
	return ID{s}, nil
}

// Stored is Parse for what stands in the database, where System has rows as well.
func Stored(s string) (ID, error) {
	if s == System.s {
		return System, nil
	}
	id, err := Parse(s)
	if err != nil {
		return id, fmt.Errorf("tenant %q: %w", s, err)
	}
	return id, nil
}

// MustParse is Parse for constants; it panics on a bad name.
func MustParse(s string) ID {
	id, err := Parse(s)
	if err != nil {
		panic(fmt.Sprintf("tenant.MustParse(%q): %v", s, err))
	}
	return id
}

// String returns the name.
func (id ID) String() string { return id.s }

// IsZero reports whether id names no tenant.
func (id ID) IsZero() bool { return id.s == "" }

// Execer is the part of a pgx pool, connection or transaction that Ensure needs.
type Execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// Ensure records the tenant; a second call changes nothing.
func Ensure(ctx context.Context, db Execer, id ID) error {
	if id.IsZero() {
		return ErrInvalid
	}
	if _, err := db.Exec(ctx, `insert into tenant (id) values ($1) on conflict do nothing`, id.s); err != nil {
		return fmt.Errorf("tenant: ensure %s: %w: %w", id, fault.ErrUnavailable, err)
	}
	return nil
}
