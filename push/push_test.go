package push_test

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/push"
	"github.com/signet-hsm/signet/registration"
)

const operation = "8d2f1c7e-51d6-4b0e-9a39-0b6a0a3f1c11"

var appleToken = strings.Repeat("ab", 32)

func created(user string) outbox.Event {
	return outbox.Event{
		Tenant: pgtest.Alpha, Kind: outbox.OperationCreated, App: "APP", User: user, Operation: operation,
		Data: map[string]any{"name": "authorize_payment", "title": "Approve <payment>", "message": "Pay 100 CZK?", "expires": time.Now().Add(5 * time.Minute).Format(time.RFC3339)},
	}
}

func rs256(pub *rsa.PublicKey, parts []string) bool {
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	return err == nil && rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], sig) == nil
}

// PUSHX-01, 08, 09, 10 in the form of each provider.
func TestPUSHX01_OperationInitAtEachProvider(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pusher()
	w.credentials(p)
	apple := w.device(p, "u", "ios", appleToken)
	google := w.device(p, "u", "android", "fcm:token_1")
	huawei := w.device(p, "u", push.HMS, "hms-token")
	w.device(p, "other", push.FCM, "not-this-one")
	blocked := w.register(pgtest.Alpha, "u", "BLOCKED")
	require.NoError(t, p.SetDevice(t.Context(), pgtest.Alpha, push.Device{Registration: blocked, App: "APP", Platform: push.FCM, Token: secret.New([]byte("not-either"))}))
	w.run(p)
	w.add(created("u"))

	extras := func(id string) map[string]any {
		return map[string]any{"messageType": "mtoken.operationInit", "operationId": operation, "operationName": "authorize_payment", "activationId": id}
	}
	for _, r := range w.providers.wait(3) {
		require.Equal(t, "HTTP/2.0", r.proto)
		switch {
		case strings.HasPrefix(r.path, "/sandbox/"):
			require.Equal(t, "/sandbox/3/device/"+appleToken, r.path)
			want := extras(apple)
			want["aps"] = map[string]any{"alert": map[string]any{"title": "Approve <payment>", "body": "Pay 100 CZK?"}, "sound": "default", "thread-id": operation}
			require.Equal(t, want, r.body)
			require.Contains(t, string(r.raw), "<payment>", "no byte is wasted on escapes")
			require.Equal(t, "com.bank.app", r.header.Get("Apns-Topic"))
			require.Equal(t, "alert", r.header.Get("Apns-Push-Type"))
			require.Equal(t, "10", r.header.Get("Apns-Priority"))
			require.NotEmpty(t, r.header.Get("Apns-Expiration"))
			_, err := uuid.Parse(r.header.Get("Apns-Id"))
			require.NoError(t, err)
			w.checkProviderToken(r.header.Get("Authorization"))
		case strings.HasPrefix(r.path, "/google/"):
			require.Equal(t, "/google/v1/projects/bank-project/messages:send", r.path)
			require.Regexp(t, `^Bearer access-\d$`, r.header.Get("Authorization"))
			m := r.body["message"].(map[string]any)
			require.Equal(t, "fcm:token_1", m["token"])
			require.Equal(t, extras(google), m["data"])
			require.Equal(t, map[string]any{"title": "Approve <payment>", "body": "Pay 100 CZK?"}, m["notification"])
			android := m["android"].(map[string]any)
			require.Equal(t, "HIGH", android["priority"])
			require.Equal(t, operation, android["collapse_key"])
			require.Regexp(t, `^\d+s$`, android["ttl"])
		default:
			require.Equal(t, "/huawei/v1/10001/messages:send", r.path)
			m := r.body["message"].(map[string]any)
			require.Equal(t, []any{"hms-token"}, m["token"])
			var data map[string]any
			require.NoError(t, json.Unmarshal([]byte(m["data"].(string)), &data))
			require.Equal(t, extras(huawei), data)
			require.Equal(t, map[string]any{"title": "Approve <payment>", "body": "Pay 100 CZK?"}, m["notification"])
		}
	}

	// One login serves many pushes.
	w.add(created("u"), created("u"))
	w.providers.wait(9)
	require.Equal(t, 2, w.providers.loginCount())
}

