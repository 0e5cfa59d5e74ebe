package registration

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// record is a row as every use case but Verify reads it: without the secrets
// that only one of them needs.
type record struct {
	tenant       tenant.ID
	id           uuid.UUID
	app, user    string
	code         string
	state        State
	otpMode      OTPMode
	otpHash      *string
	flags        []string
	name         string
	platform     string
	device       string
	devicePublic []byte
	serverPublic []byte
	failed, max  int
	blocked      *string
	revision     int64
	expiresAt    time.Time
	createdAt    time.Time
	lastUsedAt   time.Time
}

func (row *record) scan(s pgx.Row) error {
	var owner string
	err := s.Scan(&owner, &row.id, &row.app, &row.user, &row.code, &row.state, &row.otpMode, &row.otpHash,
		&row.flags, &row.name, &row.platform, &row.device, &row.devicePublic, &row.serverPublic,
		&row.failed, &row.max, &row.blocked, &row.revision, &row.expiresAt, &row.createdAt, &row.lastUsedAt)
	if err == nil && owner != row.tenant.String() {
		return fmt.Errorf("%w: row of another tenant", errStored)
	}
	return err
}

// one reads a single row; none is ErrNotFound.
func (r *Registrar) one(ctx context.Context, t tenant.ID, sql string, args ...any) (*record, error) {
	row := &record{tenant: t}
	err := row.scan(r.db.QueryRow(ctx, sql, append([]any{t.String()}, args...)...))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, ErrNotFound
	case err != nil:
		return nil, pg.Unavailable(err)
	}
	return row, nil
}

// expired reports whether the row may not stay in progress at now.
func (row *record) expired(now time.Time) bool {
	return row.state.inProgress() && !now.Before(row.expiresAt)
}

// event is an audit event about the row.
func (row *record) event(at time.Time, action, actor, outcome string) audit.Event {
	return audit.Event{
		Tenant: row.tenant, At: at, Action: action, Actor: actor, Subject: row.id.String(),
		UserID: row.user, AppID: row.app, Outcome: outcome,
	}
}

// told is what the outside hears when the row moves to a state.
func (row *record) told(to State, blockedReason string) outbox.Event {
	data := map[string]any{"status": string(to)}
	if blockedReason != "" {
		data["blockedReason"] = blockedReason
	}
	return outbox.Event{
		Tenant: row.tenant, Kind: outbox.RegistrationChanged,
		App: row.app, User: row.user, Registration: row.id.String(), Data: data,
	}
}
