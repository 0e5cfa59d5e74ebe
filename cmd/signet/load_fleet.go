package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/signature"
)

// loadMuster is how many phones are made ready, or removed, at once.
const loadMuster = 16

// simPhone is a simulated phone, used by one caller.
type simPhone struct {
	*phone
	device     *powerauth.Device
	turnedAway string // a signature that nobody looked at
}

type loadFleet []*simPhone

// muster makes the phones: those of the folder that can be read, and new ones.
func (s *loadSite) muster(ctx context.Context, o loadOptions, progress io.Writer) (loadFleet, error) {
	if o.dir != "" {
		if err := os.MkdirAll(o.dir, 0o700); err != nil {
			return nil, err
		}
	}
	if err := s.readyTemplate(ctx, o); err != nil {
		return nil, err
	}
	fleet := make(loadFleet, o.devices)
	began := time.Now()
	var made, found atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(loadMuster)
	for i := range fleet {
		g.Go(func() (err error) {
			path := ""
			if o.dir != "" {
				path = filepath.Join(o.dir, fmt.Sprintf("phone-%06d.json", i))
				if fleet[i], err = s.saved(ctx, path); err == nil {
					found.Add(1)
					return nil
				} else if !errors.Is(err, os.ErrNotExist) {
					return fmt.Errorf("%s: %w", path, err)
				}
			}
			fleet[i], err = s.activate(ctx, path)
			made.Add(1)
			return err
		})
	}
	err := g.Wait()
	fmt.Fprintf(progress, "%d phones activated, %d found, in %s\n", made.Load(), found.Load(), time.Since(began).Round(10*time.Millisecond))
	return fleet, err
}

// saved takes a phone from its file. A run that was killed did not save its counter:
// the server's is followed.
func (s *loadSite) saved(ctx context.Context, path string) (*simPhone, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	p, _, err := loadPhone(path)
	if err != nil {
		return nil, err
	}
	p.REST = s.get("SIGNET_REST")
	d, err := powerauth.Import(s.config(p), p.Activation)
	if err != nil {
		return nil, err
	}
	st, err := d.Status(ctx)
	if err == nil && st.State != "ACTIVE" {
		err = fmt.Errorf("is %s: take it away", st.State)
	}
	if err == nil && st.SignSoon {
		err = d.ValidateSignature(ctx, signature.PossessionKnowledge)
	}
	return &simPhone{phone: p, device: d}, err
}

// activate makes a user with an ACTIVE phone that has a token.
func (s *loadSite) activate(ctx context.Context, path string) (*simPhone, error) {
	login := basicLogin(s.get("SIGNET_PA_APP"))
	user := "load-" + randomName()
	var made struct{ RegistrationID, ActivationQRCodeData string }
	if err := s.call(ctx, login, "POST", "/v2/registrations", map[string]any{"userId": user, "appId": s.get("SIGNET_PA_APP_ID")}, &made); err != nil {
		return nil, fmt.Errorf("create a registration: %w", err)
	}
	p := &simPhone{phone: s.phone(path)}
	p.User = user
	d, err := powerauth.New(s.config(p.phone))
	if err != nil {
		return nil, err
	}
	if err := d.Activate(ctx, made.ActivationQRCodeData, powerauth.ActivateOptions{Name: "signet load", Platform: "android"}); err != nil {
		return nil, err
	}
	p.device = d
	if err := s.call(ctx, login, "POST", "/v2/registrations/"+made.RegistrationID+"/commit", map[string]any{}, nil); err != nil {
		return p, fmt.Errorf("commit a registration: %w", err)
	}
	_, err = p.token(ctx, d)
	return p, err
}

// keep saves the phones into their folder, or removes them from the installation.
func (f loadFleet) keep(ctx context.Context, o loadOptions) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var g errgroup.Group
	g.SetLimit(loadMuster)
	for _, p := range f {
		if p == nil || p.device == nil || p.path == "" && o.leave {
			continue
		}
		g.Go(func() error {
			if p.path != "" {
				return p.save(p.device)
			}
			err := p.device.RemoveActivation(ctx, signature.PossessionKnowledge)
			var told *powerauth.ServerError
			if errors.As(err, &told) && told.Status == http.StatusUnauthorized {
				return nil // it never became ACTIVE
			}
			return err
		})
	}
	return g.Wait()
}

// loadTemplate is the operation template that offline codes are made of.
const loadTemplate = "signet-load"

// readyTemplate makes it, unless it is there.
func (s *loadSite) readyTemplate(ctx context.Context, o loadOptions) error {
	if kinds, _ := parseMix(o.mix); !contains(kinds, "otp") {
		return nil
	}
	err := s.call(ctx, basicLogin(s.get("SIGNET_PA_ADMIN")), "POST", "/admin/templates", map[string]any{
		"templateName": loadTemplate, "operationType": "authorize_payment", "dataTemplate": "A1*A${amount}CZK*Nload",
		"signatureType": []string{"POSSESSION_KNOWLEDGE"},
		"texts":         map[string]any{"en": map[string]any{"title": "Load", "message": "A payment of signet load"}},
	}, nil)
	var told *restError
	if errors.As(err, &told) && told.status == http.StatusBadRequest {
		return nil // it is there; if it is something else, the first operation says so
	}
	return err
}
