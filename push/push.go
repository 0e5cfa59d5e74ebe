package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/tenant"
)

// Platform is a push provider.
type Platform string

// The providers.
const (
	APNs Platform = "apns" // Apple Push Notification service
	FCM  Platform = "fcm"  // Firebase Cloud Messaging
	HMS  Platform = "hms"  // Huawei Mobile Services Push Kit
)

// Registrations finds who may be told; *registration.Registrar.
type Registrations interface {
	Active(ctx context.Context, t tenant.ID, q registration.ActiveQuery) ([]registration.Registration, error)
}

// Config makes a Pusher. DB, Envelope, Audit and Registrations are required.
type Config struct {
	DB            *pgxpool.Pool
	Envelope      *envelope.Keyring
	Audit         *audit.Log
	Registrations Registrations
	Outbox        outbox.Queue // nil: outbox.Discard

	// Record takes every push instead of the providers, also for devices that
	// have told no token; for development. nil: the providers.
	Record *File
	// Endpoints are where the providers answer; empty ones are the real ones.
	Endpoints Endpoints
	Client    *http.Client  // nil: HTTP/2, proxy by environment
	Timeout   time.Duration // of one attempt; 0: 15 s
	Workers   int           // pushes at a time; 0: 16
	Retention time.Duration // of inbox messages; 0: DefaultRetention, else at least MinRetention
	Now       func() time.Time
	Logger    *slog.Logger
	Metrics   prometheus.Registerer
}

// Endpoints are base URLs without a slash at the end, and URLs of token endpoints.
type Endpoints struct {
	APNs, APNsDevelopment string
	FCM, FCMToken         string
	HMS, HMSToken         string
}

func (e *Endpoints) defaults() {
	for at, def := range map[*string]string{
		&e.APNs:            "https://api.push.apple.com",
		&e.APNsDevelopment: "https://api.sandbox.push.apple.com",
		&e.FCM:             "https://fcm.googleapis.com",
		&e.FCMToken:        "https://oauth2.googleapis.com/token",
		&e.HMS:             "https://push-api.cloud.huawei.com",
		&e.HMSToken:        "https://oauth-login.cloud.huawei.com/oauth2/v3/token",
	} {
		if *at == "" {
			*at = def
		}
	}
}

// Pusher keeps devices, credentials and the inbox, and sends.
type Pusher struct {
	c       Config
	metrics *metrics

	lanes map[Platform]chan struct{} // pushes under way at each provider

	mu      sync.Mutex // guards senders
	senders map[senderKey]liveSender
}

// New makes a Pusher; it touches neither database nor network.
func New(c Config) (*Pusher, error) {
	if c.DB == nil || c.Envelope == nil || c.Audit == nil || c.Registrations == nil {
		return nil, errors.New("push: DB, Envelope, Audit and Registrations are required")
	}
	if c.Timeout < 0 || c.Workers < 0 {
		return nil, errors.New("push: Timeout or Workers is negative")
	}
	if c.Retention != 0 && c.Retention < MinRetention {
		return nil, fmt.Errorf("push: Retention must be at least %v", MinRetention)
	}
	if c.Outbox == nil {
		c.Outbox = outbox.Discard
	}
	if c.Timeout == 0 {
		c.Timeout = 15 * time.Second
	}
	if c.Workers == 0 {
		c.Workers = 16
	}
	if c.Retention == 0 {
		c.Retention = DefaultRetention
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Client == nil {
		c.Client = &http.Client{Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 5 * time.Second,
			MaxIdleConnsPerHost: c.Workers, IdleConnTimeout: 5 * time.Minute, MaxResponseHeaderBytes: 64 << 10,
		}}
	}
	// A copy: the providers do not redirect, and a caller's client stays as it is.
	client := *c.Client
	client.Timeout = c.Timeout
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.Client = &client
	c.Endpoints.defaults()
	m, err := newMetrics(c.Metrics)
	if err != nil {
		return nil, err
	}
	lanes := map[Platform]chan struct{}{}
	for _, at := range []Platform{APNs, FCM, HMS} {
		lanes[at] = make(chan struct{}, max(1, c.Workers/2))
	}
	return &Pusher{c: c, metrics: m, lanes: lanes, senders: map[senderKey]liveSender{}}, nil
}
