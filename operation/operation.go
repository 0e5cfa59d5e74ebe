package operation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// State is the state of an operation.
type State string

// The states of SM-06; all but the first are final.
const (
	StatePending  State = "PENDING"
	StateCanceled State = "CANCELED" // by the application tier
	StateExpired  State = "EXPIRED"
	StateApproved State = "APPROVED" // by the person
	StateRejected State = "REJECTED" // by the person
	StateFailed   State = "FAILED"   // too many failed approvals
)

// ReasonMethodGone is the reason of a cancellation because the person has no
// device left to decide with.
const ReasonMethodGone = "METHOD_NOT_AVAILABLE"

// Operation is what the applications' side sees of one.
type Operation struct {
	ID          string
	Apps        []string // the applications whose devices may decide
	UserID      string
	ExternalID  string // of the application tier; may be empty
	Flag        string // that a registration must have; may be empty
	Template    string
	Type        string
	Language    string
	Parameters  map[string]string
	Data        string // what is signed
	Types       []signature.Factor
	State       State
	Reason      string            // why it was canceled or rejected, as told; may be empty
	Additional  map[string]string // activationId, applicationId and authFactor of the decision, and more
	Failures    int64
	MaxFailures int64
	CreatedAt   time.Time
	ExpiresAt   time.Time
	FinishedAt  time.Time // zero while PENDING

	// ProximityOTP is the password of this moment, for the screen that the person
	// is to be in front of. Get fills it while the operation is PENDING.
	ProximityOTP string
}

// Devices is what operations need of package registration.
type Devices interface {
	Active(ctx context.Context, t tenant.ID, q registration.ActiveQuery) ([]registration.Registration, error)
	Get(ctx context.Context, t tenant.ID, visible []string, id string) (registration.Registration, error)
	List(ctx context.Context, t tenant.ID, visible []string, user string) ([]registration.Registration, error)
	SignPersonalized(ctx context.Context, t tenant.ID, id string, data []byte) ([]byte, error)
	VerifyOffline(ctx context.Context, t tenant.ID, req registration.OfflineRequest) (registration.Verdict, error)
}

var _ Devices = (*registration.Registrar)(nil)

// DB is what a Ledger needs of a pool.
type DB interface {
	Begin(ctx context.Context) (pgx.Tx, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

var _ DB = (*pgxpool.Pool)(nil)

// Config makes a Ledger. DB, Devices, Apps, Envelope and Audit are required.
type Config struct {
	DB       DB
	Devices  Devices // *registration.Registrar
	Apps     *app.Registry
	Envelope *envelope.Keyring
	Audit    *audit.Log
	Outbox   outbox.Queue // nil: outbox.Discard

	Sweep time.Duration // pause of Run between looks; 0: 5 s
	Batch int           // operations that Run expires in one transaction; 0: 100
	// Retention is how long Run keeps an operation after its end; 0: for ever, else
	// at least MinRetention. The audit log stays: who decided what, when and how,
	// the data as a hash.
	Retention time.Duration
	Now       func() time.Time
	Logger    *slog.Logger
	Metrics   prometheus.Registerer
}

// Validate names the first thing that is wrong.
func (c Config) Validate() error {
	switch {
	case c.DB == nil, c.Devices == nil, c.Apps == nil, c.Envelope == nil, c.Audit == nil:
		return errors.New("operation: DB, Devices, Apps, Envelope and Audit are required")
	case c.Sweep < 0, c.Batch < 0:
		return errors.New("operation: Sweep and Batch must not be negative")
	case c.Retention != 0 && c.Retention < MinRetention:
		return fmt.Errorf("operation: Retention must be at least %v", MinRetention)
	}
	return nil
}

// Ledger makes operations and decides them.
type Ledger struct {
	db       DB
	devices  Devices
	apps     *app.Registry
	envelope *envelope.Keyring
	audit    *audit.Log
	outbox   outbox.Queue
	sweep    time.Duration
	batch    int
	keep     time.Duration
	now      func() time.Time
	log      *slog.Logger
	metrics  *metrics
}

// New makes a Ledger; it does not touch the database or the HSM.
func New(c Config) (*Ledger, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Outbox == nil {
		c.Outbox = outbox.Discard
	}
	if c.Sweep == 0 {
		c.Sweep = 5 * time.Second
	}
	if c.Batch == 0 {
		c.Batch = 100
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(c.Metrics)
	if err != nil {
		return nil, err
	}
	return &Ledger{
		db: c.DB, devices: c.Devices, apps: c.Apps, envelope: c.Envelope, audit: c.Audit, outbox: c.Outbox,
		sweep: c.Sweep, batch: c.Batch, keep: c.Retention, now: c.Now, log: c.Logger, metrics: m,
	}, nil
}

// clock is the time in the precision of the database.
func (l *Ledger) clock() time.Time { return l.now().UTC().Truncate(time.Microsecond) }
