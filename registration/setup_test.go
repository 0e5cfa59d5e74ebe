package registration_test

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

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
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/rollback"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
	"github.com/signet-hsm/signet/tenant"
)

var (
	alpha = tenant.MustParse("alpha")
	beta  = tenant.MustParse("beta")
	mine  = []string{"APP"}
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// world is one database, one token, the application APP in alpha and its twin
// in beta, and a clock that a test may turn.
type world struct {
	tb      testing.TB
	url     string
	db      *pgxpool.Pool
	hsm     *hsm.Token
	kek     *hsm.AEAD
	audit   *audit.Log
	node    *registration.Registrar
	metrics *prometheus.Registry
	version map[tenant.ID]app.Version
	master  map[tenant.ID][]byte
	outbox  outbox.Queue
	custom  registration.ActivationProvider
	guard   *rollback.Guard

	vaultBiometry bool
	skew          atomic.Int64
	postmaster    int   // of a benchmark
	cache         int64 // bytes; 0: the default
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	return newWorldOn(tb, pgtest.URL(tb))
}

func newWorldOn(tb testing.TB, url string) *world {
	tb.Helper()
	return newWorldWith(tb, url, softhsmtest.New(tb))
}

func newWorldWith(tb testing.TB, url string, token *hsm.Token) *world {
	tb.Helper()
	ctx := tb.Context()
	w := &world{
		tb: tb, url: url, hsm: token, metrics: prometheus.NewRegistry(),
		version: map[tenant.ID]app.Version{}, master: map[tenant.ID][]byte{},
	}
	w.db = w.pool()
	ref := hsm.Ref{Tenant: tenant.System.String(), Role: hsm.RoleKEK, Name: "kek"}
	_, err := w.hsm.Generate(ctx, ref, hsm.AES256, [16]byte{1})
	require.NoError(tb, err)
	w.kek, err = w.hsm.AEAD(ctx, ref)
	require.NoError(tb, err)
	w.audit, err = audit.New(audit.Config{DB: w.db})
	require.NoError(tb, err)
	apps := w.apps(w.db)
	for _, t := range []tenant.ID{alpha, beta} {
		a, v, err := apps.Create(ctx, t, app.CreateParams{ID: "APP", Roles: []string{"ROLE"}})
		require.NoError(tb, err)
		w.version[t], w.master[t] = v, a.MasterPublic
	}
	w.node = w.newNode(w.db, w.metrics)
	return w
}

func (w *world) pool() *pgxpool.Pool {
	pool, err := pg.Open(w.tb.Context(), w.url, pg.Options{MaxConns: 10})
	require.NoError(w.tb, err)
	w.tb.Cleanup(pool.Close)
	return pool
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.skew.Load())) }

func (w *world) keyring(db *pgxpool.Pool) *envelope.Keyring {
	return envelope.New(db, w.kek, envelope.Options{})
}

func (w *world) apps(db *pgxpool.Pool) *app.Registry {
	apps, err := app.New(app.Config{DB: db, HSM: w.hsm, Envelope: w.keyring(db), Audit: w.audit, Now: w.now})
	require.NoError(w.tb, err)
	return apps
}

// newNode is another process: it shares the database and the HSM, no cache.
func (w *world) newNode(db *pgxpool.Pool, m prometheus.Registerer) *registration.Registrar {
	r, err := registration.New(registration.Config{
		DB: db, Apps: w.apps(db), Envelope: w.keyring(db), Audit: w.audit, Outbox: w.outbox, Now: w.now, Metrics: m,
		Guard: w.guard, Custom: w.custom, VaultBiometry: w.vaultBiometry, Cache: w.cache,
	})
	require.NoError(w.tb, err)
	return r
}

// create registers a device of the user.
func (w *world) create(t tenant.ID, user string, change ...func(*registration.CreateParams)) registration.Created {
	w.tb.Helper()
	p := registration.CreateParams{Apps: mine, App: "APP", UserID: user, Flags: []string{"FLAG"}, Actor: "backend"}
	for _, f := range change {
		f(&p)
	}
	c, err := w.node.Create(w.tb.Context(), t, p)
	require.NoError(w.tb, err)
	return c
}

func withOTP(mode registration.OTPMode, otp string) func(*registration.CreateParams) {
	return func(p *registration.CreateParams) { p.OTPMode, p.OTP = mode, otp }
}