// checkProviderToken verifies Apple's JWT as Apple does.
func (w *world) checkProviderToken(header string) {
	w.tb.Helper()
	parts := strings.Split(strings.TrimPrefix(header, "bearer "), ".")
	require.Len(w.tb, parts, 3)
	var head map[string]any
	raw, err := base64.RawURLEncoding.DecodeString(parts[0])
	require.NoError(w.tb, err)
	require.NoError(w.tb, json.Unmarshal(raw, &head))
	require.Equal(w.tb, map[string]any{"alg": "ES256", "kid": "KEY1234567"}, head)
	var claims struct {
		Iss string
		Iat int64
	}
	raw, err = base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(w.tb, err)
	require.NoError(w.tb, json.Unmarshal(raw, &claims))
	require.Equal(w.tb, "TEAM123456", claims.Iss)
	require.WithinDuration(w.tb, w.now(), time.Unix(claims.Iat, 0), time.Minute)
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	require.NoError(w.tb, err)
	require.Len(w.tb, sig, 64)
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	require.True(w.tb, ecdsa.Verify(&w.apnsKey.PublicKey, digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])))
}

// PUSHX-02..07, 11, 12: silent or shown, and the extras exactly.
func TestPUSHX02to12_ExtrasAreThoseOfTheSeed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pusher()
	w.credentials(p)
	id := w.device(p, "u", push.APNs, appleToken)
	w.run(p)

	finished := func(result string) outbox.Event {
		return outbox.Event{
			Tenant: pgtest.Alpha, Kind: outbox.OperationFinished, App: "APP", User: "u", Operation: operation,
			Data: map[string]any{"name": "login", "result": result},
		}
	}
	n := 0
	next := func() request {
		n++
		return w.providers.wait(n)[n-1]
	}
	silent := func(r request, extras map[string]any) {
		t.Helper()
		require.Equal(t, "background", r.header.Get("Apns-Push-Type"))
		require.Equal(t, "5", r.header.Get("Apns-Priority"))
		aps := r.body["aps"].(map[string]any)
		delete(aps, "thread-id")
		require.Equal(t, map[string]any{"content-available": 1.0}, aps)
		delete(r.body, "aps")
		require.Equal(t, extras, r.body)
	}
	for _, result := range []string{ // PUSHX-03..07
		"authentication.success", "authentication.fail", "operation.timeout", "operation.canceled", "operation.methodNotAvailable",
	} {
		w.add(finished(result))
		silent(next(), map[string]any{
			"messageType": "mtoken.operationFinished", "mtokenOperationResult": result, "operationId": operation, "operationName": "login", "activationId": id,
		})
	}

	// PUSHX-12: posting stores and pushes.
	m, err := p.PostInbox(t.Context(), pgtest.Alpha, push.Letter{App: "APP", UserID: "u", Subject: "News", Summary: "Read me", Body: "All of it", Actor: "backend"})
	require.NoError(t, err)
	r := next()
	require.Equal(t, map[string]any{"alert": map[string]any{"title": "News", "body": "Read me"}, "sound": "default"}, r.body["aps"])
	delete(r.body, "aps")
	require.Equal(t, map[string]any{"messageType": "mtoken.inboxMessage.new", "inboxId": m.ID}, r.body)

	// PUSHX-11: told in any state; after REMOVED nothing is kept.
	changed := outbox.Event{Tenant: pgtest.Alpha, Kind: outbox.RegistrationChanged, App: "APP", User: "u", Registration: id, Data: map[string]any{"status": "BLOCKED"}}
	w.add(changed)
	silent(next(), map[string]any{"messageType": "mtoken.statusChange", "activationId": id})
	require.Equal(t, 1, w.count(`select count(*) from push_device`))
	changed.Data = map[string]any{"status": "REMOVED"}
	w.add(changed)
	silent(next(), map[string]any{"messageType": "mtoken.statusChange", "activationId": id})
	require.Eventually(t, func() bool { return w.count(`select count(*) from push_device`) == 0 }, soon, 5*time.Millisecond)

	// A result that the seed does not know is never sent.
	w.device(p, "u", push.APNs, appleToken)
	w.add(finished("approved"))
	require.Eventually(t, func() bool { return w.count(`select count(*) from audit_event where action = 'push.dead'`) == 1 }, soon, 5*time.Millisecond)
	require.Len(t, w.providers.requests(), n)
}

