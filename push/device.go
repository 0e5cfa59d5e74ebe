package push

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/tenant"
)

// Device is where a registration's pushes go. The caller has verified that it
// speaks with the device of that registration.
type Device struct {
	Registration string
	App          string
	Platform     Platform
	Token        secret.Bytes // the provider's, 1..4096 bytes; hexadecimal for APNs
}

// SetDevice stores where a registration's pushes go; one place for each.
// Platforms of older apps, "ios" and "android", are taken as apns and fcm.
// Errors: ErrRequest, registration.ErrNotFound, fault.ErrUnavailable.
func (p *Pusher) SetDevice(ctx context.Context, t tenant.ID, d Device) error {
	switch d.Platform {
	case "ios":
		d.Platform = APNs
	case "android":
		d.Platform = FCM
	}
	var v violations
	id, err := uuid.Parse(d.Registration)
	if err != nil {
		v.add("registrationId", d.Registration, "must be a UUID")
	}
	if d.Platform != APNs && d.Platform != FCM && d.Platform != HMS {
		v.add("platform", string(d.Platform), "must be apns, fcm or hms")
	}
	token := string(d.Token.Reveal())
	if token == "" || len(token) > 4096 || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) ||
		d.Platform == APNs && !apnsToken(token) {
		v.add("token", nil, "must be a token of the platform")
	}
	if err := v.err(); err != nil {
		return fmt.Errorf("push: set device: %w", err)
	}
	sealed, err := p.c.Envelope.Seal(ctx, deviceField(t, id), d.Token.Reveal())
	if err != nil {
		return fmt.Errorf("push: set device: %w", err)
	}
	_, err = p.c.DB.Exec(ctx, sqlSetDevice, t.String(), id.String(), d.App, string(d.Platform), sealed, p.now())
	if isForeign(err) {
		err = registration.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("push: set device: %w", pg.Unavailable(err))
	}
	return nil
}

// RemoveDevice forgets where a registration's pushes go.
func (p *Pusher) RemoveDevice(ctx context.Context, t tenant.ID, id string) error {
	at, err := uuid.Parse(id)
	if err != nil {
		return nil // no registration, no device
	}
	if _, err := p.c.DB.Exec(ctx, sqlRemoveDevice, t.String(), at.String()); err != nil {
		return pg.Unavailable(fmt.Errorf("push: remove device: %w", err))
	}
	return nil
}

// device is a row of push_device, unsealed.
type device struct {
	app       string
	at        Platform
	token     secret.Bytes
	changedAt time.Time
}

// device returns nil for a registration that has told no token.
func (p *Pusher) device(ctx context.Context, t tenant.ID, id uuid.UUID) (*device, error) {
	var (
		d      device
		at     string
		sealed []byte
	)
	err := p.c.DB.QueryRow(ctx, sqlDevice, t.String(), id.String()).Scan(&d.app, &at, &sealed, &d.changedAt)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, pg.Unavailable(fmt.Errorf("push: device: %w", err))
	}
	d.at = Platform(at)
	if d.token, err = p.c.Envelope.Open(ctx, deviceField(t, id), sealed); err != nil {
		return nil, fmt.Errorf("push: device: %w", err)
	}
	return &d, nil
}

// prune deletes a token that is dead, unless the device has told another since it
// was read.
func (p *Pusher) prune(ctx context.Context, t tenant.ID, id uuid.UUID, d *device, reason string) error {
	now := p.now()
	err := pg.InTx(ctx, p.c.DB, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sqlPruneDevice, t.String(), id.String(), d.changedAt)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return p.c.Audit.RecordTx(ctx, tx, audit.Event{
			Tenant: t, At: now, Action: "push.device.prune", Actor: "system", Subject: id.String(), AppID: d.app, Outcome: reason,
			Detail: map[string]any{"platform": string(d.at)},
		})
	})
	if err != nil {
		return pg.Unavailable(fmt.Errorf("push: prune: %w", err))
	}
	return nil
}

func deviceField(t tenant.ID, id uuid.UUID) envelope.Field {
	return envelope.Field{Tenant: t, Table: "push_device", Column: "token_sealed", Row: id.String()}
}

// text reports whether s has low..high characters that PostgreSQL can store.
func text(s string, low, high int) bool {
	n := utf8.RuneCountInString(s)
	return n >= low && n <= high && utf8.ValidString(s) && !strings.ContainsRune(s, 0)
}
