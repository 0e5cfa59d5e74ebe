package callback_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/callback"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
	"github.com/signet-hsm/signet/tenant"
)

const soon = 15 * time.Second

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func TestMain(m *testing.M) { pgtest.Main(m) }

// world is one database with the applications APP and OTHER of alpha and the
// twin APP of beta.
type world struct {
	tb     testing.TB
	db     *pgxpool.Pool
	keys   *envelope.Keyring
	audit  *audit.Log
	outbox *outbox.Outbox
	skew   atomic.Int64
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	ctx := tb.Context()
	w := &world{tb: tb, db: pgtest.New(tb)}
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
	for _, id := range []string{"APP", "OTHER"} {
		_, _, err = apps.Create(ctx, pgtest.Alpha, app.CreateParams{ID: id})
		require.NoError(tb, err)
	}
	_, _, err = apps.Create(ctx, pgtest.Beta, app.CreateParams{ID: "APP"})
	require.NoError(tb, err)
	return w
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.skew.Load())) }

func (w *world) callbacks(change ...func(*callback.Config)) *callback.Callbacks {
	w.tb.Helper()
	c := callback.Config{DB: w.db, Envelope: w.keys, Audit: w.audit, Allow: loopback, Now: w.now}
	for _, f := range change {
		f(&c)
	}
	cb, err := callback.New(c)
	require.NoError(w.tb, err)
	w.tb.Cleanup(cb.Close)
	return cb
}

// run delivers until the test ends or stop is called.
func (w *world) run(cb *callback.Callbacks, change ...func(*outbox.Consumer)) (stop func()) {
	w.tb.Helper()
	c := cb.Consumer()
	c.MinPause, c.MaxPause = 10*time.Millisecond, 50*time.Millisecond
	for _, f := range change {
		f(&c)
	}
	r, err := outbox.NewRunner(outbox.RunnerConfig{DB: w.db, Consumers: []outbox.Consumer{c}, Poll: 20 * time.Millisecond, Grace: time.Second})
	require.NoError(w.tb, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.tb.Context()))
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(w.tb, <-done)
	})
	w.tb.Cleanup(stop)
	return stop
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

func (w *world) create(cb *callback.Callbacks, typ callback.Type, url string) callback.Created {
	w.tb.Helper()
	c, err := cb.Create(w.tb.Context(), pgtest.Alpha, callback.CreateParams{App: "APP", Name: "to " + string(typ) + url, Type: typ, URL: url, Actor: "backend"})
	require.NoError(w.tb, err)
	return c
}

// backend is an application's server.
type backend struct {
	tb     testing.TB
	server *httptest.Server

	mu     sync.Mutex
	got    []call
	answer func(n int, w http.ResponseWriter, r *http.Request)
}

type call struct {
	header http.Header
	path   string
	body   string
}

func newBackend(tb testing.TB) *backend {
	tb.Helper()
	b := &backend{tb: tb}
	b.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		b.mu.Lock()
		n := len(b.got)
		b.got = append(b.got, call{r.Header.Clone(), r.URL.RequestURI(), string(raw)})
		answer := b.answer
		b.mu.Unlock()
		if answer != nil {
			answer(n, w, r)
		}
	}))
	b.server.EnableHTTP2 = true
	b.server.StartTLS()
	tb.Cleanup(b.server.Close)
	return b
}

func (b *backend) trust(c *callback.Config) {
	pool := x509.NewCertPool()
	pool.AddCert(b.server.Certificate())
	c.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

func (b *backend) calls() []call {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]call(nil), b.got...)
}

func (b *backend) wait(n int) []call {
	b.tb.Helper()
	require.Eventually(b.tb, func() bool { return len(b.calls()) >= n }, soon, 5*time.Millisecond)
	return b.calls()
}

// verified is the receiver's side of standard-webhooks, written from its text.
func verified(shown secret.Bytes, c call) bool {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(string(shown.Reveal()), "whsec_"))
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, key)
	_, _ = io.WriteString(mac, c.header.Get("webhook-id")+"."+c.header.Get("webhook-timestamp")+"."+c.body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for _, s := range strings.Fields(c.header.Get("webhook-signature")) {
		if hmac.Equal([]byte(s), []byte(want)) {
			return true
		}
	}
	return false
}

// nameServer answers every question of type A with the address that next says.
func nameServer(tb testing.TB, next func() netip.Addr) *net.Resolver {
	tb.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(tb, err)
	done := make(chan struct{})
	tb.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	go func() {
		defer close(done)
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			q := buf[12:n]
			end := 0
			for q[end] != 0 { // the labels of the name
				end += int(q[end]) + 1
			}
			question := q[:end+5] // name, type, class
			answer := append([]byte{}, buf[:2]...)
			isA := question[len(question)-3] == 1
			count := byte(0)
			if isA {
				count = 1
			}
			answer = append(answer, 0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0)
			answer = append(answer, question...)
			if isA {
				a := next().As4()
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
				answer = append(answer, a[:]...)
			}
			_, _ = conn.WriteTo(answer, from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}