func TestPUSHX01_FlagAndRegistrationNarrowTheTargets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pusher()
	w.credentials(p)
	w.device(p, "u", push.FCM, "without")
	with := w.register(pgtest.Alpha, "u", "ACTIVE", "VIP")
	require.NoError(t, p.SetDevice(t.Context(), pgtest.Alpha, push.Device{Registration: with, App: "APP", Platform: push.FCM, Token: secret.New([]byte("with"))}))
	w.run(p)
	e := created("u")
	e.Data["flag"] = "VIP"
	w.add(e)
	token := func(r request) any { return r.body["message"].(map[string]any)["token"] }
	require.Equal(t, "with", token(w.providers.wait(1)[0]))
	e = created("u")
	e.Registration = with
	w.add(e)
	require.Equal(t, "with", token(w.providers.wait(2)[1]))

	// Expired before it was sent: dropped.
	e = created("u")
	e.Data["expires"] = time.Now().Add(-time.Minute).Format(time.RFC3339)
	w.add(e)
	require.Eventually(t, func() bool {
		return w.count(`select count(*) from river_job where kind = 'signet.delivery' and state = 'completed'`) == 4
	}, soon, 5*time.Millisecond)
	require.Len(t, w.providers.requests(), 2)
}

// Fault 41: what a provider refuses never reaches a caller; dead tokens go,
// overload is waited out, wrong credentials are logged in again.
func TestProviderFaults(t *testing.T) {
	t.Parallel()
	type step struct {
		status int
		body   string
		header map[string]string
	}
	const gone = `{"reason":"Unregistered","timestamp":4102444800000}` // in 2100: after the token was told
	for name, c := range map[string]struct {
		at           push.Platform
		steps        []step // then success
		pruned, dead bool
		relogin      bool
	}{
		"apns gone":             {at: push.APNs, steps: []step{{410, gone, nil}}, pruned: true},
		"apns bad token":        {at: push.APNs, steps: []step{{400, `{"reason":"BadDeviceToken"}`, nil}}, pruned: true},
		"apns overload":         {at: push.APNs, steps: []step{{429, `{"reason":"TooManyRequests"}`, map[string]string{"Retry-After": "1"}}, {503, ``, nil}}},
		"apns old login":        {at: push.APNs, steps: []step{{403, `{"reason":"ExpiredProviderToken"}`, nil}}, relogin: true},
		"apns broken line":      {at: push.APNs, steps: []step{{0, ``, nil}}}, // the error would repeat the URL
		"apns too large":        {at: push.APNs, steps: []step{{413, `{"reason":"PayloadTooLarge"}`, nil}}, dead: true},
		"apns no answer to use": {at: push.APNs, steps: []step{{500, `<html>`, nil}, {502, strings.Repeat("x", 1<<20), nil}}},
		"apns redirect":         {at: push.APNs, steps: []step{{302, ``, map[string]string{"Location": "/elsewhere"}}}, dead: true},
		"fcm gone":              {at: push.FCM, steps: []step{{404, `{"error":{"status":"NOT_FOUND","details":[{"@type":"x"},{"errorCode":"UNREGISTERED"}]}}`, nil}}, pruned: true},
		"fcm overload":          {at: push.FCM, steps: []step{{429, `{"error":{"status":"RESOURCE_EXHAUSTED"}}`, map[string]string{"Retry-After": "1"}}}},
		"fcm old login":         {at: push.FCM, steps: []step{{401, `{"error":{"status":"UNAUTHENTICATED"}}`, nil}}, relogin: true},
		"fcm bad argument":      {at: push.FCM, steps: []step{{400, `{"error":{"status":"INVALID_ARGUMENT"}}`, nil}}, dead: true},
		"hms gone":              {at: push.HMS, steps: []step{{200, `{"code":"80300007"}`, nil}}, pruned: true},
		"hms old login":         {at: push.HMS, steps: []step{{200, `{"code":"80200003"}`, nil}}, relogin: true},
		"hms trouble":           {at: push.HMS, steps: []step{{200, `{"code":"81000001"}`, nil}, {503, ``, nil}}},
		"hms too large":         {at: push.HMS, steps: []step{{200, `{"code":"80300008"}`, nil}}, dead: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.providers.answer = func(n int, rw http.ResponseWriter, _ request) bool {
				if n >= len(c.steps) {
					return false
				}
				for k, v := range c.steps[n].header {
					rw.Header().Set(k, v)
				}
				if c.steps[n].status == 0 {
					panic(http.ErrAbortHandler)
				}
				rw.WriteHeader(c.steps[n].status)
				_, _ = rw.Write([]byte(c.steps[n].body))
				return true
			}
			p := w.pusher()
			w.credentials(p)
			w.device(p, "u", c.at, appleToken)
			w.run(p)
			w.add(created("u"))
			switch {
			case c.pruned:
				require.Eventually(t, func() bool { return w.count(`select count(*) from push_device`) == 0 }, soon, 5*time.Millisecond)
				require.Equal(t, 1, w.count(`select count(*) from audit_event where action = 'push.device.prune' and outcome = 'dead_token'`))
				require.Len(t, w.providers.requests(), 1)
			case c.dead:
				require.Eventually(t, func() bool { return w.count(`select count(*) from audit_event where action = 'push.dead'`) == 1 }, soon, 5*time.Millisecond)
				require.Len(t, w.providers.requests(), 1)
				require.Equal(t, 1, w.count(`select count(*) from push_device`))
			default:
				got := w.providers.wait(len(c.steps) + 1)
				if c.relogin {
					require.NotEqual(t, got[0].header.Get("Authorization"), got[1].header.Get("Authorization"))
				}
			}
			require.Zero(t, w.count(`select count(*) from river_job where errors::text like '%' || $1 || '%'`, appleToken), "no device token in what is kept")
		})
	}
}