// active makes a device whose registration is ACTIVE.
func (w *world) active(t tenant.ID, user string) *device {
	w.tb.Helper()
	d := w.newDevice(t)
	require.NoError(w.tb, d.activate(w.tb.Context(), w.node, w.create(t, user).ActivationCode, ""))
	require.NoError(w.tb, w.node.Commit(w.tb.Context(), t, registration.CommitParams{Apps: mine, ID: d.id}))
	return d
}

// events lists the audit log of a registration, oldest first.
func (w *world) events(t tenant.ID, id, action string) []audit.Event {
	w.tb.Helper()
	var out []audit.Event
	f := audit.Filter{Limit: audit.MaxLimit}
	for {
		page, err := w.audit.List(w.tb.Context(), t, f)
		require.NoError(w.tb, err)
		if len(page) == 0 {
			break
		}
		f.Before = page[len(page)-1].ID
		for _, e := range page {
			if e.Subject == id && e.Action == action {
				out = append([]audit.Event{e}, out...)
			}
		}
	}
	return out
}

func outcomes(events []audit.Event) map[string]int {
	n := map[string]int{}
	for _, e := range events {
		n[e.Outcome]++
	}
	return n
}

// row is what the database says of a registration.
type row struct {
	State                               registration.State
	Counter, Revision                   int64
	Failed, FailedPossession            int
	Blocked                             *string
	Version, Platform, Name, DeviceInfo string
	ctr                                 []byte
}

func (w *world) row(t tenant.ID, id string) (r row) {
	w.tb.Helper()
	err := w.db.QueryRow(w.tb.Context(), `select state, counter, revision, failed_attempts, failed_possession,
		blocked_reason, version, platform, name, device_info, ctr_data from registration where tenant_id = $1 and id = $2`,
		t.String(), id).Scan(&r.State, &r.Counter, &r.Revision, &r.Failed, &r.FailedPossession, &r.Blocked,
		&r.Version, &r.Platform, &r.Name, &r.DeviceInfo, &r.ctr)
	require.NoError(w.tb, err)
	return r
}

// device is the least that a phone does, on the shared kernel.
type device struct {
	w        *world
	tenant   tenant.ID
	protocol signature.Version
	private  *ecdh.PrivateKey
	now      func() time.Time

	// What a test may bend before activate.
	publicKey string // instead of the real one
	platform  string
	tamper    func(outer, inner *signature.EncryptedRequest)

	id     string
	keys   *signature.Keys
	ctr    signature.Counter
	server *ecdh.PublicKey

	applicationKey *temporary // for 3.3
}

func (w *world) newDevice(t tenant.ID) *device {
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(w.tb, err)
	return &device{w: w, tenant: t, protocol: signature.V32, private: private, now: w.now, platform: "iOS"}
}

func (d *device) params(info string) signature.EnvelopeParams {
	v := d.w.version[d.tenant]
	p := signature.EnvelopeParams{
		Version: d.protocol, Scope: signature.ApplicationScope, SharedInfo1: info,
		ApplicationKey: v.Key, SharedInfo2: signature.ApplicationSharedInfo2(v.Secret.Reveal()),
	}
	if d.applicationKey != nil {
		p.TemporaryKeyID = d.applicationKey.id
	}
	return p
}

func (d *device) seal(info string, plaintext any) (signature.EncryptedRequest, *signature.Requester) {
	text, err := json.Marshal(plaintext)
	require.NoError(d.w.tb, err)
	ephemeral, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(d.w.tb, err)
	master, err := signature.ParsePublicKey(d.w.master[d.tenant])
	require.NoError(d.w.tb, err)
	if d.applicationKey != nil {
		master = d.applicationKey.public
	}
	stamp := signature.Stamp{Timestamp: d.now().UnixMilli()}
	_, _ = rand.Read(stamp.Nonce[:])
	m, r, err := signature.SealRequest(ephemeral, master, d.params(info), text, stamp)
	require.NoError(d.w.tb, err)
	return m, r
}

