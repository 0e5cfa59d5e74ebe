package push

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"

	"github.com/jackc/pgx/v5"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/oauth2/jwt"

	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// sender pushes through one provider as one application. It answers errDead for a
// dead token; the other errors carry what internal/outbox needs to know.
type sender interface {
	send(ctx context.Context, token string, n Note) error
}

type senderKey struct {
	tenant tenant.ID
	app    string
	at     Platform
}

type liveSender struct {
	revision int64
	sender   sender
}

// sender returns the application's sender; nil when it has no credential. The
// row is read each time, and unsealed when it has changed.
func (p *Pusher) sender(ctx context.Context, key senderKey) (sender, error) {
	var (
		sealed   []byte
		revision int64
	)
	err := p.c.DB.QueryRow(ctx, sqlCredential, key.tenant.String(), key.app, string(key.at)).Scan(&sealed, &revision)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, pg.Unavailable(fmt.Errorf("push: credential: %w", err))
	}
	p.mu.Lock()
	live := p.senders[key]
	p.mu.Unlock()
	if live.revision == revision {
		return live.sender, nil
	}
	raw, err := p.c.Envelope.Open(ctx, credentialField(key.tenant, key.app, key.at), sealed)
	if err != nil {
		return nil, fmt.Errorf("push: credential: %w", err)
	}
	defer raw.Wipe()
	var s stored
	if err := json.Unmarshal(raw.Reveal(), &s); err != nil {
		return nil, fmt.Errorf("push: %w: %s", ErrCredential, key.at)
	}
	made, err := p.newSender(key.at, s)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := p.senders[key]; now.revision >= revision { // made by another worker meanwhile
		return now.sender, nil
	}
	p.senders[key] = liveSender{revision, made}
	return made, nil
}

func (p *Pusher) newSender(at Platform, s stored) (sender, error) {
	switch at {
	case APNs:
		key, err := x509.ParsePKCS8PrivateKey(s.Secret)
		ec, ok := key.(*ecdsa.PrivateKey)
		if err != nil || !ok {
			return nil, fmt.Errorf("push: %w: %s", ErrCredential, at)
		}
		base := p.c.Endpoints.APNs
		if s.Development {
			base = p.c.Endpoints.APNsDevelopment
		}
		return &apns{client: p.c.Client, base: base, topic: s.Topic, keyID: s.KeyID, teamID: s.TeamID, key: ec, now: p.c.Now}, nil
	case FCM:
		c := jwt.Config{
			Email: s.ClientID, PrivateKeyID: s.KeyName, Scopes: []string{fcmScope}, TokenURL: p.c.Endpoints.FCMToken,
			PrivateKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: s.Secret}),
		}
		return &fcm{
			client: p.c.Client, url: p.c.Endpoints.FCM + "/v1/projects/" + s.ProjectID + "/messages:send", now: p.c.Now,
			login: &login{fresh: tokenFunc(func() (*oauth2.Token, error) { return c.TokenSource(p.loginContext()).Token() })},
		}, nil
	case HMS:
		c := clientcredentials.Config{
			ClientID: s.ClientID, ClientSecret: string(s.Secret), TokenURL: p.c.Endpoints.HMSToken, AuthStyle: oauth2.AuthStyleInParams,
		}
		return &hms{
			client: p.c.Client, url: p.c.Endpoints.HMS + "/v1/" + s.ClientID + "/messages:send", now: p.c.Now,
			login: &login{fresh: tokenFunc(func() (*oauth2.Token, error) { return c.Token(p.loginContext()) })},
		}, nil
	}
	return nil, fmt.Errorf("push: %w: no platform %q", ErrCredential, at)
}

// loginContext hands our client to the library. A login serves everybody who
// waits for it, so it ends by the client's time-out and not with one delivery.
func (p *Pusher) loginContext() context.Context {
	client := *p.c.Client
	client.Transport = limited{client.Transport}
	return context.WithValue(context.Background(), oauth2.HTTPClient, &client)
}

// limited bounds what the library reads of an answer.
type limited struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	next := l.next
	if next == nil {
		next = http.DefaultTransport
	}
	res, err := next.RoundTrip(r)
	if err == nil {
		res.Body = http.MaxBytesReader(nil, res.Body, maxAnswer)
	}
	return res, err
}

type tokenFunc func() (*oauth2.Token, error)

// Token implements oauth2.TokenSource.
func (f tokenFunc) Token() (*oauth2.Token, error) { return f() }