// The provider may speak of the token before the present one.
func TestAStaleVerdictDoesNotDeleteAReplacedToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.providers.answer = func(n int, rw http.ResponseWriter, _ request) bool {
		if n > 0 {
			return false
		}
		rw.WriteHeader(http.StatusGone)
		_, _ = rw.Write([]byte(`{"reason":"Unregistered","timestamp":1000}`))
		return true
	}
	p := w.pusher()
	w.credentials(p)
	w.device(p, "u", push.APNs, appleToken)
	w.run(p)
	w.add(created("u"))
	w.providers.wait(2)
	require.Equal(t, 1, w.count(`select count(*) from push_device`))
}

// What is personal is asked for again when it was delayed; a change of the
// registration is told all the same.
func TestPUSHX10_ADelayedPushDoesNotReachABlockedDevice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var refuse atomic.Bool
	refuse.Store(true)
	w.providers.answer = func(_ int, rw http.ResponseWriter, _ request) bool {
		if refuse.Load() {
			rw.WriteHeader(http.StatusServiceUnavailable)
		}
		return refuse.Load()
	}
	p := w.pusher()
	w.credentials(p)
	id := w.device(p, "u", push.APNs, appleToken)
	w.run(p)
	w.add(created("u"))
	w.providers.wait(1)
	_, err := w.db.Exec(t.Context(), `update registration set state = 'BLOCKED' where id = $1`, id)
	require.NoError(t, err)
	w.skew.Store(int64(2 * time.Minute))
	done := func() int {
		return w.count(`select count(*) from river_job where kind = 'signet.delivery' and state = 'completed'`)
	}
	require.Eventually(t, func() bool { return done() == 1 }, soon, 5*time.Millisecond)
	refuse.Store(false)
	before := len(w.providers.requests())
	w.add(outbox.Event{Tenant: pgtest.Alpha, Kind: outbox.RegistrationChanged, App: "APP", User: "u", Registration: id, Data: map[string]any{"status": "BLOCKED"}})
	require.Eventually(t, func() bool { return done() == 2 }, soon, 5*time.Millisecond)
	got := w.providers.requests()[before:]
	require.Len(t, got, 1)
	require.Equal(t, "mtoken.statusChange", got[0].body["messageType"])
}

