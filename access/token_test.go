package access_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/tenant"
)

const (
	issuer   = "https://idp.example/realms/alpha"
	audience = "signet"
)

var alpha, beta = tenant.MustParse("alpha"), tenant.MustParse("beta")

// clock is a time that tests move.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time       { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) step(d time.Duration) { c.offset.Add(int64(d)) }

// idp is a JWKS endpoint that can be broken and rotated.
type idp struct {
	*httptest.Server
	mu      sync.Mutex
	keys    []jose.JSONWebKey
	down    bool
	fetches int
}

func newIDP(t *testing.T, keys ...jose.JSONWebKey) *idp {
	p := &idp{keys: keys}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.fetches++
		if p.down {
			http.Error(w, "maintenance", http.StatusBadGateway)
			return
		}
		_, _ = w.Write(jwks(p.keys...))
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *idp) set(down bool, keys ...jose.JSONWebKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down, p.keys = down, keys
}

func (p *idp) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetches
}

func jwks(keys ...jose.JSONWebKey) []byte {
	set := jose.JSONWebKeySet{}
	for _, k := range keys {
		set.Keys = append(set.Keys, k.Public())
	}
	b, err := json.Marshal(set)
	if err != nil {
		panic(err)
	}
	return b
}

func ecKey(t *testing.T, kid string, curve elliptic.Curve) jose.JSONWebKey {
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	require.NoError(t, err)
	return jose.JSONWebKey{Key: k, KeyID: kid, Use: "sig"}
}

func good(now time.Time) map[string]any {
	return map[string]any{
		"iss": issuer, "aud": []string{"account", audience}, "sub": "op-1", "typ": "Bearer",
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Minute).Unix(),
		"realm_access": map[string]any{"roles": []string{"admin-read", "offline_access"}},
	}
}

func with(c map[string]any, k string, v any) map[string]any {
	if v == nil {
		delete(c, k)
	} else {
		c[k] = v
	}
	return c
}

func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, claims map[string]any, o *jose.SignerOptions) string {
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, o)
	require.NoError(t, err)
	tok, err := jwt.Signed(s).Claims(claims).Serialize()
	require.NoError(t, err)
	return tok
}

func realms(t *testing.T, url string, now func() time.Time) *access.Realms {
	r, err := access.NewRealms(access.RealmsConfig{
		Realms: []access.Realm{
			{Tenant: alpha, Issuer: issuer, Audience: audience, JWKSURL: url},
			{Tenant: beta, Issuer: "https://idp.example/realms/beta", Audience: audience, JWKSURL: url + "/beta"},
		}, Now: now,
	})
	require.NoError(t, err)
	return r
}

func TestBearerOfEachAlgorithm(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	p256, p384 := ecKey(t, "p256", elliptic.P256()), ecKey(t, "p384", elliptic.P384())
	rsaJWK := jose.JSONWebKey{Key: rsaKey, KeyID: "rsa"}
	edJWK := jose.JSONWebKey{Key: edKey, KeyID: "ed", Algorithm: "EdDSA"}
	p := newIDP(t, rsaJWK, edJWK, p256, p384)
	r := realms(t, p.URL, nil)
	for alg, key := range map[jose.SignatureAlgorithm]jose.JSONWebKey{
		jose.RS256: rsaJWK, jose.PS256: rsaJWK, jose.ES256: p256, jose.ES384: p384, jose.EdDSA: edJWK,
	} {
		got, err := r.Authenticate(t.Context(), sign(t, alg, key, good(time.Now()), nil))
		require.NoError(t, err, alg)
		require.Equal(t, access.Principal{Tenant: alpha, Name: "op-1", Privileges: access.Any(access.AdminRead)}, got, alg)
	}
	require.Equal(t, 1, p.count(), "one fetch serves all")
}

