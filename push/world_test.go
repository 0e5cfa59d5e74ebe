package push_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/push"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
	"github.com/signet-hsm/signet/tenant"
)

const soon = 15 * time.Second

func TestMain(m *testing.M) { pgtest.Main(m) }

// world is one database with the application APP of alpha and its twin of beta,
// and a local server that speaks for all three providers.
type world struct {
	tb        testing.TB
	db        *pgxpool.Pool
	keys      *envelope.Keyring
	audit     *audit.Log
	outbox    *outbox.Outbox
	regs      *registration.Registrar
	providers *providers
	apnsKey   *ecdsa.PrivateKey
	skew      atomic.Int64
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	ctx := tb.Context()
	w := &world{tb: tb, db: pgtest.New(tb), providers: newProviders(tb)}
	token := softhsmtest.New(tb)
	ref := hsm.Ref{Tenant: tenant.System.String(), Role: hsm.RoleKEK, Name: "kek"}
	_, err := token.Generate(ctx, ref, hsm.AES256, [16]byte{1})
	require.NoError(tb, err)
	kek, err := token.AEAD(ctx, ref)
	require.NoError(tb, err)
	w.keys = envelope.New(w.db, kek, envelope.Options{})
	w.audit, err = audit.New(audit.Config{DB: w.db})
	require.NoError(tb, err)
	w.outbox, err = outbox.New(outbox.Config{DB: w.db})
	require.NoError(tb, err)
	apps, err := app.New(app.Config{DB: w.db, HSM: token, Envelope: w.keys, Audit: w.audit})
	require.NoError(tb, err)
	for _, t := range []tenant.ID{pgtest.Alpha, pgtest.Beta} {
		_, _, err := apps.Create(ctx, t, app.CreateParams{ID: "APP"})
		require.NoError(tb, err)
	}
	w.regs, err = registration.New(registration.Config{DB: w.db, Apps: apps, Envelope: w.keys, Audit: w.audit})
	require.NoError(tb, err)
	w.apnsKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(tb, err)
	return w
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.skew.Load())) }

func (w *world) pusher(change ...func(*push.Config)) *push.Pusher {
	w.tb.Helper()
	c := push.Config{
		DB: w.db, Envelope: w.keys, Audit: w.audit, Registrations: w.regs, Outbox: w.outbox,
		Endpoints: w.providers.endpoints(), Client: w.providers.server.Client(), Now: w.now, Timeout: 5 * time.Second,
		Metrics: prometheus.NewRegistry(),
	}
	for _, f := range change {
		f(&c)
	}
	p, err := push.New(c)
	require.NoError(w.tb, err)
	return p
}

// run delivers until the test ends.
func (w *world) run(p *push.Pusher) {
	w.tb.Helper()
	c := p.Consumer()
	c.MinPause = 50 * time.Millisecond
	r, err := outbox.NewRunner(outbox.RunnerConfig{DB: w.db, Consumers: []outbox.Consumer{c}, Poll: 20 * time.Millisecond})
	require.NoError(w.tb, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.tb.Context()))
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	w.tb.Cleanup(func() {
		cancel()
		require.NoError(w.tb, <-done)
	})
}

// register makes a registration in a state, as its owner would leave it.
func (w *world) register(t tenant.ID, user, state string, flags ...string) string {
	w.tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(w.tb, err)
	pub, err := key.PublicKey.ECDH()
	require.NoError(w.tb, err)
	id := uuid.NewString()
	if flags == nil {
		flags = []string{}
	}
	_, err = w.db.Exec(w.tb.Context(), `insert into registration (tenant_id, id, app_id, user_id, activation_code, state, otp_mode, flags,
name, platform, device_info, device_public_key, server_public_key, server_private_sealed, master_secret_sealed, ctr_data, counter,
failed_attempts, failed_possession, max_failed_attempts, blocked_reason, version, revision, expires_at, created_at, changed_at, last_used_at)
values ($1, $2, 'APP', $3, 'AAAAA-AAAAA-AAAAA-AAAAA', $4, 'NONE', $5, 'n', 'ios', 'd', $6, $6, '\x00', '\x00', $7, 0, 0, 0, 5,
'reason', '3.1', 1, now(), now(), now(), now())`, t.String(), id, user, state, flags, pub.Bytes(), make([]byte, 16))
	require.NoError(w.tb, err)
	return id
}

// device is an ACTIVE registration with a push token.
func (w *world) device(p *push.Pusher, user string, at push.Platform, token string) string {
	w.tb.Helper()
	id := w.register(pgtest.Alpha, user, "ACTIVE")
	require.NoError(w.tb, p.SetDevice(w.tb.Context(), pgtest.Alpha, push.Device{
		Registration: id, App: "APP", Platform: at, Token: secret.New([]byte(token)),
	}))
	return id
}

func (w *world) add(events ...outbox.Event) {
	w.tb.Helper()
	require.NoError(w.tb, pg.InTx(w.tb.Context(), w.db, func(tx pgx.Tx) error { return w.outbox.AddTx(w.tb.Context(), tx, events...) }))
}

func (w *world) count(sql string, args ...any) (n int) {
	w.tb.Helper()
	require.NoError(w.tb, w.db.QueryRow(w.tb.Context(), sql, args...).Scan(&n))
	return n
}

