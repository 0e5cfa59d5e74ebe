package registration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// Registration is what the applications' side sees of one. Which fields are
// filled depends on the state, as the four shapes of PA-REG-03 do.
type Registration struct {
	ID            string
	App           string
	UserID        string
	State         State
	Flags         []string
	CreatedAt     time.Time
	LastUsedAt    time.Time
	QRCodeData    string // Get in CREATED only: the code, signed anew
	Name          string // from the key exchange on
	Platform      string // ios, android, hw or unknown; from the key exchange on
	DeviceInfo    string // from the key exchange on
	Fingerprint   string // 8 digits, both sides show them; from the key exchange on
	BlockedReason string // BLOCKED only
}

// Get returns a registration (PA-REG-03). visible are the caller's applications.
func (r *Registrar) Get(ctx context.Context, t tenant.ID, visible []string, id string) (Registration, error) {
	reg, err := r.get(ctx, t, visible, id)
	if err != nil {
		return Registration{}, fmt.Errorf("registration: get: %w", err)
	}
	return reg, nil
}

func (r *Registrar) get(ctx context.Context, t tenant.ID, visible []string, id string) (Registration, error) {
	row, err := r.find(ctx, t, visible, id)
	if err != nil {
		return Registration{}, err
	}
	if row.expired(r.now()) {
		if _, err := r.expire(ctx, row); err != nil {
			return Registration{}, err
		}
		if row, err = r.find(ctx, t, visible, id); err != nil {
			return Registration{}, err
		}
	}
	if row.state == StateRemoved {
		return Registration{}, ErrNotFound
	}
	reg, err := row.view()
	if err != nil || row.state != StateCreated {
		return reg, err
	}
	master, err := r.master(ctx, t, visible, row.app)
	if err != nil {
		return Registration{}, err
	}
	reg.QRCodeData, err = signCode(ctx, master, row.code)
	return reg, err
}

// List returns the registrations of a user that are not REMOVED, newest first
// (PA-REG-04); a user without any has an empty list.
func (r *Registrar) List(ctx context.Context, t tenant.ID, visible []string, user string) ([]Registration, error) {
	list, err := r.list(ctx, t, visible, user)
	if err != nil {
		return nil, fmt.Errorf("registration: list: %w", err)
	}
	return list, nil
}

func (r *Registrar) list(ctx context.Context, t tenant.ID, visible []string, user string) ([]Registration, error) {
	if !ValidText(user) {
		return nil, ErrNotFound
	}
	if visible == nil {
		visible = []string{}
	}
	rows, err := r.db.Query(ctx, sqlByUser, t.String(), user, visible, MaxList)
	if err != nil {
		return nil, pg.Unavailable(err)
	}
	found, err := pgx.CollectRows(rows, func(s pgx.CollectableRow) (*record, error) {
		row := &record{tenant: t}
		return row, row.scan(s)
	})
	if err != nil {
		return nil, pg.Unavailable(err)
	}
	list := make([]Registration, 0, len(found))
	for _, row := range found {
		if row.expired(r.now()) {
			won, err := r.expire(ctx, row)
			if err != nil {
				return nil, err
			}
			if !won {
				row, err = r.find(ctx, t, visible, row.id.String())
			}
			switch {
			case won, errors.Is(err, ErrNotFound), err == nil && row.state == StateRemoved:
				continue
			case err != nil:
				return nil, err
			}
		}
		reg, err := row.view()
		if err != nil {
			return nil, err
		}
		list = append(list, reg)
	}
	return list, nil
}

// find reads the row if the caller may see it; all other cases are ErrNotFound.
func (r *Registrar) find(ctx context.Context, t tenant.ID, visible []string, id string) (*record, error) {
	key, ok := parseID(id)
	if !ok {
		return nil, ErrNotFound
	}
	row, err := r.one(ctx, t, sqlByID, key)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(visible, row.app) {
		return nil, ErrNotFound
	}
	return row, nil
}

// parseID reads a UUID in its usual form, in any case; uuid.Parse alone knows
// more spellings.
func parseID(s string) (uuid.UUID, bool) {
	if len(s) != 36 {
		return uuid.UUID{}, false
	}
	id, err := uuid.Parse(s)
	return id, err == nil
}

func (row *record) view() (Registration, error) {
	fingerprint, err := row.fingerprint()
	if err != nil {
		return Registration{}, err
	}
	reg := Registration{
		ID: row.id.String(), App: row.app, UserID: row.user, State: row.state, Flags: row.flags,
		CreatedAt: row.createdAt.UTC(), LastUsedAt: row.lastUsedAt.UTC(),
		Name: row.name, Platform: row.platform, DeviceInfo: row.device, Fingerprint: fingerprint,
	}
	if row.blocked != nil && row.state == StateBlocked {
		reg.BlockedReason = *row.blocked
	}
	return reg, nil
}
