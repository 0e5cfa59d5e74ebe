package operation

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// OfflineURI is the resource id of an offline approval.
const OfflineURI = "/operation/authorize/offline"

// QRParams names the operation to approve offline, and for whom.
type QRParams struct {
	Apps []string // the applications that the caller may use; empty means none
	ID   string
	// Registration is the device that will scan. Empty: any device of App; then
	// the code is signed by the application's master key in the HSM.
	Registration string
	App          string // only without a Registration; "" when just one can be meant
}

// QR is the content of a QR code.
type QR struct {
	Data  string // seven lines, eight with a proximity OTP
	Nonce string // Base64 of 16 bytes; OfflineOTP needs it again, it is not kept here
}

// OfflineQR makes a QR code for the offline approval of a PENDING operation
// (PA-OP-04). Every call draws a new nonce; the codes of earlier calls stay good.
// Errors: ErrNotFound, ErrState (also when the template allows neither factor
// pair of an offline OTP), registration.ErrNotFound for a registration that is
// not ACTIVE, not the user's, or lacks the flag.
func (l *Ledger) OfflineQR(ctx context.Context, t tenant.ID, p QRParams) (QR, error) {
	qr, err := l.offlineQR(ctx, t, p)
	if err != nil {
		return QR{}, fmt.Errorf("operation: offline QR: %w", err)
	}
	return qr, nil
}

func (l *Ledger) offlineQR(ctx context.Context, t tenant.ID, p QRParams) (QR, error) {
	row, err := l.offline(ctx, t, p.Apps, p.ID)
	if err != nil {
		return QR{}, err
	}
	sign, kind, err := l.offlineKey(ctx, row, p)
	if err != nil {
		return QR{}, err
	}
	words := row.text(row.language)
	q := qrCode{id: row.id.String(), title: words.Title, message: words.Message, data: row.data, flags: row.qrFlags()}
	_, _ = rand.Read(q.nonce[:]) // never fails since Go 1.24
	if q.totp, err = l.proximity(ctx, row); err != nil {
		return QR{}, err
	}
	payload := q.unsigned(kind)
	der, err := sign(ctx, payload)
	if err != nil {
		return QR{}, err
	}
	return QR{Data: signedQR(payload, der), Nonce: signature.EncodeBase64(q.nonce[:])}, nil
}

// offline is the operation if it can be approved offline now.
func (l *Ledger) offline(ctx context.Context, t tenant.ID, visible []string, id string) (*record, error) {
	row, err := l.find(ctx, t, visible, id)
	switch {
	case err != nil:
		return nil, err
	case row.state != StatePending:
		return nil, ErrState
	case !slices.Contains(row.types, signature.PossessionKnowledge) && !slices.Contains(row.types, signature.PossessionBiometry):
		return nil, fmt.Errorf("%w: the template allows no offline signature", ErrState)
	}
	return row, nil
}

type signer func(ctx context.Context, data []byte) (der []byte, err error)

func (l *Ledger) offlineKey(ctx context.Context, row *record, p QRParams) (signer, keyType, error) {
	apps := common(row.apps, p.Apps)
	if p.Registration != "" {
		found, err := l.devices.Active(ctx, row.tenant, registration.ActiveQuery{
			Apps: apps, UserID: row.user, Flag: row.flag, ID: p.Registration,
		})
		if err == nil && len(found) == 0 {
			err = registration.ErrNotFound
		}
		if err != nil {
			return nil, 0, err
		}
		return func(ctx context.Context, data []byte) ([]byte, error) {
			der, err := l.devices.SignPersonalized(ctx, row.tenant, found[0].ID, data)
			if errors.Is(err, registration.ErrChange) { // blocked or removed since the look above
				err = fmt.Errorf("%w: %w", registration.ErrNotFound, err)
			}
			return der, err
		}, keyPersonalized, nil
	}
	if p.App != "" {
		apps = common(apps, []string{p.App})
	}
	if len(apps) != 1 {
		return nil, 0, ErrInvalid.With(fault.Violation{Field: "appId", Value: p.App, Hint: "must name one application of the operation"})
	}
	master, err := l.apps.Master(ctx, row.tenant, apps[0])
	return master.Sign, keyMaster, err
}

func common(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return !slices.Contains(b, s) })
}

// qrFlags are B when biometry may approve, then the risk flags.
func (row *record) qrFlags() string {
	risk := strings.ReplaceAll(row.riskFlags, "B", "")
	if slices.Contains(row.types, signature.PossessionBiometry) {
		return "B" + risk
	}
	return risk
}
