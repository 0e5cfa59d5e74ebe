package sdkconfig

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/tenant"
)

// Signer signs with the tenant's ACTIVE signer; *ca.Authority.
type Signer interface {
	SignWithCurrent(ctx context.Context, t tenant.ID, s ca.Statement) (string, error)
}

// Config makes a Maker. Signer is needed.
type Config struct {
	Signer Signer
	Now    func() time.Time // nil = time.Now
}

// Maker makes configurations.
type Maker struct {
	signer Signer
	now    func() time.Time
}

// New makes a Maker.
func New(c Config) (*Maker, error) {
	if c.Signer == nil {
		return nil, errors.New("sdkconfig: no signer")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Maker{c.Signer, c.Now}, nil
}

// Service is one of the services of an installation.
type Service struct {
	Name string `json:"name"` // 1..255 characters, each name once
	URL  string `json:"url"`  // as Request.ASTURL
}

// Request is what is to be signed.
type Request struct {
	TLSBundle []string  // 1..50 certificates, DER in base64 (blanks and line breaks allowed) or base64url
	ASTURL    string    // http or https, at most 256 characters; "" = none
	Services  []Service // at most 50
	Actor     string    // who asks, for the audit trail
}

// claims of the JWT, in this order.
type claims struct {
	Tenant    string    `json:"tenant"`
	IssuedAt  int64     `json:"iat"`
	TLSBundle [][]byte  `json:"tlsBundle"` // standard base64
	ASTURL    string    `json:"astUrl,omitzero"`
	Services  []Service `json:"services,omitempty"`
}

// Create checks a configuration, has it signed and returns the JWT. Errors:
// ErrRequest, ErrNoSigner, those of ca.SignWithCurrent.
func (m *Maker) Create(ctx context.Context, t tenant.ID, r Request) (string, error) {
	now := m.now()
	bundle, violations := parseBundle(r.TLSBundle, now)
	violations = append(violations, r.addresses()...)
	if len(violations) > 0 {
		return "", ErrRequest.With(violations...)
	}
	body, err := json.Marshal(claims{t.String(), now.Unix(), bundle, r.ASTURL, r.Services})
	if err != nil {
		return "", fmt.Errorf("sdkconfig: %w", err)
	}
	jwt, err := m.signer.SignWithCurrent(ctx, t, ca.Statement{
		Type: ca.SDKConfig, Claims: body, Actor: r.Actor, Detail: detail(bundle, r),
	})
	switch {
	case errors.Is(err, ca.ErrNoSigner):
		return "", fmt.Errorf("%w: %w", ErrNoSigner, err)
	case err != nil:
		return "", fmt.Errorf("sdkconfig: %w", err)
	}
	return jwt, nil
}

// detail is what the audit trail keeps: enough to tell which certificates apps
// were told to trust.
func detail(bundle [][]byte, r Request) map[string]any {
	prints := make([]string, len(bundle))
	for i, der := range bundle {
		sum := sha256.Sum256(der)
		prints[i] = hex.EncodeToString(sum[:])
	}
	return map[string]any{"tlsSha256": prints, "astUrl": r.ASTURL, "services": len(r.Services)}
}

// address is the seed's pattern.
var address = regexp.MustCompile(`^https?://[-a-zA-Z0-9+&@#/%?=~_|!:,.;]*[-a-zA-Z0-9+&@#/%=~_|]$`)

func (r *Request) addresses() []fault.Violation {
	var v []fault.Violation
	bad := func(field, hint string) { v = append(v, fault.Violation{Field: field, Hint: hint}) }
	const url = "must be an http or https URL of at most 256 characters"
	if r.ASTURL != "" && !validURL(r.ASTURL) {
		bad("astUrl", url)
	}
	if len(r.Services) > maxServices {
		bad("services", "must have at most 50 entries")
		return v
	}
	names := map[string]int{}
	for i, s := range r.Services {
		field := fmt.Sprintf("services[%d]", i)
		if n := utf8.RuneCountInString(s.Name); n == 0 || n > maxName || !utf8.ValidString(s.Name) {
			bad(field+".name", "size must be between 1 and 255")
		} else if first, twice := names[s.Name]; twice {
			bad(field+".name", fmt.Sprintf("is the name of services[%d] already", first))
		} else {
			names[s.Name] = i
		}
		if !validURL(s.URL) {
			bad(field+".url", url)
		}
	}
	return v
}

func validURL(s string) bool { return len(s) <= maxURL && address.MatchString(s) }