// Tokens that must be refused, each wrong in one way, in the manner of the
// Wycheproof JWS set: algorithm confusion, keys brought along, claims.
func TestBearerConfusion(t *testing.T) {
	t.Parallel()
	ours, theirs := ecKey(t, "k1", elliptic.P256()), ecKey(t, "k1", elliptic.P256())
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	rsaJWK := jose.JSONWebKey{Key: rsaKey, KeyID: "r1", Algorithm: "RS256"}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	weakJWK := jose.JSONWebKey{Key: weak, KeyID: "weak"}
	enc := ecKey(t, "enc", elliptic.P256())
	enc.Use = "enc"
	p := newIDP(t, ours, rsaJWK, weakJWK, enc)
	r := realms(t, p.URL, nil)

	now := time.Now()
	tok := func(c map[string]any) string { return sign(t, jose.ES256, ours, c, nil) }
	header := func(name jose.HeaderKey, v any) string {
		return sign(t, jose.ES256, ours, good(now), (&jose.SignerOptions{}).WithHeader(name, v))
	}
	raw := func(h string, claims map[string]any, sig string) string {
		c, err := json.Marshal(claims)
		require.NoError(t, err)
		return b64([]byte(h)) + "." + b64(c) + "." + sig
	}
	pemKey := func(pub crypto.PublicKey) []byte {
		der, err := x509.MarshalPKIXPublicKey(pub)
		require.NoError(t, err)
		return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}
	hs := func(secret []byte) string {
		return sign(t, jose.HS256, jose.JSONWebKey{Key: secret, KeyID: "r1"}, good(now), nil)
	}
	valid := tok(good(now))
	parts := strings.Split(valid, ".")
	general := `{"payload":"` + parts[1] + `","signatures":[` +
		`{"protected":"` + parts[0] + `","signature":"` + parts[2] + `"},` +
		`{"protected":"` + parts[0] + `","signature":"` + parts[2] + `"}]}`
	flattened := `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`

	_, err = r.Authenticate(t.Context(), valid)
	require.NoError(t, err, "the control token")

	for name, bad := range map[string]string{
		"empty":                 "",
		"not a token":           "abc",
		"two parts":             parts[0] + "." + parts[1],
		"none":                  raw(`{"alg":"none","kid":"k1"}`, good(now), ""),
		"None":                  raw(`{"alg":"None","kid":"k1"}`, good(now), ""),
		"none with signature":   raw(`{"alg":"none","kid":"k1"}`, good(now), parts[2]),
		"alg missing":           raw(`{"kid":"k1"}`, good(now), parts[2]),
		"alg twice":             raw(`{"alg":"none","alg":"ES256","kid":"k1"}`, good(now), parts[2]),
		"signature dropped":     parts[0] + "." + parts[1] + ".",
		"signature of another":  parts[0] + "." + b64(mustJSON(t, with(good(now), "sub", "root"))) + "." + parts[2],
		"all-zero signature":    parts[0] + "." + parts[1] + "." + b64(make([]byte, 64)),
		"two signatures":        general,
		"flattened JSON":        flattened,
		"HS256 public key PEM":  hs(pemKey(rsaKey.Public())),
		"HS256 public key DER":  hs(x509.MarshalPKCS1PublicKey(&rsaKey.PublicKey)),
		"RS512":                 sign(t, jose.RS512, rsaJWK, good(now), nil),
		"PS256 with RS256 key":  sign(t, jose.PS256, jose.JSONWebKey{Key: rsaKey, KeyID: "r1"}, good(now), nil),
		"weak RSA":              sign(t, jose.RS256, weakJWK, good(now), nil),
		"encryption key":        sign(t, jose.ES256, enc, good(now), nil),
		"foreign key, our kid":  sign(t, jose.ES256, theirs, good(now), nil),
		"kid missing":           sign(t, jose.ES256, ours.Key, good(now), nil),
		"kid of another key":    sign(t, jose.ES256, jose.JSONWebKey{Key: ours.Key, KeyID: "r1"}, good(now), nil),
		"embedded jwk":          sign(t, jose.ES256, theirs, good(now), &jose.SignerOptions{EmbedJWK: true}),
		"embedded own jwk":      sign(t, jose.ES256, ours, good(now), (&jose.SignerOptions{}).WithHeader("kid", "k1").WithHeader("jwk", ours.Public())),
		"jku":                   header("jku", p.URL),
		"x5u":                   header("x5u", p.URL),
		"crit":                  header("crit", []string{"exp"}),
		"b64 false":             header("b64", false),
		"ID token by header":    header("typ", "secevent+jwt"),
		"ID token by claim":     tok(with(good(now), "typ", "ID")),
		"refresh token":         tok(with(good(now), "typ", "Refresh")),
		"iss wrong":             tok(with(good(now), "iss", "https://evil.example")),
		"iss missing":           tok(with(good(now), "iss", nil)),
		"iss a list":            tok(with(good(now), "iss", []string{issuer})),
		"iss with slash":        tok(with(good(now), "iss", issuer+"/")),
		"iss upper case":        tok(with(good(now), "iss", strings.ToUpper(issuer))),
		"aud wrong":             tok(with(good(now), "aud", "account")),
		"aud missing":           tok(with(good(now), "aud", nil)),
		"aud prefix":            tok(with(good(now), "aud", audience+"x")),
		"exp past":              tok(with(good(now), "exp", now.Add(-31*time.Second).Unix())),
		"exp missing":           tok(with(good(now), "exp", nil)),
		"exp a string":          tok(with(good(now), "exp", "9999999999")),
		"nbf future":            tok(with(good(now), "nbf", now.Add(40*time.Second).Unix())),
		"iat future":            tok(with(good(now), "iat", now.Add(40*time.Second).Unix())),
		"sub missing":           tok(with(good(now), "sub", nil)),
		"sub with line break":   tok(with(good(now), "sub", "a\nlevel=ERROR")),
		"roles of another form": tok(with(good(now), "realm_access", []string{"admin-read"})),
		"oversize":              tok(with(good(now), "x", strings.Repeat("x", 20_000))),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := r.Authenticate(t.Context(), bad)
			require.ErrorIs(t, err, access.ErrUnauthenticated)
			require.Equal(t, fault.Unauthenticated, fault.KindOf(err))
		})
	}

	for name, ok := range map[string]string{
		"exp within skew": tok(with(good(now), "exp", now.Add(-20*time.Second).Unix())),
		"nbf within skew": tok(with(good(now), "nbf", now.Add(20*time.Second).Unix())),
		"aud one string":  tok(with(good(now), "aud", audience)),
		"typ at+jwt":      header("typ", "application/at+jwt"),
		"no typ claim":    tok(with(good(now), "typ", nil)),
		"no roles":        tok(with(good(now), "realm_access", nil)),
	} {
		_, err := r.Authenticate(t.Context(), ok)
		require.NoError(t, err, name)
	}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func mustJSON(t *testing.T, v any) []byte {
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return b
}