// credentials sets all three.
func (w *world) credentials(p *push.Pusher) {
	w.tb.Helper()
	ctx := w.tb.Context()
	require.NoError(w.tb, p.SetAPNs(ctx, pgtest.Alpha, push.APNsCredential{
		App: "APP", Topic: "com.bank.app", KeyID: "KEY1234567", TeamID: "TEAM123456", Environment: "development",
		PrivateKey: secret.New([]byte(p8(w.tb, w.apnsKey))), Actor: "admin",
	}))
	require.NoError(w.tb, p.SetFCM(ctx, pgtest.Alpha, push.FCMCredential{
		App: "APP", ProjectID: "bank-project", PrivateKey: secret.New([]byte(serviceAccount(w.tb, w.providers.google))), Actor: "admin",
	}))
	require.NoError(w.tb, p.SetHMS(ctx, pgtest.Alpha, push.HMSCredential{
		App: "APP", HMSAppID: "10001", ClientSecret: secret.New([]byte(hmsSecret)), Actor: "admin",
	}))
}

func p8(tb testing.TB, key any) string {
	tb.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(tb, err)
	return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func serviceAccount(tb testing.TB, key any) string {
	tb.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(tb, err)
	raw, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "push@bank-project.iam.gserviceaccount.com", "private_key_id": "k1",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"token_uri":   "https://127.0.0.1:1/not-used",
	})
	require.NoError(tb, err)
	return base64.StdEncoding.EncodeToString(raw)
}

const hmsSecret = "huawei client secret"

// providers speaks for Apple, Google and Huawei.
type providers struct {
	tb     testing.TB
	server *httptest.Server
	google *rsa.PrivateKey

	mu     sync.Mutex
	got    []request
	logins int
	// answer decides about the n-th push (from 0); nil takes it.
	answer func(n int, w http.ResponseWriter, r request) bool
}

// request is one push as it arrived.
type request struct {
	proto  string
	path   string
	header http.Header
	body   map[string]any
	raw    []byte
}

func newProviders(tb testing.TB) *providers {
	tb.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(tb, err)
	p := &providers{tb: tb, google: key}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /google/token", p.googleToken)
	mux.HandleFunc("POST /huawei/token", p.huaweiToken)
	mux.HandleFunc("POST /", p.push)
	p.server = httptest.NewUnstartedServer(mux)
	p.server.EnableHTTP2 = true
	p.server.StartTLS()
	tb.Cleanup(p.server.Close)
	return p
}

func (p *providers) endpoints() push.Endpoints {
	u := p.server.URL
	return push.Endpoints{
		APNs: u + "/apple", APNsDevelopment: u + "/sandbox", FCM: u + "/google", FCMToken: u + "/google/token",
		HMS: u + "/huawei", HMSToken: u + "/huawei/token",
	}
}

func (p *providers) push(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	req := request{proto: r.Proto, path: r.URL.Path, header: r.Header.Clone(), raw: raw}
	_ = json.NewDecoder(bytes.NewReader(raw)).Decode(&req.body)
	p.mu.Lock()
	n := len(p.got)
	p.got = append(p.got, req)
	answer := p.answer
	p.mu.Unlock()
	if answer != nil && answer(n, w, req) {
		return
	}
	if strings.HasPrefix(r.URL.Path, "/huawei/") {
		_, _ = io.WriteString(w, `{"code":"80000000","msg":"Success","requestId":"1"}`)
		return
	}
	_, _ = io.WriteString(w, `{}`)
}

func (p *providers) login(w http.ResponseWriter, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.logins++
	w.Header().Set("Content-Type", "application/json")
	if !ok {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":"invalid_grant","error_description":"repeats what was sent"}`)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "access-" + string(rune('0'+p.logins)), "expires_in": 3600, "token_type": "Bearer"})
}

// googleToken checks the assertion of RFC 7523 with the service account's key.
func (p *providers) googleToken(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(r.FormValue("assertion"), ".")
	ok := r.FormValue("grant_type") == "urn:ietf:params:oauth:grant-type:jwt-bearer" && len(parts) == 3
	if ok {
		ok = rs256(&p.google.PublicKey, parts)
		var claims struct{ Iss, Scope, Aud string }
		raw, _ := base64.RawURLEncoding.DecodeString(parts[1])
		_ = json.Unmarshal(raw, &claims)
		ok = ok && claims.Iss == "push@bank-project.iam.gserviceaccount.com" &&
			claims.Scope == "https://www.googleapis.com/auth/firebase.messaging" && claims.Aud == p.server.URL+"/google/token"
	}
	p.login(w, ok)
}

func (p *providers) huaweiToken(w http.ResponseWriter, r *http.Request) {
	p.login(w, r.FormValue("grant_type") == "client_credentials" && r.FormValue("client_id") == "10001" && r.FormValue("client_secret") == hmsSecret)
}

func (p *providers) requests() []request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]request(nil), p.got...)
}

func (p *providers) wait(n int) []request {
	p.tb.Helper()
	require.Eventually(p.tb, func() bool { return len(p.requests()) >= n }, soon, 5*time.Millisecond)
	got := p.requests()
	require.Len(p.tb, got, n)
	return got
}

func (p *providers) loginCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.logins
}
