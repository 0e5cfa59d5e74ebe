package push_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/push"
)

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