// A provider that hangs holds its share of the workers; the others go on.
func TestPUSHX13_AProviderThatHangsStopsNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	release := make(chan struct{})
	w.providers.answer = func(_ int, _ http.ResponseWriter, r request) bool {
		if strings.HasPrefix(r.path, "/sandbox/") {
			<-release
		}
		return false
	}
	p := w.pusher(func(c *push.Config) { c.Workers, c.Timeout = 2, 30*time.Second })
	w.credentials(p)
	w.device(p, "apple", push.APNs, appleToken)
	w.device(p, "google", push.FCM, "token")
	w.run(p)
	t.Cleanup(func() { close(release) }) // before the runner stops
	for range 3 {
		w.add(created("apple"))
	}
	w.providers.wait(1)
	for range 3 {
		w.add(created("google"))
	}
	got := w.providers.wait(4)
	for _, r := range got[1:] {
		require.Contains(t, r.path, "/google/")
	}
}

// A login that is refused is no reason to give up at once, and its answer, which
// may repeat what we sent, is kept nowhere.
func TestALoginThatFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pusher()
	require.NoError(t, p.SetHMS(t.Context(), pgtest.Alpha, push.HMSCredential{App: "APP", HMSAppID: "10001", ClientSecret: secret.New([]byte("wrong"))}))
	w.device(p, "u", push.HMS, "token")
	w.run(p)
	w.add(created("u"), created("u"), created("u"))
	require.Eventually(t, func() bool {
		return w.count(`select count(*) from river_job where errors::text like '%invalid_grant%'`) == 3
	}, soon, 5*time.Millisecond)
	require.Zero(t, w.count(`select count(*) from river_job where errors::text like '%repeats%' or errors::text like '%wrong%'`))
	require.Less(t, w.providers.loginCount(), 3, "one attempt for all who wait")
	require.NoError(t, p.SetHMS(t.Context(), pgtest.Alpha, push.HMSCredential{App: "APP", HMSAppID: "10001", ClientSecret: secret.New([]byte(hmsSecret))}))
	w.providers.wait(3)
}

func TestPAX03_PAX04_Credentials(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	p := w.pusher()
	w.credentials(p)
	var all string
	require.NoError(t, w.db.QueryRow(ctx, `select string_agg(encode(sealed, 'escape'), '') from push_credential`).Scan(&all))
	require.NotContains(t, all, hmsSecret)
	require.NotContains(t, all, "iam.gserviceaccount.com")
	events, err := w.audit.List(ctx, pgtest.Alpha, audit.Filter{})
	require.NoError(t, err)
	set := 0
	for _, e := range events {
		if e.Action == "push.credential.set" {
			set++
			require.Equal(t, "admin", e.Actor)
		}
	}
	require.Equal(t, 3, set)

	// A new key is used for the next push, on a sender that is already made.
	w.device(p, "u", push.APNs, appleToken)
	w.run(p)
	w.add(created("u"))
	w.checkProviderToken(w.providers.wait(1)[0].header.Get("Authorization"))
	w.apnsKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	w.credentials(p)
	w.add(created("u"))
	w.checkProviderToken(w.providers.wait(2)[1].header.Get("Authorization"))

	good := secret.New([]byte(p8(t, w.apnsKey)))
	rsaKey := secret.New([]byte(p8(t, w.providers.google)))
	for name, c := range map[string]struct {
		c     push.APNsCredential
		field string
	}{
		"topic":       {push.APNsCredential{Topic: "a b", KeyID: "k", TeamID: "t", PrivateKey: good}, "topic"},
		"dots":        {push.APNsCredential{Topic: "..", KeyID: "k", TeamID: "t", PrivateKey: good}, "topic"},
		"key id":      {push.APNsCredential{Topic: "a", TeamID: "t", PrivateKey: good}, "keyId"},
		"team id":     {push.APNsCredential{Topic: "a", KeyID: "k", TeamID: "t\n", PrivateKey: good}, "teamId"},
		"environment": {push.APNsCredential{Topic: "a", KeyID: "k", TeamID: "t", Environment: "test", PrivateKey: good}, "environment"},
		"no key":      {push.APNsCredential{Topic: "a", KeyID: "k", TeamID: "t"}, "privateKeyBase64"},
		"no Base64":   {push.APNsCredential{Topic: "a", KeyID: "k", TeamID: "t", PrivateKey: secret.New([]byte("!"))}, "privateKeyBase64"},
		"an RSA key":  {push.APNsCredential{Topic: "a", KeyID: "k", TeamID: "t", PrivateKey: rsaKey}, "privateKeyBase64"},
	} {
		c.c.App = "APP"
		err := p.SetAPNs(ctx, pgtest.Alpha, c.c)
		require.ErrorIs(t, err, push.ErrRequest, name)
		v := fault.Of(err).Violations
		require.Len(t, v, 1, name)
		require.Equal(t, c.field, v[0].Field, name)
		if c.field == "privateKeyBase64" {
			require.Nil(t, v[0].Value, "a key is not repeated")
		}
	}
	for name, key := range map[string]string{"none": "", "not JSON": "AAAA", "no service account": "e30=", "an EC key": serviceAccount(t, w.apnsKey)} {
		require.ErrorIs(t, p.SetFCM(ctx, pgtest.Alpha, push.FCMCredential{App: "APP", ProjectID: "p", PrivateKey: secret.New([]byte(key))}), push.ErrRequest, name)
	}
	require.ErrorIs(t, p.SetFCM(ctx, pgtest.Alpha, push.FCMCredential{App: "APP", ProjectID: "../x", PrivateKey: secret.New([]byte(serviceAccount(t, w.providers.google)))}), push.ErrRequest)
	require.ErrorIs(t, p.SetHMS(ctx, pgtest.Alpha, push.HMSCredential{App: "APP", HMSAppID: "1"}), push.ErrRequest)
	require.ErrorIs(t, p.SetAPNs(ctx, pgtest.Alpha, push.APNsCredential{App: "NONE", Topic: "a", KeyID: "k", TeamID: "t", PrivateKey: good}), app.ErrNotFound)
}

