package registration_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
)

func TestKeyExchange33(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	c := w.create(alpha, "petr")
	d := w.newDevice(alpha)
	d.protocol = signature.V33
	d.applicationKey = d.fetch(w.node, false)
	other := w.newNode(w.pool(), nil) // the key serves on every node, and more than once
	require.NoError(t, d.activate(ctx, other, c.ActivationCode, ""))
	require.NoError(t, w.node.Commit(ctx, alpha, registration.CommitParams{Apps: mine, ID: c.ID}))
	require.Equal(t, "3.3", w.row(alpha, c.ID).Version)
	require.True(t, d.verify(d.sign(signature.PossessionKnowledge)).Valid)
	second := w.newDevice(alpha)
	second.protocol, second.applicationKey = signature.V33, d.applicationKey
	require.NoError(t, second.activate(ctx, w.node, w.create(alpha, "jana").ActivationCode, ""))
}

func TestTemporaryKeyIsForItsOwnersAndItsTime(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	c, twin := w.create(alpha, "petr"), w.create(beta, "petr")
	d := w.newDevice(alpha)
	d.protocol = signature.V33
	d.applicationKey = d.fetch(w.node, false)
	try := func(key *temporary, d *device, code string) error {
		x := *d
		x.applicationKey = key
		return x.activate(ctx, w.node, code, "")
	}
	active := w.active(alpha, "jana")
	ofRegistration := active.fetch(w.node, true)
	require.ErrorIs(t, try(ofRegistration, d, c.ActivationCode), registration.ErrTemporaryKey, "a registration's")
	unknown := *d.applicationKey
	unknown.id = "8819ac31-ad29-40d1-ac60-1b54293abe61"
	require.ErrorIs(t, try(&unknown, d, c.ActivationCode), registration.ErrTemporaryKey)
	unknown.id = "x"
	require.ErrorIs(t, try(&unknown, d, c.ActivationCode), registration.ErrTemporaryKey)
	db := w.newDevice(beta)
	db.protocol = signature.V33
	require.ErrorIs(t, try(d.applicationKey, db, twin.ActivationCode), registration.ErrTemporaryKey, "the twin's")

	// A row that someone moved to another registration does not open.
	jana := active.fetch(w.node, true)
	eva := w.active(alpha, "eva")
	body, _ := eva.sealScoped(signature.V33, signature.InfoActivation, jana, map[string]string{"activationName": "x"})
	_, err := w.node.Rename(ctx, eva.signed(signature.V33, signature.PossessionKnowledge, "POST", registration.URIRename, body))
	require.ErrorIs(t, err, registration.ErrTemporaryKey)
	_, err = w.db.Exec(ctx, `update temporary_key set registration_id = $1 where id = $2`, eva.id, jana.id)
	require.NoError(t, err)
	_, err = w.node.Rename(ctx, eva.signed(signature.V33, signature.PossessionKnowledge, "POST", registration.URIRename, body))
	require.ErrorContains(t, err, "temporary_key.private_sealed")

	w.skew.Store(int64(registration.TemporaryKeyValidity))
	require.ErrorIs(t, try(d.applicationKey, d, c.ActivationCode), registration.ErrTemporaryKey, "expired")
	w.skew.Store(int64(registration.TemporaryKeyValidity + time.Second))
	_, err = w.node.Sweep(ctx)
	require.NoError(t, err)
	var left int
	require.NoError(t, w.db.QueryRow(ctx, `select count(*) from temporary_key`).Scan(&left))
	require.Zero(t, left, "purged")
}

