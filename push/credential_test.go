package push_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/push"
)

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