func TestDevices(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	p := w.pusher()
	id := w.device(p, "u", push.APNs, appleToken)
	var sealed []byte
	require.NoError(t, w.db.QueryRow(ctx, `select token_sealed from push_device`).Scan(&sealed))
	require.NotContains(t, string(sealed), appleToken)

	set := func(change func(*push.Device)) error {
		d := push.Device{Registration: id, App: "APP", Platform: push.FCM, Token: secret.New([]byte("token"))}
		change(&d)
		return p.SetDevice(ctx, pgtest.Alpha, d)
	}
	require.NoError(t, set(func(*push.Device) {}))
	require.Equal(t, 1, w.count(`select count(*) from push_device where platform = 'fcm'`), "one for each registration")
	for name, change := range map[string]func(*push.Device){
		"registration":      func(d *push.Device) { d.Registration = "x" },
		"platform":          func(d *push.Device) { d.Platform = "wns" },
		"no token":          func(d *push.Device) { d.Token = secret.Bytes{} },
		"long token":        func(d *push.Device) { d.Token = secret.New([]byte(strings.Repeat("x", 4097))) },
		"line break":        func(d *push.Device) { d.Token = secret.New([]byte("a\r\nb")) },
		"path in the token": func(d *push.Device) { d.Platform, d.Token = push.APNs, secret.New([]byte("../"+appleToken[:62])) },
	} {
		require.ErrorIs(t, set(change), push.ErrRequest, name)
	}
	require.ErrorIs(t, set(func(d *push.Device) { d.Registration = uuid.NewString() }), registration.ErrNotFound)
	require.ErrorIs(t, p.SetDevice(ctx, pgtest.Beta, push.Device{Registration: id, App: "APP", Platform: push.FCM, Token: secret.New([]byte("t"))}), registration.ErrNotFound)
	require.NoError(t, p.RemoveDevice(ctx, pgtest.Beta, id))
	require.Equal(t, 1, w.count(`select count(*) from push_device`))
	require.NoError(t, p.RemoveDevice(ctx, pgtest.Alpha, strings.ToUpper(id)))
	require.Zero(t, w.count(`select count(*) from push_device`))
	require.NoError(t, p.RemoveDevice(ctx, pgtest.Alpha, "x"))
}

func ptr(s string) *string { return &s }