func TestTemporaryKeyRequests(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	d := w.active(alpha, "petr")
	pending := w.newDevice(alpha)
	require.NoError(t, pending.activate(ctx, w.node, w.create(alpha, "jana").ActivationCode, ""))
	wrong := func(key []byte) []byte {
		k := append([]byte(nil), key...)
		k[0] ^= 1
		return k
	}
	for name, c := range map[string]struct {
		want error
		of   *device
		act  bool
		make func(claims map[string]any, key []byte) string
	}{
		"no JWT":    {want: registration.ErrRequest, make: func(map[string]any, []byte) string { return "x" }},
		"two parts": {want: registration.ErrRequest, make: func(map[string]any, []byte) string { return "e30.e30" }},
		"none": {want: registration.ErrRequest, make: func(c map[string]any, _ []byte) string {
			j := d.jwtFor(`{"alg":"none"}`, c, nil)
			return j[:strings.LastIndexByte(j, '.')+1]
		}},
		"HS512": {want: registration.ErrRequest, make: func(c map[string]any, k []byte) string {
			return d.jwtFor(`{"alg":"HS512","typ":"JWT"}`, c, k)
		}},
		"ES256": {want: registration.ErrRequest, make: func(c map[string]any, k []byte) string {
			return d.jwtFor(`{"alg":"ES256"}`, c, k)
		}},
		"long": {want: registration.ErrRequest, make: func(c map[string]any, k []byte) string {
			c["more"] = strings.Repeat("x", 4096)
			return d.jwtFor(hs256Header, c, k)
		}},
		"no challenge": {want: registration.ErrRequest, make: func(c map[string]any, k []byte) string {
			delete(c, "challenge")
			return d.jwtFor(hs256Header, c, k)
		}},
		"short application key": {want: registration.ErrRequest, make: func(c map[string]any, k []byte) string {
			c["applicationKey"] = "AAAA"
			return d.jwtFor(hs256Header, c, k)
		}},
		"unknown application key": {want: registration.ErrTemporaryKey, make: func(c map[string]any, k []byte) string {
			c["applicationKey"] = signature.EncodeBase64(make([]byte, 16))
			return d.jwtFor(hs256Header, c, k)
		}},
		"wrong MAC": {want: registration.ErrTemporaryKey, make: func(c map[string]any, k []byte) string {
			return d.jwtFor(hs256Header, c, wrong(k))
		}},
		"wrong MAC of a registration": {want: registration.ErrTemporaryKey, act: true, make: func(c map[string]any, k []byte) string {
			return d.jwtFor(hs256Header, c, wrong(k))
		}},
		"unknown registration": {want: registration.ErrTemporaryKey, act: true, make: func(c map[string]any, k []byte) string {
			c["activationId"] = "8819ac31-ad29-40d1-ac60-1b54293abe61"
			return d.jwtFor(hs256Header, c, k)
		}},
		"no UUID": {want: registration.ErrTemporaryKey, act: true, make: func(c map[string]any, k []byte) string {
			c["activationId"] = "x"
			return d.jwtFor(hs256Header, c, k)
		}},
		"not committed": {want: registration.ErrTemporaryKey, act: true, of: pending, make: func(c map[string]any, k []byte) string {
			return d.jwtFor(hs256Header, c, k)
		}},
	} {
		of := d
		if c.of != nil {
			of = c.of
		}
		claims, key := of.claims(c.act)
		_, err := w.node.TemporaryKey(ctx, c.make(claims, key))
		require.ErrorIs(t, err, c.want, name)
	}
	var n int
	require.NoError(t, w.db.QueryRow(ctx, `select count(*) from temporary_key`).Scan(&n))
	require.Zero(t, n, "nothing was stored")

	require.NoError(t, w.change(d.id, registration.Block))
	d.fetch(w.node, true) // a blocked device may still ask
	require.NoError(t, w.change(d.id, registration.Remove))
	claims, key := d.claims(true)
	_, err := w.node.TemporaryKey(ctx, d.jwtFor(hs256Header, claims, key))
	require.ErrorIs(t, err, registration.ErrTemporaryKey)
}

// A message of 3.2 or later is served once, on whatever node, for as long as its
// time is accepted; one with a wrong MAC leaves no trace.
func TestEncryptedMessagesAreServedOnce(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	nonces := func() (n int) {
		require.NoError(t, w.db.QueryRow(ctx, `select count(*) from used_nonce`).Scan(&n))
		return n
	}
	c := w.create(alpha, "petr", withOTP(registration.OTPOnKeyExchange, "24680"))
	d := w.newDevice(alpha)
	req, _, _ := d.request(c.ActivationCode, "1")
	forged, _, _ := d.request(c.ActivationCode, "1")
	mac := signature.EncodeBase64(make([]byte, 32))
	forged.Message.MAC = &mac
	_, err := w.node.Activate(ctx, forged)
	require.ErrorIs(t, err, registration.ErrDecrypt)
	require.Zero(t, nonces())
	_, err = w.node.Activate(ctx, req)
	require.ErrorIs(t, err, registration.ErrOTP)
	other := w.newNode(w.pool(), nil)
	for range 6 { // a replay can not use up the attempts
		_, err = other.Activate(ctx, req)
		require.ErrorIs(t, err, registration.ErrRequest)
	}
	require.Equal(t, 1, w.row(alpha, c.ID).Failed)
	require.Equal(t, 1, nonces())
	w.skew.Store(int64(registration.MaxClockSkew - time.Second))
	_, err = w.node.Sweep(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, nonces(), "the message would still be accepted")
	w.skew.Store(int64(registration.MaxClockSkew + 2*time.Minute))
	_, err = w.node.Sweep(ctx)
	require.NoError(t, err)
	require.Zero(t, nonces())
	_, err = w.node.Activate(ctx, req)
	require.ErrorIs(t, err, registration.ErrRequest, "too old now")
}

func FuzzTemporaryRequest(f *testing.F) {
	for _, s := range []string{
		"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJhcHBsaWNhdGlvbktleSI6IkFBIiwiY2hhbGxlbmdlIjoiQUEifQ.AAAA",
		"eyJhbGciOiJub25lIn0.e30.", "..", "e30.e30.e30", "{}",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if registration.ParseTemporaryRequest(s) {
			require.Equal(t, 2, strings.Count(s, "."))
			require.LessOrEqual(t, len(s), 4096)
		}
	})
}
