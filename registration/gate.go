package registration

import (
	"context"
	"crypto/ecdh"
	"fmt"
	"time"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/fault"
)

// gateWait is how long a device waits for its turn in the HSM.
const gateWait = time.Second

// gate bounds what devices can have the HSM do at once. Whoever knows an
// application's key, which is in every copy of its app, can ask for it; callers
// with credentials must find a session free all the same.
type gate chan struct{}

func (g gate) enter(ctx context.Context) error {
	select {
	case g <- struct{}{}:
		return nil
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, gateWait)
	defer cancel()
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("too many devices at the HSM: %w: %w", fault.ErrUnavailable, ctx.Err())
	}
}

func (g gate) leave() { <-g }

// gatedMaster is an application's master key as devices may use it.
type gatedMaster struct {
	app.Master
	gate gate
}

// ECDH is app.Master's, in turn.
func (m gatedMaster) ECDH(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error) {
	if err := m.gate.enter(ctx); err != nil {
		return nil, err
	}
	defer m.gate.leave()
	return m.Master.ECDH(ctx, peer)
}

// Sign is app.Master's, in turn.
func (m gatedMaster) Sign(ctx context.Context, data []byte) ([]byte, error) {
	if err := m.gate.enter(ctx); err != nil {
		return nil, err
	}
	defer m.gate.leave()
	return m.Master.Sign(ctx, data)
}

func (r *Registrar) deviceMaster(ctx context.Context, v app.Version) (gatedMaster, error) {
	m, err := r.apps.MasterOf(ctx, v)
	return gatedMaster{m, r.gate}, err
}