func TestRolesNeverGiveMoreThanTheyName(t *testing.T) {
	t.Parallel()
	key := ecKey(t, "k1", elliptic.P256())
	r := realms(t, newIDP(t, key).URL, nil)
	for _, c := range []struct {
		roles []string
		want  access.Set
	}{
		{nil, 0},
		{[]string{"ADMIN-READ", "admin", "integration", "internal", "public", ""}, 0},
		{[]string{"admin-write"}, access.Any(access.AdminWrite)},
		{[]string{"ast-client", "admin-read"}, access.Any(access.ASTClient, access.AdminRead)},
	} {
		claims := with(good(time.Now()), "realm_access", map[string]any{"roles": c.roles})
		p, err := r.Authenticate(t.Context(), sign(t, jose.ES256, key, claims, nil))
		require.NoError(t, err)
		require.Equal(t, c.want, p.Privileges, "%v", c.roles)
	}
}

func TestTokenIsRememberedButNotPastItsEnd(t *testing.T) {
	t.Parallel()
	key, clk := ecKey(t, "k1", elliptic.P256()), &clock{}
	r := realms(t, newIDP(t, key).URL, clk.now)
	token := sign(t, jose.ES256, key, with(good(clk.now()), "exp", clk.now().Add(10*time.Second).Unix()), nil)
	for range 2 {
		_, err := r.Authenticate(t.Context(), token)
		require.NoError(t, err)
	}
	clk.step(42 * time.Second) // past exp and skew, within a minute of the first use
	_, err := r.Authenticate(t.Context(), token)
	require.ErrorIs(t, err, access.ErrUnauthenticated)
}