func TestPAPUSH01_Send(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	p := w.pusher()
	w.credentials(p)
	id := w.device(p, "u", push.FCM, "one")
	w.device(p, "u", push.FCM, "two")
	hold := make(chan struct{})
	w.providers.answer = func(int, http.ResponseWriter, request) bool {
		<-hold
		return false
	}
	w.run(p)
	begun := time.Now()
	require.NoError(t, p.Send(ctx, pgtest.Alpha, push.Message{
		Apps: []string{"APP"}, UserID: "u", Registration: strings.ToUpper(id), Title: ptr("Hello"), Body: ptr("Text"),
		Extras: map[string]any{"key": "value", "n": 7, "nested": map[string]any{"a": true}}, Actor: "backend",
	}))
	require.Less(t, time.Since(begun), 3*time.Second, "asynchronous")
	close(hold)
	m := w.providers.wait(1)[0].body["message"].(map[string]any)
	require.Equal(t, "one", m["token"])
	require.Equal(t, map[string]any{"key": "value", "n": "7", "nested": `{"a":true}`}, m["data"])
	require.Equal(t, map[string]any{"title": "Hello", "body": "Text"}, m["notification"])

	require.NoError(t, p.Send(ctx, pgtest.Alpha, push.Message{Apps: []string{"APP"}, UserID: "u", Silent: true}))
	for _, r := range w.providers.wait(3)[1:] {
		require.NotContains(t, r.body["message"], "notification")
	}
	require.NoError(t, p.Send(ctx, pgtest.Alpha, push.Message{Apps: []string{"APP"}, UserID: "nobody", Silent: true}))
	require.Equal(t, 3, w.count(`select count(*) from audit_event where action = 'push.send'`))
}

func TestPAPUSH01_Refusals(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	p := w.pusher()
	id := w.device(p, "u", push.FCM, "one")
	for name, c := range map[string]struct {
		change func(*push.Message)
		fields []string // of violations; none: ErrMessage with
		text   string
	}{
		"no user":      {func(m *push.Message) { m.UserID = "" }, []string{"userId"}, ""},
		"long user":    {func(m *push.Message) { m.UserID = strings.Repeat("ž", 256) }, []string{"userId"}, ""},
		"empty title":  {func(m *push.Message) { m.Title = ptr("") }, []string{"title"}, ""},
		"long title":   {func(m *push.Message) { m.Title = ptr(strings.Repeat("x", 256)) }, []string{"title"}, ""},
		"empty both":   {func(m *push.Message) { m.Title, m.Body = ptr(""), ptr("") }, []string{"title", "message"}, ""},
		"no UUID":      {func(m *push.Message) { m.Registration = "7" }, []string{"registrationId"}, ""},
		"their keys":   {func(m *push.Message) { m.Extras = map[string]any{"google.x": 1, "aps": 1} }, []string{"extras.aps", "extras.google.x"}, ""},
		"no title":     {func(m *push.Message) { m.Title = nil }, nil, "Unable to send push message. Title must not be blank."},
		"blank title":  {func(m *push.Message) { m.Title = ptr(" ") }, nil, "Unable to send push message. Title must not be blank."},
		"no message":   {func(m *push.Message) { m.Body = nil }, nil, "Unable to send push message. Message must not be blank."},
		"too large":    {func(m *push.Message) { m.Extras = map[string]any{"k": strings.Repeat("x", 4000)} }, nil, "4000 bytes"},
		"another user": {func(m *push.Message) { m.UserID, m.Registration = "v", id }, nil, "no such active registration"},
		"another app":  {func(m *push.Message) { m.Apps, m.Registration = []string{"OTHER"}, id }, nil, "no such active registration"},
	} {
		m := push.Message{Apps: []string{"APP"}, UserID: "u", Title: ptr("Hello"), Body: ptr("Text")}
		c.change(&m)
		err := p.Send(ctx, pgtest.Alpha, m)
		if c.fields == nil {
			require.ErrorIs(t, err, push.ErrMessage, name)
			require.Contains(t, fault.Of(err).Message, c.text, name)
			continue
		}
		require.ErrorIs(t, err, push.ErrRequest, name)
		var fields []string
		for _, v := range fault.Of(err).Violations {
			fields = append(fields, v.Field)
			require.NotEmpty(t, v.Hint)
		}
		require.Equal(t, c.fields, fields, name)
	}
	require.Zero(t, w.count(`select count(*) from river_job`), "nothing is written for what is refused")
	require.Zero(t, w.count(`select count(*) from audit_event where action = 'push.send'`))

	over, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, p.Send(over, pgtest.Alpha, push.Message{Apps: []string{"APP"}, UserID: "u", Silent: true}), fault.ErrUnavailable)
}

