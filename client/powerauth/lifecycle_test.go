package powerauth_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/token/tokentest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var mine = []string{"APP"}

const pk, pb = signature.PossessionKnowledge, signature.PossessionBiometry

func config(in *tokentest.Installation, v signature.Version) powerauth.Config {
	app := in.Versions[pgtest.Alpha]
	return powerauth.Config{
		BaseURL: in.URL, HTTP: in.Client, Now: in.Now, Version: v,
		ApplicationKey: signature.EncodeBase64(app.Key[:]), ApplicationSecret: string(app.Secret.Reveal()),
		MasterPublicKey: signature.EncodeBase64(in.Masters[pgtest.Alpha]),
	}
}

// active makes a device whose registration is ACTIVE.
func active(t *testing.T, in *tokentest.Installation, user string, v signature.Version) *powerauth.Device {
	t.Helper()
	d, err := powerauth.New(config(in, v))
	require.NoError(t, err)
	c, err := in.Registrations.Create(t.Context(), pgtest.Alpha, registration.CreateParams{Apps: mine, App: "APP", UserID: user})
	require.NoError(t, err)
	require.NoError(t, d.Activate(t.Context(), c.QRCodeData, powerauth.ActivateOptions{Name: "phone"}))
	status, err := d.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, "PENDING_COMMIT", status.State)
	require.NoError(t, in.Registrations.Commit(t.Context(), pgtest.Alpha, registration.CommitParams{Apps: mine, ID: c.ID}))
	return d
}

func change(t *testing.T, in *tokentest.Installation, d *powerauth.Device, c registration.Change) {
	t.Helper()
	require.NoError(t, in.Registrations.Change(t.Context(), pgtest.Alpha, registration.ChangeParams{
		Apps: mine, ID: d.ActivationID(), Change: c,
	}))
}

// A whole life, in every version, against the real domains.
func TestLifeInEveryVersion(t *testing.T) {
	t.Parallel()
	in := tokentest.New(t)
	for _, v := range []signature.Version{signature.V30, signature.V31, signature.V32, signature.V33} {
		t.Run(v.String(), func(t *testing.T) {
			ctx := t.Context()
			d := active(t, in, "user-"+v.String(), v)
			require.NoError(t, d.ValidateSignature(ctx, signature.Possession))
			require.NoError(t, d.Rename(ctx, "Petrův telefon", pk))
			got, err := in.Registrations.Get(ctx, pgtest.Alpha, mine, d.ActivationID())
			require.NoError(t, err)
			require.Equal(t, "Petrův telefon", got.Name)
			key, err := d.UnlockVault(ctx, "ADD_BIOMETRY", pk)
			require.NoError(t, err)
			require.NotZero(t, key)
			again, err := d.UnlockVault(ctx, "", pk)
			require.NoError(t, err)
			require.Equal(t, key, again)
			token, err := d.CreateToken(ctx, signature.Possession)
			require.NoError(t, err)
			header, err := d.TokenHeader(token)
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(header, `PowerAuth version="`+v.String()))
			require.NoError(t, d.RemoveToken(ctx, token, pb))

			refused := func(err error, code string) {
				t.Helper()
				var e *powerauth.ServerError
				require.ErrorAs(t, err, &e)
				require.Equal(t, code, e.Code)
			}
			_, err = d.UnlockVault(ctx, "", signature.Possession)
			refused(err, "POWER_AUTH_SIGNATURE_TYPE_INVALID")
			_, err = d.UnlockVault(ctx, "a b", pk)
			refused(err, "ERR0024")
			refused(d.RemoveActivation(ctx, signature.Possession), "POWER_AUTH_SIGNATURE_TYPE_INVALID")
			require.NotEmpty(t, d.ActivationID())

			exported, err := d.Export()
			require.NoError(t, err)
			change(t, in, d, registration.Block)
			status, err := d.Status(ctx)
			require.NoError(t, err)
			require.Equal(t, "BLOCKED", status.State)
			change(t, in, d, registration.Unblock)
			other, err := powerauth.Import(config(in, v), exported)
			require.NoError(t, err)
			require.NoError(t, other.RemoveActivation(ctx, pk))
			require.Empty(t, other.ActivationID())
			_, err = other.Status(ctx)
			require.ErrorIs(t, err, powerauth.ErrNotActive)
			status, err = d.Status(ctx)
			require.NoError(t, err)
			require.Equal(t, "REMOVED", status.State)
		})
	}
}

// A device goes on from 3.0 to 3.3 with the keys that it has.
func TestMoveUp(t *testing.T) {
	t.Parallel()
	in := tokentest.New(t)
	d := active(t, in, "petr", signature.V30)
	for _, v := range []signature.Version{signature.V31, signature.V32, signature.V33} {
		exported, err := d.Export()
		require.NoError(t, err)
		d, err = powerauth.Import(config(in, v), exported)
		require.NoError(t, err)
		_, err = d.CreateToken(t.Context(), pk)
		require.NoError(t, err)
	}
}

