package access

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/go-json-experiment/json"

	"github.com/signet-hsm/signet/fault"
)

type cachedToken struct {
	principal Principal
	until     time.Time
}

// claims are the parts of a token that signet reads. Roles stand where Keycloak
// puts the roles of a realm.
type claims struct {
	jwt.Claims
	Typ         string `json:"typ"`
	RealmAccess struct {
		Roles []string `json:"roles"`
	} `json:"realm_access"`
}

var roles = map[string]Privilege{
	AdminRead.String():  AdminRead,
	AdminWrite.String(): AdminWrite,
	ASTClient.String():  ASTClient,
}

// Authenticate checks a bearer token (without "Bearer "). Errors:
// ErrUnauthenticated, or fault.ErrUnavailable when the realm's keys can not be
// had. A good token is remembered for at most a minute.
func (rs *Realms) Authenticate(ctx context.Context, bearer string) (Principal, error) {
	p, err := rs.authenticate(ctx, bearer)
	switch {
	case err == nil:
		rs.outcomes.ok.Inc()
		return p, nil
	case errors.Is(err, fault.ErrUnavailable):
		rs.outcomes.unavailable.Inc()
		return Principal{}, err
	default:
		rs.outcomes.refused.Inc()
		return Principal{}, fmt.Errorf("bearer token: %w: %w", ErrUnauthenticated, err)
	}
}

func (rs *Realms) authenticate(ctx context.Context, bearer string) (Principal, error) {
	if len(bearer) == 0 || len(bearer) > maxToken {
		return Principal{}, fmt.Errorf("%d bytes", len(bearer))
	}
	now := rs.now()
	sum := sha256.Sum256([]byte(bearer))
	if c, ok := rs.seen.GetIfPresent(sum); ok && now.Before(c.until) {
		return c.principal, nil
	}
	// Compact form only: the JSON forms may carry several signatures.
	sig, err := jose.ParseSignedCompact(bearer, accepted)
	if err != nil {
		return Principal{}, err
	}
	h := sig.Signatures[0].Protected
	if err := checkHeader(h); err != nil {
		return Principal{}, err
	}
	// The issuer is read before the signature is checked, only to choose the keys.
	var unverified struct {
		Issuer string `json:"iss"`
	}
	if err := json.Unmarshal(sig.UnsafePayloadWithoutVerification(), &unverified); err != nil {
		return Principal{}, err
	}
	r, ok := rs.byIssuer[unverified.Issuer]
	if !ok {
		return Principal{}, errors.New("no realm has this issuer")
	}
	v, err := r.keys.verifier(ctx, h.KeyID)
	if err != nil {
		return Principal{}, err
	}
	if !slices.Contains(v.algs, jose.SignatureAlgorithm(h.Algorithm)) {
		return Principal{}, fmt.Errorf("algorithm %s with a key of another kind", h.Algorithm)
	}
	payload, err := sig.Verify(v.key)
	if err != nil {
		return Principal{}, err
	}
	p, expiry, err := r.principal(payload, now)
	if err != nil {
		return Principal{}, err
	}
	until := now.Add(tokenCached)
	if last := expiry.Add(clockSkew); last.Before(until) {
		until = last
	}
	rs.seen.Set(sum, cachedToken{p, until})
	return p, nil
}

// checkHeader refuses tokens that bring or name their own key (RFC 8725 section
// 3.10) and tokens of other kinds (section 3.11).
func checkHeader(h jose.Header) error {
	if h.KeyID == "" {
		return errors.New("kid is missing")
	}
	if h.JSONWebKey != nil {
		return errors.New("header jwk")
	}
	for _, name := range []jose.HeaderKey{"jku", "x5u", "crit", "b64"} {
		if _, ok := h.ExtraHeaders[name]; ok {
			return fmt.Errorf("header %s", name)
		}
	}
	typ, _ := h.ExtraHeaders[jose.HeaderType].(string)
	switch strings.TrimPrefix(strings.ToLower(typ), "application/") {
	case "", "jwt", "at+jwt":
		return nil
	}
	return errors.New("typ is not that of an access token")
}

// principal reads the verified payload.
func (r *realm) principal(payload []byte, now time.Time) (Principal, time.Time, error) {
	var c claims
	if err := json.Unmarshal(payload, &c); err != nil { // strict: no duplicate names, exact case
		return Principal{}, time.Time{}, err
	}
	if c.Expiry == nil {
		return Principal{}, time.Time{}, errors.New("exp is missing")
	}
	want := jwt.Expected{Issuer: r.Issuer, AnyAudience: jwt.Audience{r.Audience}, Time: now}
	if err := c.ValidateWithLeeway(want, clockSkew); err != nil {
		return Principal{}, time.Time{}, err
	}
	// Keycloak says ID in an ID token, Refresh in a refresh token.
	if c.Typ != "" && !strings.EqualFold(c.Typ, "Bearer") {
		return Principal{}, time.Time{}, errors.New("claim typ is not Bearer")
	}
	if !validName(c.Subject) {
		return Principal{}, time.Time{}, errors.New("sub is missing or not usable")
	}
	p := Principal{Tenant: r.Tenant, Name: c.Subject}
	for _, role := range c.RealmAccess.Roles {
		p.Privileges |= Any(roles[role])
	}
	return p, c.Expiry.Time(), nil
}
