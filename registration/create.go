package registration

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// CreateParams describes a new registration.
type CreateParams struct {
	Apps    []string // the applications that the caller may use; empty means none
	App     string   // 1..255 characters
	UserID  string   // 1..255 characters
	OTPMode OTPMode  // "" is OTPNone
	OTP     string   // exactly when OTPMode is not OTPNone; kept as a password hash only
	Flags   []string // each 1..255 characters, at most MaxFlags; repeats are dropped
	Actor   string   // for the audit log
}

// Created is what a new registration hands to the device.
type Created struct {
	ID             string // UUID, the activation id of the protocol
	ActivationCode string // XXXXX-XXXXX-XXXXX-XXXXX
	QRCodeData     string // the code, '#', Base64 of the master key's signature (DER)
	ExpiresAt      time.Time
}

// Create makes a registration (PA-REG-01). Errors: ErrInvalid, ErrNotFound for an
// application that is unknown or not the caller's, ErrNotAllowed.
func (r *Registrar) Create(ctx context.Context, t tenant.ID, p CreateParams) (Created, error) {
	c, err := r.create(ctx, t, p)
	if err != nil {
		return Created{}, fmt.Errorf("registration: create: %w", err)
	}
	return c, nil
}

func (r *Registrar) create(ctx context.Context, t tenant.ID, p CreateParams) (Created, error) {
	if p.OTPMode == "" {
		p.OTPMode = OTPNone
	}
	if err := p.validate(); err != nil {
		return Created{}, err
	}
	master, err := r.master(ctx, t, p.Apps, p.App)
	if err != nil {
		return Created{}, err
	}
	// Asked before the expensive part; the index decides when it comes to it.
	if err := r.noneInProgress(ctx, t, p); err != nil {
		return Created{}, err
	}
	var hash *string
	if p.OTPMode != OTPNone {
		s, err := r.hashOTP(ctx, p.OTP)
		if err != nil {
			return Created{}, err
		}
		hash = &s
	}
	id := uuid.New() // version 4: the header of a device allows no 7
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return Created{}, err
	}
	scalar := private.Bytes()
	sealed, err := r.envelope.Seal(ctx, privateField(t, id), scalar)
	clear(scalar)
	if err != nil {
		return Created{}, err
	}
	now := r.clock()
	expires := now.Add(r.validity)
	event := audit.Event{
		Tenant: t, At: now, Action: "registration.create", Actor: p.Actor, Subject: id.String(),
		UserID: p.UserID, AppID: p.App, Outcome: "ok",
		Detail: map[string]any{"otpValidation": p.OTPMode, "flags": unique(p.Flags)},
	}
	for range codeTries {
		code, qr, err := newCode(ctx, master)
		if err != nil {
			return Created{}, err
		}
		_, err = r.transit(ctx, sqlInsert, []any{
			t.String(), id, p.App, p.UserID, code, p.OTPMode, hash, unique(p.Flags),
			private.PublicKey().Bytes(), sealed, MaxFailedAttempts, expires, now,
		}, event, (&record{tenant: t, id: id, app: p.App, user: p.UserID}).told(StateCreated, ""))
		switch {
		case err == nil:
			return Created{ID: id.String(), ActivationCode: code, QRCodeData: qr, ExpiresAt: expires}, nil
		case pg.IsUnique(err, "registration_in_progress"):
			return Created{}, ErrNotAllowed
		case !pg.IsUnique(err, "registration_live_code"):
			return Created{}, err
		}
	}
	return Created{}, fmt.Errorf("%w: no free activation code", errStored)
}

// master finds the application's master key for a caller.
func (r *Registrar) master(ctx context.Context, t tenant.ID, visible []string, id string) (app.Master, error) {
	if !slices.Contains(visible, id) {
		return app.Master{}, ErrNotFound
	}
	m, err := r.apps.Master(ctx, t, id)
	if errors.Is(err, app.ErrNotFound) {
		return app.Master{}, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return m, err
}

// noneInProgress is ErrNotAllowed while a registration of the user and the
// application is in progress; one that ran out is removed.
func (r *Registrar) noneInProgress(ctx context.Context, t tenant.ID, p CreateParams) error {
	row, err := r.one(ctx, t, sqlInProgress, p.App, p.UserID)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return err
	case row.expired(r.now()):
		_, err = r.expire(ctx, row)
		return err // whoever won against it: the unique index decides
	}
	return ErrNotAllowed
}

// newCode draws an activation code and has the HSM sign it.
func newCode(ctx context.Context, master app.Master) (code, qr string, err error) {
	var random [10]byte
	_, _ = rand.Read(random[:])
	code = signature.NewActivationCode(random)
	qr, err = signCode(ctx, master, code)
	return code, qr, err
}

func signCode(ctx context.Context, master app.Master, code string) (string, error) {
	der, err := master.Sign(ctx, []byte(code))
	if err != nil {
		return "", err
	}
	return signature.ActivationQR(code, der), nil
}