func TestKeyRotation(t *testing.T) {
	t.Parallel()
	old, fresh, clk := ecKey(t, "old", elliptic.P256()), ecKey(t, "fresh", elliptic.P256()), &clock{}
	p := newIDP(t, old)
	r := realms(t, p.URL, clk.now)
	use := func(key jose.JSONWebKey, sub string) error {
		c := with(with(good(clk.now()), "sub", sub), "exp", clk.now().Add(time.Hour).Unix())
		_, err := r.Authenticate(t.Context(), sign(t, jose.ES256, key, c, nil))
		return err
	}
	require.NoError(t, use(old, "a"))
	p.set(false, fresh)

	// An unknown kid fetches, but not within the pause after the last fetch, and a
	// flood of unknown kids makes one fetch in all.
	require.ErrorIs(t, use(fresh, "b"), access.ErrUnauthenticated)
	require.Equal(t, 1, p.count())
	clk.step(11 * time.Second)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { _ = use(ecKey(t, "unknown", elliptic.P256()), "c") })
	}
	wg.Wait()
	require.Equal(t, 2, p.count())
	require.NoError(t, use(fresh, "d"))
	require.ErrorIs(t, use(old, "e"), access.ErrUnauthenticated, "a key that left the set is not used any more")
}

func TestJWKSOutageIsNoVerdict(t *testing.T) {
	t.Parallel()
	key, other, clk := ecKey(t, "k1", elliptic.P256()), ecKey(t, "k2", elliptic.P256()), &clock{}
	p := newIDP(t, key)
	p.set(true, key)
	r := realms(t, p.URL, clk.now)
	n := 0
	use := func(k jose.JSONWebKey) error {
		n++
		c := with(with(good(clk.now()), "jti", strconv.Itoa(n)), "exp", clk.now().Add(time.Hour).Unix())
		_, err := r.Authenticate(t.Context(), sign(t, jose.ES256, k, c, nil))
		return err
	}
	for range 5 { // out from the start: 503, one fetch
		require.ErrorIs(t, use(key), fault.ErrUnavailable)
	}
	require.Equal(t, 1, p.count())
	clk.step(11 * time.Second)
	p.set(false, key)
	require.NoError(t, use(key))
	p.set(true, key)
	clk.step(11 * time.Minute) // out later: known keys stay, unknown ones are undecided
	require.NoError(t, use(key))
	require.Eventually(t, func() bool { return p.count() == 3 }, time.Second, time.Millisecond)
	require.ErrorIs(t, use(other), fault.ErrUnavailable)
	require.NoError(t, use(key))
	clk.step(25 * time.Hour) // out for a day: not trusted any more
	require.ErrorIs(t, use(key), fault.ErrUnavailable)
}

func TestSlowJWKSWaitsNoLongerThanTheCaller(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		select {
		case <-release:
		case <-req.Context().Done():
		}
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	key := ecKey(t, "k1", elliptic.P256())
	_, err := realms(t, srv.URL, nil).Authenticate(ctx, sign(t, jose.ES256, key, good(time.Now()), nil))
	require.ErrorIs(t, err, fault.ErrUnavailable)
}

