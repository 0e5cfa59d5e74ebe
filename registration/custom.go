package registration

import (
	"context"
	"fmt"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/tenant"
)

// ActivationProvider knows users by something else than an activation code, for
// instance a voucher or credentials of an older system.
type ActivationProvider interface {
	// Resolve says who activates. A nil *CustomUser with no error is somebody it
	// does not know. It must honour ctx; an error is an outage.
	Resolve(ctx context.Context, a CustomActivation) (*CustomUser, error)
}

// CustomActivation is what the device sent, decrypted.
type CustomActivation struct {
	Tenant   tenant.ID
	App      string
	Identity map[string]any // identityAttributes
	Custom   map[string]any // customAttributes
}

// CustomUser is whom a provider vouches for.
type CustomUser struct {
	UserID string // 1..255 characters
	Flags  []string
	Commit bool // ACTIVE at once; else the registration waits for its Commit
}

// custom makes a registration for the user that the provider names; its code
// never leaves the server.
func (r *Registrar) custom(ctx context.Context, x *exchange, outer outerRequest) error {
	if r.provider == nil {
		return ErrRequest.With(fault.Violation{Field: "activationType", Value: outer.ActivationType, Hint: "must be CODE"})
	}
	if x.device.ActivationOTP != "" { // nobody asked for one
		return ErrOTP
	}
	if _, ok := deviceKey(x.device.DevicePublicKey); !ok {
		return fmt.Errorf("%w: device key", ErrActivation)
	}
	user, err := r.provider.Resolve(ctx, CustomActivation{
		Tenant: x.version.Tenant, App: x.version.App, Identity: outer.IdentityAttributes, Custom: outer.CustomAttributes,
	})
	switch {
	case err != nil:
		return fmt.Errorf("%w: activation provider: %w", fault.ErrUnavailable, err)
	case user == nil:
		return fmt.Errorf("%w: the provider knows no such user", ErrActivation)
	}
	c, err := r.create(ctx, x.version.Tenant, CreateParams{
		Apps: []string{x.version.App}, App: x.version.App, UserID: user.UserID, Flags: user.Flags, Actor: actorDevice,
	})
	if err != nil {
		return err
	}
	x.code, x.commit = c.ActivationCode, user.Commit
	return nil
}