func TestPUSHX12_Inbox(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	p := w.pusher()
	var ids []string
	for _, s := range []string{"one", "two", "three"} {
		m, err := p.PostInbox(ctx, pgtest.Alpha, push.Letter{App: "APP", UserID: "u", Subject: s, Summary: strings.Repeat("s", 300), Body: "b"})
		require.NoError(t, err)
		ids = append(ids, m.ID)
	}
	q := push.InboxQuery{App: "APP", UserID: "u", Limit: 2}
	list, err := p.Inbox(ctx, pgtest.Alpha, q)
	require.NoError(t, err)
	require.Equal(t, []string{"three", "two"}, []string{list[0].Subject, list[1].Subject})
	q.Before = list[1].ID
	list, err = p.Inbox(ctx, pgtest.Alpha, q)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, ids[0], list[0].ID)
	require.True(t, list[0].ReadAt.IsZero())

	require.NoError(t, p.Read(ctx, pgtest.Alpha, q, ids[0]))
	w.skew.Store(int64(time.Hour))
	require.NoError(t, p.Read(ctx, pgtest.Alpha, q, ids[0]))
	list, err = p.Inbox(ctx, pgtest.Alpha, q)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), list[0].ReadAt, time.Minute, "the first time counts")

	for _, twin := range []push.InboxQuery{{App: "APP", UserID: "v"}, {App: "OTHER", UserID: "u"}} {
		list, err := p.Inbox(ctx, pgtest.Alpha, twin)
		require.NoError(t, err)
		require.Empty(t, list)
		require.ErrorIs(t, p.Read(ctx, pgtest.Alpha, twin, ids[1]), push.ErrInboxNotFound)
	}
	list, err = p.Inbox(ctx, pgtest.Beta, push.InboxQuery{App: "APP", UserID: "u"})
	require.NoError(t, err)
	require.Empty(t, list)
	require.ErrorIs(t, p.Read(ctx, pgtest.Beta, q, ids[1]), push.ErrInboxNotFound)
	require.ErrorIs(t, p.Read(ctx, pgtest.Alpha, q, "x"), push.ErrInboxNotFound)
	_, err = p.Inbox(ctx, pgtest.Alpha, push.InboxQuery{Before: "x"})
	require.ErrorIs(t, err, push.ErrRequest)

	_, err = p.PostInbox(ctx, pgtest.Alpha, push.Letter{App: "APP", Type: "pdf", Body: strings.Repeat("x", 65537)})
	require.ErrorIs(t, err, push.ErrRequest)
	require.Len(t, fault.Of(err).Violations, 5)
	_, err = p.PostInbox(ctx, pgtest.Alpha, push.Letter{App: "NONE", UserID: "u", Subject: "s", Summary: "s"})
	require.ErrorIs(t, err, app.ErrNotFound)
}

// The file sender takes every push, also for a device that told no token.
func TestRecordForDevelopment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "push.jsonl")
	file, err := push.OpenFile(path)
	require.NoError(t, err)
	p := w.pusher(func(c *push.Config) { c.Record = file })
	w.device(p, "u", push.APNs, appleToken)
	w.register(pgtest.Alpha, "u", "ACTIVE")
	w.run(p)
	w.add(created("u"))
	lines := func() (out []push.Recorded) {
		f, err := os.Open(path)
		require.NoError(t, err)
		defer func() { _ = f.Close() }()
		for s := bufio.NewScanner(f); s.Scan(); {
			var r push.Recorded
			require.NoError(t, json.Unmarshal(s.Bytes(), &r))
			require.NotContains(t, s.Text(), appleToken)
			out = append(out, r)
		}
		return out
	}
	require.Eventually(t, func() bool { return len(lines()) == 2 }, soon, 5*time.Millisecond)
	platforms := map[push.Platform]int{}
	for _, l := range lines() {
		platforms[l.Platform]++
		require.Equal(t, "mtoken.operationInit", l.Extras["messageType"])
		require.Equal(t, l.Registration, l.Extras["activationId"])
	}
	require.Equal(t, map[push.Platform]int{push.APNs: 1, "": 1}, platforms)
	require.Empty(t, w.providers.requests())
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.NoError(t, file.Close())
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	_, err := push.New(push.Config{})
	require.Error(t, err)
	require.False(t, errors.Is(err, fault.ErrUnavailable))
}