func TestStatusBringsTheCountersTogether(t *testing.T) {
	t.Parallel()
	ctx, in := t.Context(), tokentest.New(t)
	d := active(t, in, "petr", signature.V33)
	exported, err := d.Export()
	require.NoError(t, err)
	lose := func(n int) {
		for range n {
			_, err := d.Sign("POST", "/lost", nil, pk)
			require.NoError(t, err)
		}
	}
	lose(3)
	status, err := d.Status(ctx)
	require.NoError(t, err)
	require.Equal(t, powerauth.Status{State: "ACTIVE", MaxFailedAttempts: 5, Ahead: 3}, status)
	lose(12)
	status, err = d.Status(ctx)
	require.NoError(t, err)
	require.True(t, status.SignSoon)
	require.Equal(t, 15, status.Ahead)
	require.NoError(t, d.ValidateSignature(ctx, signature.Possession))
	status, err = d.Status(ctx)
	require.NoError(t, err)
	require.Zero(t, status.Ahead)

	// An old copy of the state is behind, and follows.
	old, err := powerauth.Import(config(in, signature.V33), exported)
	require.NoError(t, err)
	status, err = old.Status(ctx)
	require.NoError(t, err)
	require.Zero(t, status.Ahead)
	require.NoError(t, old.ValidateSignature(ctx, pk))

	lose(21) // d is one behind old, so this is 20 ahead: the last that can be saved
	status, err = d.Status(ctx)
	require.NoError(t, err)
	require.Equal(t, 20, status.Ahead)
	lose(1)
	_, err = d.Status(ctx)
	require.ErrorIs(t, err, powerauth.ErrCounter)
}

func TestStatusOfAnotherServer(t *testing.T) {
	t.Parallel()
	in, other := tokentest.New(t), tokentest.New(t)
	d := active(t, in, "petr", signature.V33)
	exported, err := d.Export()
	require.NoError(t, err)
	c := config(in, signature.V33)
	c.BaseURL = other.URL
	lost, err := powerauth.Import(c, exported)
	require.NoError(t, err)
	_, err = lost.Status(t.Context())
	require.ErrorIs(t, err, powerauth.ErrUnknown)
}

// A temporary key that the server has not signed for this very question is none.
func TestTemporaryKeyIsVerified(t *testing.T) {
	t.Parallel()
	in := tokentest.New(t)
	real := in.Client.Transport
	var kept []byte
	for name, spoil := range map[string]func(jwt string) string{
		"signature": func(s string) string { return s[:len(s)-4] + "AAAA" },
		"algorithm": func(s string) string {
			return "eyJhbGciOiJub25lIn0" + s[strings.IndexByte(s, '.'):]
		},
		"replay": func(s string) string {
			if kept == nil {
				kept = []byte(s)
				return s
			}
			return string(kept)
		},
		"parts": func(s string) string { return s + ".x" },
	} {
		c := config(in, signature.V33)
		c.HTTP = &http.Client{Transport: rewrite{real, spoil}}
		for range 2 { // the replay needs something to replay
			d, err := powerauth.New(c)
			require.NoError(t, err)
			err = d.Activate(t.Context(), signature.NewActivationCode([10]byte{1}), powerauth.ActivateOptions{})
			var refused *powerauth.ServerError
			if errors.As(err, &refused) { // the honest first answer of "replay"
				require.Equal(t, "replay", name)
				require.Equal(t, "ERR0009", refused.Code)
				continue
			}
			require.ErrorIs(t, err, powerauth.ErrProtocol, name)
		}
	}
}

// rewrite changes the JWT of an answer.
type rewrite struct {
	next  http.RoundTripper
	spoil func(string) string
}

func (r rewrite) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.next.RoundTrip(req)
	if err != nil || req.URL.Path != "/pa/v3/keystore/create" {
		return resp, err
	}
	var m struct {
		ResponseObject struct {
			JWT string `json:"jwt"`
		} `json:"responseObject"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&m); err != nil {
		return nil, err
	}
	m.ResponseObject.JWT = r.spoil(m.ResponseObject.JWT)
	text, err := json.Marshal(m)
	resp.Body = http.NoBody
	resp.Body = body{strings.NewReader(string(text))}
	return resp, err
}

type body struct{ *strings.Reader }

func (body) Close() error { return nil }

// Keys are fetched anew before they expire.
func TestTemporaryKeyIsRenewed(t *testing.T) {
	t.Parallel()
	in := tokentest.New(t)
	d := active(t, in, "petr", signature.V33)
	keys := func() (n int) {
		require.NoError(t, in.DB.QueryRow(t.Context(), `select count(*) from temporary_key where registration_id is not null`).Scan(&n))
		return n
	}
	for range 3 {
		require.NoError(t, d.Rename(t.Context(), "x", pk))
	}
	require.Equal(t, 1, keys())
	in.Turn(registration.TemporaryKeyValidity - time.Second)
	require.NoError(t, d.Rename(t.Context(), "y", pk))
	require.Equal(t, 2, keys())
}

type vouchers struct{}

func (vouchers) Resolve(_ context.Context, a registration.CustomActivation) (*registration.CustomUser, error) {
	if a.Identity["voucher"] != "V-1" {
		return nil, nil
	}
	return &registration.CustomUser{UserID: "petr", Commit: true}, nil
}

func TestActivateCustom(t *testing.T) {
	t.Parallel()
	in := tokentest.New(t, func(c *registration.Config) { c.Custom = vouchers{} })
	d, err := powerauth.New(config(in, signature.V33))
	require.NoError(t, err)
	var refused *powerauth.ServerError
	require.ErrorAs(t, d.ActivateCustom(t.Context(), map[string]any{"voucher": "V-2"}, powerauth.ActivateOptions{}), &refused)
	require.Equal(t, "ERR0009", refused.Code)
	require.NoError(t, d.ActivateCustom(t.Context(), map[string]any{"voucher": "V-1"}, powerauth.ActivateOptions{}))
	status, err := d.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, "ACTIVE", status.State)
}
