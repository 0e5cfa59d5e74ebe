package powerauth

import (
	"context"
	"fmt"

	"github.com/signet-hsm/signet/signature"
)

// PushTarget is where this device's pushes go.
type PushTarget struct {
	Platform string `json:"platform"` // "apns", "fcm" or "hms"
	Token    string `json:"token"`    // the provider's
}

// RegisterPush tells where pushes go, and replaces what was told before; the
// device signs for it.
func (d *Device) RegisterPush(ctx context.Context, p PushTarget, f signature.Factor) error {
	var out objectResponse[struct{}]
	err := d.signedPost(ctx, endpoint{path: "/api/push/device/register", uriID: "/push/device/register"}, f, p, &out)
	if err != nil {
		return fmt.Errorf("register push: %w", err)
	}
	return nil
}

// RegisterPushByToken is RegisterPush without a signature, which is what an app
// does when its provider changes the token while nobody is looking.
func (d *Device) RegisterPushByToken(ctx context.Context, p PushTarget, t Token) error {
	var out objectResponse[struct{}]
	if err := d.byToken(ctx, t, "/api/push/device/register/token", p, &out); err != nil {
		return fmt.Errorf("register push: %w", err)
	}
	return nil
}