func TestRedirectedOrOversizeJWKSIsAnOutage(t *testing.T) {
	t.Parallel()
	key := ecKey(t, "k1", elliptic.P256())
	for name, h := range map[string]http.HandlerFunc{
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/keys" {
				_, _ = w.Write(jwks(key))
				return
			}
			http.Redirect(w, r, "/keys", http.StatusFound)
		},
		"oversize": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(strings.Repeat(" ", 2<<20)))
			_, _ = w.Write(jwks(key))
		},
		"kid twice": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(jwks(key, key)) },
		"secret key": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[{"kty":"oct","kid":"k1","k":"AAAA"}]}`))
		},
		"not a key set": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`<html>`)) },
	} {
		srv := httptest.NewServer(h)
		t.Cleanup(srv.Close)
		_, err := realms(t, srv.URL, nil).Authenticate(t.Context(), sign(t, jose.ES256, key, good(time.Now()), nil))
		require.ErrorIs(t, err, fault.ErrUnavailable, name)
	}
}

func TestRealmsFromFile(t *testing.T) {
	t.Parallel()
	key := ecKey(t, "k1", elliptic.P256())
	file := filepath.Join(t.TempDir(), "jwks.json")
	c := access.RealmsConfig{Realms: []access.Realm{{Tenant: alpha, Issuer: issuer, Audience: audience, JWKSFile: file}}}
	_, err := access.NewRealms(c)
	require.ErrorIs(t, err, access.ErrConfig, "a missing file refuses to start")
	require.NoError(t, os.WriteFile(file, jwks(key), 0o600))
	r, err := access.NewRealms(c)
	require.NoError(t, err)
	_, err = r.Authenticate(t.Context(), sign(t, jose.ES256, key, good(time.Now()), nil))
	require.NoError(t, err)
}

func TestRealmConfig(t *testing.T) {
	t.Parallel()
	ok := access.Realm{Tenant: alpha, Issuer: "i", Audience: "a", JWKSURL: "https://idp.example/keys"}
	edit := func(f func(*access.Realm)) access.Realm { r := ok; f(&r); return r }
	require.NoError(t, access.RealmsConfig{Realms: []access.Realm{ok}}.Validate())
	for name, rs := range map[string][]access.Realm{
		"no tenant":     {edit(func(r *access.Realm) { r.Tenant = tenant.ID{} })},
		"system tenant": {edit(func(r *access.Realm) { r.Tenant = tenant.System })},
		"no issuer":     {edit(func(r *access.Realm) { r.Issuer = "" })},
		"no audience":   {edit(func(r *access.Realm) { r.Audience = "" })},
		"no keys":       {edit(func(r *access.Realm) { r.JWKSURL = "" })},
		"file and URL":  {edit(func(r *access.Realm) { r.JWKSFile = "f" })},
		"plain http":    {edit(func(r *access.Realm) { r.JWKSURL = "http://idp.example/keys" })},
		"password":      {edit(func(r *access.Realm) { r.JWKSURL = "https://u:p@idp.example/keys" })},
		"other scheme":  {edit(func(r *access.Realm) { r.JWKSURL = "file:///etc/passwd" })},
		"issuer twice":  {ok, edit(func(r *access.Realm) { r.Tenant = beta })},
	} {
		require.ErrorIs(t, access.RealmsConfig{Realms: rs}.Validate(), access.ErrConfig, name)
	}
}

func TestPrivilegeSets(t *testing.T) {
	t.Parallel()
	require.Zero(t, access.Any())
	require.Zero(t, access.Any(0, 99), "what is no privilege adds nothing")
	s := access.Any(access.AdminRead, access.ASTClient)
	require.True(t, s.Has(access.ASTClient))
	require.False(t, s.Has(access.AdminWrite))
	require.False(t, s.Has(0))
	require.True(t, access.Any(access.ASTClient).Meets(s))
	require.False(t, access.Set(0).Meets(s))
	require.Equal(t, "admin-read or ast-client", s.String())
	require.Empty(t, access.Privilege(200).String())
}
