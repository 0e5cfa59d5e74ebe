package operation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/signet-hsm/signet/otp"
	"github.com/signet-hsm/signet/tenant"
)

// Get returns an operation (PA-OP-02). visible are the caller's applications.
// Expiry is applied first. Error: ErrNotFound.
func (l *Ledger) Get(ctx context.Context, t tenant.ID, visible []string, id string) (Operation, error) {
	op, err := l.get(ctx, t, visible, id)
	if err != nil {
		return Operation{}, fmt.Errorf("operation: get: %w", err)
	}
	return op, nil
}

func (l *Ledger) get(ctx context.Context, t tenant.ID, visible []string, id string) (Operation, error) {
	row, err := l.find(ctx, t, visible, id)
	if err != nil {
		return Operation{}, err
	}
	op := row.view()
	if row.state == StatePending {
		if op.ProximityOTP, err = l.proximity(ctx, row); err != nil {
			return Operation{}, err
		}
	}
	return op, nil
}

// find is current for a caller of the applications' side.
func (l *Ledger) find(ctx context.Context, t tenant.ID, visible []string, id string) (*record, error) {
	row, err := l.current(ctx, t, id)
	if err != nil {
		return nil, err
	}
	if !row.visible(visible) {
		return nil, ErrNotFound
	}
	return row, nil
}

// proximity is the TOTP of this moment; "" when there is no proximity check.
func (l *Ledger) proximity(ctx context.Context, row *record) (string, error) {
	if row.seed == nil {
		return "", nil
	}
	seed, err := l.envelope.Open(ctx, seedField(row.tenant, row.id), row.seed)
	if err != nil {
		return "", err
	}
	defer seed.Wipe()
	return otp.Proximity.At(seed.Reveal(), l.now())
}

// dataHash stands for the data in the audit log.
func (row *record) dataHash() string {
	sum := sha256.Sum256([]byte(row.data))
	return hex.EncodeToString(sum[:])
}