// request makes both layers.
func (d *device) request(code, otp string) (registration.ActivateRequest, *signature.Requester, *signature.Requester) {
	public := signature.EncodeBase64(d.private.PublicKey().Bytes())
	if d.publicKey != "" {
		public = d.publicKey
	}
	layer2 := map[string]any{
		"devicePublicKey": public, "activationName": "Petr's phone", "platform": d.platform, "deviceInfo": "iPhone10,6",
		"extras": "more", "newerThanWe": 1,
	}
	if otp != "" {
		layer2["activationOtp"] = otp
	}
	inner, openInner := d.seal(signature.InfoLayer2, layer2)
	if d.tamper != nil {
		d.tamper(nil, &inner)
	}
	outer, openOuter := d.seal(signature.InfoApplication, map[string]any{
		"activationType": "CODE", "identityAttributes": map[string]string{"code": code}, "activationData": inner,
	})
	if d.tamper != nil {
		d.tamper(&outer, nil)
	}
	return registration.ActivateRequest{
		Header:  signature.EncryptionHeader{ApplicationKey: d.w.version[d.tenant].Key, Version: d.protocol},
		Message: outer,
	}, openOuter, openInner
}

// activate exchanges keys and derives the device's own.
func (d *device) activate(ctx context.Context, node *registration.Registrar, code, otp string) error {
	req, openOuter, openInner := d.request(code, otp)
	resp, err := node.Activate(ctx, req)
	if err != nil {
		return err
	}
	d.accept(resp, openOuter, openInner)
	return nil
}

func (d *device) accept(resp signature.EncryptedResponse, openOuter, openInner *signature.Requester) {
	tb := d.w.tb
	text, err := openOuter.Open(resp)
	require.NoError(tb, err)
	var outer struct {
		ActivationData signature.EncryptedResponse `json:"activationData"`
	}
	require.NoError(tb, json.Unmarshal(text, &outer))
	text, err = openInner.Open(outer.ActivationData)
	require.NoError(tb, err)
	var inner struct{ ActivationID, ServerPublicKey, CtrData string }
	require.NoError(tb, json.Unmarshal(text, &inner))
	raw, err := signature.ParseBase64(inner.ServerPublicKey)
	require.NoError(tb, err)
	d.server, err = signature.ParsePublicKey(raw)
	require.NoError(tb, err)
	x, err := d.private.ECDH(d.server)
	require.NoError(tb, err)
	d.keys = signature.DeriveKeys(signature.MasterSecret(x))
	ctr, err := signature.ParseBase64(inner.CtrData)
	require.NoError(tb, err)
	d.ctr, d.id = signature.Counter(ctr), inner.ActivationID
}

// sign signs a POST with the next counter.
func (d *device) sign(f signature.Factor) registration.VerifyRequest {
	r := d.signAt(d.ctr, f)
	d.ctr = d.ctr.Next()
	return r
}

func (d *device) signAt(ctr signature.Counter, f signature.Factor) registration.VerifyRequest {
	h := signature.Header{
		ActivationID: strings.ToUpper(d.id), ApplicationKey: d.w.version[d.tenant].Key, Factors: f, Version: signature.V31,
	}
	_, _ = rand.Read(h.Nonce[:])
	body := []byte(`{"amount":"100"}`)
	h.Signature = d.keys.Sign(h.Version, f, signature.Request{
		Method: "POST", URIID: "/login", Nonce: h.Nonce[:], Body: body, Secret: d.w.version[d.tenant].Secret.Reveal(),
	}, ctr)
	return registration.VerifyRequest{Apps: mine, Header: h, Method: "POST", URIID: "/login", Body: body, Actor: "backend"}
}

// wrong is a request whose signature can not match.
func (d *device) wrong(f signature.Factor) registration.VerifyRequest {
	r := d.signAt(d.ctr, f)
	r.Body = []byte(`{"amount":"999"}`)
	return r
}

func (d *device) verify(req registration.VerifyRequest) registration.Verdict {
	d.w.tb.Helper()
	v, err := d.w.node.Verify(d.w.tb.Context(), d.tenant, req)
	require.NoError(d.w.tb, err)
	return v
}

// requireSigned checks a QR text with the application's master key.
func (w *world) requireSigned(t tenant.ID, qr, code string) {
	w.tb.Helper()
	got, der, err := signature.ParseActivationQR(qr)
	require.NoError(w.tb, err)
	require.Equal(w.tb, code, got)
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), w.master[t])
	require.NoError(w.tb, err)
	digest := sha256.Sum256([]byte(code))
	require.True(w.tb, ecdsa.VerifyASN1(pub, digest[:], der))
}
