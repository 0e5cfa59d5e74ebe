package push

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/tenant"
)

// APNsCredential logs in at Apple (PA-X-03).
type APNsCredential struct {
	App           string
	Topic         string       // the app's bundle id
	KeyID, TeamID string       // 10 characters each at Apple
	Environment   string       // "development" or "production"; "" means production
	PrivateKey    secret.Bytes // Base64 of the .p8 file: PKCS #8, PEM or DER, P-256
	Actor         string       // for the audit log
}

// FCMCredential logs in at Google (PA-X-04).
type FCMCredential struct {
	App        string
	ProjectID  string
	PrivateKey secret.Bytes // Base64 of the service account's JSON file
	Actor      string
}

// HMSCredential logs in at Huawei.
type HMSCredential struct {
	App          string
	HMSAppID     string // the app's number at Huawei, which is also its client id
	ClientSecret secret.Bytes
	Actor        string
}

// stored is what is sealed; the fields of one platform are filled.
type stored struct {
	Topic       string `json:"topic,omitempty"`
	KeyID       string `json:"keyId,omitempty"`
	TeamID      string `json:"teamId,omitempty"`
	Development bool   `json:"development,omitempty"`
	ProjectID   string `json:"projectId,omitempty"`
	ClientID    string `json:"clientId,omitempty"` // e-mail of a service account, app id at Huawei
	KeyName     string `json:"keyName,omitempty"`
	Secret      []byte `json:"secret"` // PKCS #8 DER of a key, or a client secret
}

const hintName = "must be 1 to 255 characters of A-Z a-z 0-9 . - _"

// SetAPNs stores how the application logs in at Apple and replaces what was
// there. Errors: ErrRequest, app.ErrNotFound, fault.ErrUnavailable.
func (p *Pusher) SetAPNs(ctx context.Context, t tenant.ID, c APNsCredential) error {
	var v violations
	v.name("topic", c.Topic)
	v.name("keyId", c.KeyID)
	v.name("teamId", c.TeamID)
	if c.Environment != "" && c.Environment != "development" && c.Environment != "production" {
		v.add("environment", c.Environment, "must be development or production")
	}
	key, err := parseKey(c.PrivateKey)
	if err == nil {
		ec, ok := key.(*ecdsa.PrivateKey)
		if !ok || ec.Curve != elliptic.P256() {
			err = errors.New("not P-256")
		}
	}
	if err != nil {
		v.add("privateKeyBase64", nil, "must be the Base64 of Apple's .p8 file")
	}
	if err := v.err(); err != nil {
		return fmt.Errorf("push: set APNs: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("push: set APNs: %w", err)
	}
	return p.setCredential(ctx, t, c.App, APNs, c.Actor, stored{
		Topic: c.Topic, KeyID: c.KeyID, TeamID: c.TeamID, Development: c.Environment == "development", Secret: der,
	})
}

// SetFCM stores how the application logs in at Google and replaces what was
// there. The file's token_uri is not used: it would let whoever sets it make us
// call anywhere. Errors: as SetAPNs.
func (p *Pusher) SetFCM(ctx context.Context, t tenant.ID, c FCMCredential) error {
	var v violations
	v.name("projectId", c.ProjectID)
	var account struct {
		Type         string `json:"type"`
		ClientEmail  string `json:"client_email"`
		PrivateKey   string `json:"private_key"`
		PrivateKeyID string `json:"private_key_id"`
	}
	raw, err := base64.StdEncoding.DecodeString(string(c.PrivateKey.Reveal()))
	if err == nil {
		err = json.Unmarshal(raw, &account)
	}
	var key any
	if err == nil {
		key, err = parsePEM([]byte(account.PrivateKey))
	}
	if _, ok := key.(*rsa.PrivateKey); err != nil || !ok || account.Type != "service_account" || account.ClientEmail == "" {
		v.add("privateKeyBase64", nil, "must be the Base64 of a service account's JSON file")
	}
	if err := v.err(); err != nil {
		return fmt.Errorf("push: set FCM: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("push: set FCM: %w", err)
	}
	return p.setCredential(ctx, t, c.App, FCM, c.Actor, stored{
		ProjectID: c.ProjectID, ClientID: account.ClientEmail, KeyName: account.PrivateKeyID, Secret: der,
	})
}

// SetHMS stores how the application logs in at Huawei and replaces what was
// there. Errors: as SetAPNs.
func (p *Pusher) SetHMS(ctx context.Context, t tenant.ID, c HMSCredential) error {
	var v violations
	v.name("hmsAppId", c.HMSAppID)
	if n := c.ClientSecret.Len(); n == 0 || n > 255 {
		v.add("clientSecret", nil, "must be 1 to 255 characters")
	}
	if err := v.err(); err != nil {
		return fmt.Errorf("push: set HMS: %w", err)
	}
	return p.setCredential(ctx, t, c.App, HMS, c.Actor, stored{ClientID: c.HMSAppID, Secret: c.ClientSecret.Reveal()})
}

func (p *Pusher) setCredential(ctx context.Context, t tenant.ID, appID string, at Platform, actor string, s stored) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("push: set %s: %w", at, err)
	}
	defer clear(raw)
	sealed, err := p.c.Envelope.Seal(ctx, credentialField(t, appID, at), raw)
	if err != nil {
		return fmt.Errorf("push: set %s: %w", at, err)
	}
	now := p.now()
	err = pg.InTx(ctx, p.c.DB, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlSetCredential, t.String(), appID, string(at), sealed, now); err != nil {
			return err
		}
		return p.c.Audit.RecordTx(ctx, tx, audit.Event{
			Tenant: t, At: now, Action: "push.credential.set", Actor: actor, Subject: string(at), AppID: appID, Outcome: "ok",
			Detail: map[string]any{"keyId": s.KeyID, "topic": s.Topic, "projectId": s.ProjectID},
		})
	})
	if isForeign(err) {
		err = app.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("push: set %s: %w", at, pg.Unavailable(err))
	}
	return nil
}

func credentialField(t tenant.ID, appID string, at Platform) envelope.Field {
	// The platform has no colon, so the row is unambiguous.
	return envelope.Field{Tenant: t, Table: "push_credential", Column: "sealed", Row: string(at) + ":" + appID}
}

// parseKey reads a Base64 that holds PKCS #8, as PEM or as it is.
func parseKey(b64 secret.Bytes) (any, error) {
	raw, err := base64.StdEncoding.DecodeString(string(b64.Reveal()))
	if err != nil {
		return nil, errors.New("not Base64")
	}
	if key, err := x509.ParsePKCS8PrivateKey(raw); err == nil {
		return key, nil
	}
	return parsePEM(raw)
}

func parsePEM(raw []byte) (any, error) {
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, errors.New("not PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("not PKCS #8") // x509's text stays out of answers and logs
	}
	return key, nil
}

// violations collects broken rules.
type violations []fault.Violation

func (v *violations) add(field string, value any, hint string) {
	*v = append(*v, fault.Violation{Field: field, Value: value, Hint: hint})
}

// name wants what can stand in a header and a URL path as it is.
func (v *violations) name(field, s string) {
	ok := len(s) >= 1 && len(s) <= 255 && strings.Trim(s, ".") != ""
	for _, c := range s {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_')
	}
	if !ok {
		v.add(field, s, hintName)
	}
}

func (v *violations) err() error {
	if len(*v) == 0 {
		return nil
	}
	return ErrRequest.With(*v...)
}

// isForeign reports a foreign key that points nowhere: the parent is unknown.
func isForeign(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == "23503"
}

func (p *Pusher) now() time.Time { return p.c.Now().UTC().Truncate(time.Microsecond) }
