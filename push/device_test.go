package push_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/push"
	"github.com/signet-hsm/signet/registration"
)

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
