package registration_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
)

func TestPAREG01_CreateGivesACodeSignedInTheHSM(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	c := w.create(alpha, "petr")
	_, err := signature.ParseActivationCode(c.ActivationCode)
	require.NoError(t, err)
	w.requireSigned(alpha, c.QRCodeData, c.ActivationCode)
	got, err := w.node.Get(ctx, alpha, mine, c.ID)
	require.NoError(t, err)
	require.Equal(t, registration.StateCreated, got.State)
	require.Equal(t, []string{"FLAG"}, got.Flags)
	require.NotEqual(t, c.QRCodeData, got.QRCodeData, "the code is signed anew")
	w.requireSigned(alpha, got.QRCodeData, c.ActivationCode)
	require.Empty(t, got.Fingerprint)
	events := w.events(alpha, c.ID, "registration.create")
	require.Len(t, events, 1)
	require.Equal(t, "petr", events[0].UserID)
}

func TestPAREG01_Refusals(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	good := registration.CreateParams{Apps: mine, App: "APP", UserID: "u"}
	for name, c := range map[string]struct {
		field  string
		change func(*registration.CreateParams)
	}{
		"no user":          {"userId", func(p *registration.CreateParams) { p.UserID = "" }},
		"long user":        {"userId", func(p *registration.CreateParams) { p.UserID = strings.Repeat("ü", 256) }},
		"NUL in user":      {"userId", func(p *registration.CreateParams) { p.UserID = "a\x00" }},
		"no application":   {"appId", func(p *registration.CreateParams) { p.App = "" }},
		"unknown mode":     {"otpValidation", withOTP("LATER", "1")},
		"otp without mode": {"otpValidation", withOTP("", "1")},
		"otp with NONE":    {"otpValidation", withOTP(registration.OTPNone, "1")},
		"mode without otp": {"otp", withOTP(registration.OTPOnCommit, "")},
		"long otp":         {"otp", withOTP(registration.OTPOnCommit, strings.Repeat("1", 256))},
		"empty flag":       {"flags[1]", func(p *registration.CreateParams) { p.Flags = []string{"a", ""} }},
		"too many flags":   {"flags", func(p *registration.CreateParams) { p.Flags = make([]string, registration.MaxFlags+1) }},
	} {
		p := good
		c.change(&p)
		_, err := w.node.Create(ctx, alpha, p)
		require.ErrorIs(t, err, registration.ErrInvalid, name)
		v := fault.Of(err).Violations
		require.Len(t, v, 1, name)
		require.Equal(t, c.field, v[0].Field, name)
		if c.field == "otp" {
			require.Nil(t, v[0].Value, "an otp is not repeated")
		}
	}
	for name, change := range map[string]func(*registration.CreateParams){
		"unknown application":     func(p *registration.CreateParams) { p.App, p.Apps = "OTHER", []string{"OTHER"} },
		"another's application":   func(p *registration.CreateParams) { p.Apps = []string{"OTHER"} },
		"caller without any apps": func(p *registration.CreateParams) { p.Apps = nil },
	} {
		p := good
		change(&p)
		_, err := w.node.Create(ctx, alpha, p)
		require.ErrorIs(t, err, registration.ErrNotFound, name)
	}
	var n int
	require.NoError(t, w.db.QueryRow(ctx, `select count(*) from registration`).Scan(&n))
	require.Zero(t, n)
}

// The HSM comes before the row: what it did not sign is not stored.
func TestPAREG01_WithoutTheMasterKeyNothingIsStored(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	require.NoError(t, w.hsm.Destroy(ctx, hsm.Ref{Tenant: "alpha", Role: hsm.RoleMaster, Name: "APP"}))
	_, err := w.node.Create(ctx, alpha, registration.CreateParams{Apps: mine, App: "APP", UserID: "petr"})
	require.Equal(t, fault.Internal, fault.KindOf(err), "%v", err)
	list, err := w.node.List(ctx, alpha, mine, "petr")
	require.NoError(t, err)
	require.Empty(t, list)
}

func TestPAREG01_OneInProgressPerUserAndApplication(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	p := registration.CreateParams{Apps: mine, App: "APP", UserID: "petr"}
	var (
		wg   sync.WaitGroup
		made atomic.Int32
	)
	for range 8 {
		wg.Go(func() {
			_, err := w.node.Create(ctx, alpha, p)
			if err == nil {
				made.Add(1)
				return
			}
			require.ErrorIs(t, err, registration.ErrNotAllowed)
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, made.Load())
	w.create(beta, "petr")  // the twin is another person
	w.create(alpha, "jana") // and so is another user

	// A stale one makes room, also after the key exchange.
	list, err := w.node.List(ctx, alpha, mine, "petr")
	require.NoError(t, err)
	require.Len(t, list, 1)
	w.skew.Store(int64(registration.DefaultValidity))
	c := w.create(alpha, "petr")
	require.Equal(t, registration.StateRemoved, w.row(alpha, list[0].ID).State)
	require.Equal(t, map[string]int{"expired": 1}, outcomes(w.events(alpha, list[0].ID, "registration.expire")))
	d := w.newDevice(alpha)
	require.NoError(t, d.activate(ctx, w.node, c.ActivationCode, ""))
	_, err = w.node.Create(ctx, alpha, p)
	require.ErrorIs(t, err, registration.ErrNotAllowed)
	require.NoError(t, w.node.Commit(ctx, alpha, registration.CommitParams{Apps: mine, ID: d.id}))
	w.create(alpha, "petr") // an ACTIVE one is no hindrance
}

func TestKeyExchangeInEveryVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, v := range []signature.Version{signature.V30, signature.V31, signature.V32} {
		t.Run(v.String(), func(t *testing.T) {
			ctx := t.Context()
			c := w.create(alpha, "user-"+v.String())
			d := w.newDevice(alpha)
			d.protocol = v
			require.NoError(t, d.activate(ctx, w.node, c.ActivationCode, ""))
			require.Equal(t, c.ID, d.id)
			got, err := w.node.Get(ctx, alpha, mine, c.ID)
			require.NoError(t, err)
			require.Equal(t, registration.StatePendingCommit, got.State)
			require.Equal(t, []string{"Petr's phone", "ios", "iPhone10,6"}, []string{got.Name, got.Platform, got.DeviceInfo})
			require.Equal(t, signature.Fingerprint(d.private.PublicKey(), d.id, d.server), got.Fingerprint)
			require.Empty(t, got.QRCodeData)
			require.ErrorIs(t, d.activate(ctx, w.node, c.ActivationCode, ""), registration.ErrActivation, "a code is good once")
			require.False(t, d.verify(d.signAt(d.ctr, signature.PossessionKnowledge)).Valid, "not committed yet")
			require.NoError(t, w.node.Commit(ctx, alpha, registration.CommitParams{Apps: mine, ID: c.ID, ExternalUserID: "operator1"}))
			require.True(t, d.verify(d.sign(signature.PossessionKnowledge)).Valid)
			require.Equal(t, "operator1", w.events(alpha, c.ID, "registration.commit")[0].Detail["externalUserId"])
		})
	}
}

func TestKeyExchangeErrors(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	c := w.create(alpha, "petr")
	flip := func(s *string) *string {
		first := "A"
		if (*s)[0] == 'A' {
			first = "B"
		}
		out := first + (*s)[1:]
		return &out
	}
	for name, s := range map[string]struct {
		want   error
		change func(*device)
		code   string
	}{
		"old timestamp": {want: registration.ErrRequest, change: func(d *device) {
			d.now = func() time.Time { return w.now().Add(-registration.MaxClockSkew - time.Second) }
		}},
		"future timestamp": {want: registration.ErrRequest, change: func(d *device) {
			d.now = func() time.Time { return w.now().Add(registration.MaxClockSkew + time.Minute) }
		}},
		"layer 1 field missing": {want: registration.ErrRequest, change: func(d *device) {
			d.tamper = func(outer, _ *signature.EncryptedRequest) {
				if outer != nil {
					outer.MAC = nil
				}
			}
		}},
		"layer 2 field missing": {want: registration.ErrRequest, change: func(d *device) {
			d.tamper = func(_, inner *signature.EncryptedRequest) {
				if inner != nil {
					inner.Nonce = nil
				}
			}
		}},
		"layer 1 MAC": {want: registration.ErrDecrypt, change: func(d *device) {
			d.tamper = func(outer, _ *signature.EncryptedRequest) {
				if outer != nil {
					outer.MAC = flip(outer.MAC)
				}
			}
		}},
		"layer 2 data": {want: registration.ErrDecrypt, change: func(d *device) {
			d.tamper = func(_, inner *signature.EncryptedRequest) {
				if inner != nil {
					inner.EncryptedData = flip(inner.EncryptedData)
				}
			}
		}},
		"unknown code":   {want: registration.ErrActivation, code: signature.NewActivationCode([10]byte{1})},
		"malformed code": {want: registration.ErrActivation, code: "23456-DEFGH-77777-77777"},
		"twin's code":    {want: registration.ErrActivation, change: func(d *device) { d.tenant = beta }},
		"long platform":  {want: registration.ErrRequest, change: func(d *device) { d.platform = strings.Repeat("x", 256) }},
		"unasked OTP":    {want: registration.ErrOTP},
	} {
		t.Run(name, func(t *testing.T) {
			d := w.newDevice(alpha)
			if s.change != nil {
				s.change(d)
			}
			code, otp := c.ActivationCode, ""
			if s.code != "" {
				code = s.code
			}
			if name == "unasked OTP" {
				otp = "12345"
			}
			req, _, _ := d.request(code, otp)
			_, err := w.node.Activate(ctx, req)
			require.ErrorIs(t, err, s.want)
		})
	}
	t.Run("application key", func(t *testing.T) {
		req, _, _ := w.newDevice(alpha).request(c.ActivationCode, "")
		req.Header.ApplicationKey[0] ^= 1
		_, err := w.node.Activate(ctx, req)
		require.ErrorIs(t, err, registration.ErrExpired)
	})
	t.Run("not JSON", func(t *testing.T) {
		d := w.newDevice(alpha)
		m, _ := d.seal(signature.InfoApplication, "text")
		_, err := w.node.Activate(ctx, registration.ActivateRequest{
			Header: signature.EncryptionHeader{ApplicationKey: w.version[alpha].Key, Version: d.protocol}, Message: m,
		})
		require.ErrorIs(t, err, registration.ErrFormat)
	})
	t.Run("another type", func(t *testing.T) {
		d := w.newDevice(alpha)
		m, _ := d.seal(signature.InfoApplication, map[string]string{"activationType": "RECOVERY"})
		_, err := w.node.Activate(ctx, registration.ActivateRequest{
			Header: signature.EncryptionHeader{ApplicationKey: w.version[alpha].Key, Version: d.protocol}, Message: m,
		})
		require.ErrorIs(t, err, registration.ErrRequest)
	})
	r := w.row(alpha, c.ID)
	require.Equal(t, registration.StateCreated, r.State)
	require.EqualValues(t, 1, r.Revision, "nothing was stored")
	require.NoError(t, w.newDevice(alpha).activate(ctx, w.node, c.ActivationCode, ""), "and the code is still good")
}

func TestKeyExchangeWithABadDeviceKeyRemoves(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	c := w.create(alpha, "petr")
	d := w.newDevice(alpha)
	off := d.private.PublicKey().Bytes()
	off[64] ^= 1
	d.publicKey = signature.EncodeBase64(off)
	require.ErrorIs(t, d.activate(ctx, w.node, c.ActivationCode, ""), registration.ErrActivation)
	require.Equal(t, registration.StateRemoved, w.row(alpha, c.ID).State)
	require.Equal(t, map[string]int{"device_key_invalid": 1}, outcomes(w.events(alpha, c.ID, "registration.exchange")))
	_, err := w.node.Get(ctx, alpha, mine, c.ID)
	require.ErrorIs(t, err, registration.ErrNotFound)
	w.create(alpha, "petr") // the user may start again
}

func TestKeyExchangeAcceptsACompressedKeyAndStoresThePoint(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	d := w.newDevice(alpha)
	full := d.private.PublicKey().Bytes()
	d.publicKey = signature.EncodeBase64(append([]byte{2 + full[64]&1}, full[1:33]...))
	require.NoError(t, d.activate(ctx, w.node, w.create(alpha, "petr").ActivationCode, ""))
	var stored []byte
	require.NoError(t, w.db.QueryRow(ctx, `select device_public_key from registration where id = $1`, d.id).Scan(&stored))
	require.Equal(t, full, stored)
}

func TestKeyExchangeOfOneCodeByManyDevices(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	c := w.create(alpha, "petr")
	other := w.newNode(w.pool(), nil)
	var (
		wg   sync.WaitGroup
		made atomic.Int32
	)
	for i := range 8 {
		wg.Go(func() {
			node := w.node
			if i%2 == 1 {
				node = other
			}
			req, _, _ := w.newDevice(alpha).request(c.ActivationCode, "")
			if _, err := node.Activate(ctx, req); err == nil {
				made.Add(1)
			} else {
				require.ErrorIs(t, err, registration.ErrActivation)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, made.Load())
	require.Equal(t, map[string]int{"ok": 1}, outcomes(w.events(alpha, c.ID, "registration.exchange")))
}

func TestExpiredCode(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	c := w.create(alpha, "petr")
	w.skew.Store(int64(registration.DefaultValidity))
	require.ErrorIs(t, w.newDevice(alpha).activate(ctx, w.node, c.ActivationCode, ""), registration.ErrExpired)
	require.Equal(t, registration.StateRemoved, w.row(alpha, c.ID).State)
	require.ErrorIs(t, w.newDevice(alpha).activate(ctx, w.node, c.ActivationCode, ""), registration.ErrActivation)
}

func TestOTPOnKeyExchange(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	t.Run("right: ACTIVE without a commit", func(t *testing.T) {
		c := w.create(alpha, "petr", withOTP(registration.OTPOnKeyExchange, "24680"))
		d := w.newDevice(alpha)
		require.ErrorIs(t, d.activate(ctx, w.node, c.ActivationCode, ""), registration.ErrOTP)
		require.Zero(t, w.row(alpha, c.ID).Failed, "a missing one is not an attempt")
		require.ErrorIs(t, d.activate(ctx, w.node, c.ActivationCode, "24681"), registration.ErrOTP)
		require.Equal(t, 1, w.row(alpha, c.ID).Failed)
		require.NoError(t, d.activate(ctx, w.node, c.ActivationCode, "24680"))
		require.Equal(t, registration.StateActive, w.row(alpha, c.ID).State)
		require.Zero(t, w.row(alpha, c.ID).Failed)
		require.True(t, d.verify(d.sign(signature.Possession)).Valid)
	})
	t.Run("many wrong at once: REMOVED at the limit", func(t *testing.T) {
		c := w.create(alpha, "jana", withOTP(registration.OTPOnKeyExchange, "24680"))
		var wg sync.WaitGroup
		for range 12 {
			wg.Go(func() {
				err := w.newDevice(alpha).activate(ctx, w.node, c.ActivationCode, "1")
				require.True(t, errors.Is(err, registration.ErrOTP) || errors.Is(err, registration.ErrActivation), "%v", err)
			})
		}
		wg.Wait()
		require.Equal(t, registration.StateRemoved, w.row(alpha, c.ID).State)
		require.Equal(t, map[string]int{"otp_does_not_match": 4, "otp_max_failed_attempts": 1},
			outcomes(w.events(alpha, c.ID, "registration.exchange")))
		require.ErrorIs(t, w.newDevice(alpha).activate(ctx, w.node, c.ActivationCode, "24680"), registration.ErrActivation)
	})
}

func TestPAREG02_OTPOnCommit(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	c := w.create(alpha, "petr", withOTP(registration.OTPOnCommit, "24680"))
	d := w.newDevice(alpha)
	require.ErrorIs(t, d.activate(ctx, w.node, c.ActivationCode, "24680"), registration.ErrOTP, "right, but not due yet")
	require.NoError(t, d.activate(ctx, w.node, c.ActivationCode, ""))
	require.Equal(t, registration.StatePendingCommit, w.row(alpha, c.ID).State)
	commit := func(otp string) error {
		return w.node.Commit(ctx, alpha, registration.CommitParams{Apps: mine, ID: c.ID, OTP: otp})
	}
	require.ErrorIs(t, commit(""), registration.ErrOTP)
	require.ErrorIs(t, commit("1"), registration.ErrOTP)
	require.Equal(t, 1, w.row(alpha, c.ID).Failed, "the attempt survives")
	require.NoError(t, commit("24680"))
	require.Zero(t, w.row(alpha, c.ID).Failed)

	c = w.create(alpha, "jana", withOTP(registration.OTPOnCommit, "24680"))
	require.NoError(t, w.newDevice(alpha).activate(ctx, w.node, c.ActivationCode, ""))
	for range registration.MaxFailedAttempts {
		require.ErrorIs(t, commit("1"), registration.ErrOTP)
	}
	require.ErrorIs(t, commit("24680"), registration.ErrChange)
	require.Equal(t, registration.StateRemoved, w.row(alpha, c.ID).State)
}

func TestPAREG02_CommitOnceAndOnlyWhenPending(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	commit := func(id string, change ...func(*registration.CommitParams)) error {
		p := registration.CommitParams{Apps: mine, ID: id}
		for _, f := range change {
			f(&p)
		}
		return w.node.Commit(ctx, alpha, p)
	}
	c := w.create(alpha, "petr")
	require.ErrorIs(t, commit(c.ID), registration.ErrChange, "CREATED")
	require.NoError(t, w.newDevice(alpha).activate(ctx, w.node, c.ActivationCode, ""))
	require.ErrorIs(t, commit(c.ID, func(p *registration.CommitParams) { p.OTP = "1" }), registration.ErrOTP, "unasked")
	require.ErrorIs(t, commit(c.ID, func(p *registration.CommitParams) { p.Apps = []string{"OTHER"} }), registration.ErrNotFound)
	require.ErrorIs(t, commit(c.ID, func(p *registration.CommitParams) { p.ExternalUserID = strings.Repeat("x", 256) }), registration.ErrInvalid)
	require.ErrorIs(t, w.node.Commit(ctx, beta, registration.CommitParams{Apps: mine, ID: c.ID}), registration.ErrNotFound)
	require.NoError(t, commit(strings.ToUpper(c.ID)))
	require.ErrorIs(t, commit(c.ID), registration.ErrChange, "a second time")
	require.Equal(t, map[string]int{"ok": 1}, outcomes(w.events(alpha, c.ID, "registration.commit")))

	late := w.create(alpha, "jana")
	require.NoError(t, w.newDevice(alpha).activate(ctx, w.node, late.ActivationCode, ""))
	w.skew.Store(int64(registration.DefaultValidity))
	require.ErrorIs(t, commit(late.ID), registration.ErrChange)
	require.Equal(t, registration.StateRemoved, w.row(alpha, late.ID).State)
}

func TestPAREG03_UnknownIsUniform(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	c := w.create(alpha, "petr")
	for name, get := range map[string]func() error{
		"unknown": func() error {
			_, err := w.node.Get(ctx, alpha, mine, "8819ac31-ad29-40d1-ac60-1b54293abe61")
			return err
		},
		"no UUID":     func() error { _, err := w.node.Get(ctx, alpha, mine, "{"+c.ID+"}"); return err },
		"twin tenant": func() error { _, err := w.node.Get(ctx, beta, mine, c.ID); return err },
		"other app":   func() error { _, err := w.node.Get(ctx, alpha, []string{"OTHER"}, c.ID); return err },
		"no apps":     func() error { _, err := w.node.Get(ctx, alpha, nil, c.ID); return err },
	} {
		err := get()
		require.ErrorIs(t, err, registration.ErrNotFound, name)
		require.Equal(t, "registration: get: registration not found", err.Error(), name)
	}
	w.skew.Store(int64(registration.DefaultValidity))
	_, err := w.node.Get(ctx, alpha, mine, c.ID)
	require.ErrorIs(t, err, registration.ErrNotFound)
	require.Equal(t, registration.StateRemoved, w.row(alpha, c.ID).State)
}

func TestPAREG03_Blocked(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	d := w.active(alpha, "petr")
	for range registration.MaxFailedAttempts {
		d.verify(d.wrong(signature.PossessionKnowledge))
	}
	got, err := w.node.Get(ctx, alpha, mine, d.id)
	require.NoError(t, err)
	require.Equal(t, []string{"BLOCKED", registration.BlockedMaxFailedAttempts, "Petr's phone"},
		[]string{string(got.State), got.BlockedReason, got.Name})
}

func TestPAREG04_List(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	first := w.active(alpha, "petr")
	w.create(beta, "petr")
	second := w.create(alpha, "petr")
	list, err := w.node.List(ctx, alpha, mine, "petr")
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Equal(t, []string{second.ID, first.id}, []string{list[0].ID, list[1].ID}, "newest first")
	require.Equal(t, "", list[0].Name)
	require.Equal(t, registration.StateActive, list[1].State)

	for name, n := range map[string]func() ([]registration.Registration, error){
		"other app":    func() ([]registration.Registration, error) { return w.node.List(ctx, alpha, []string{"X"}, "petr") },
		"no apps":      func() ([]registration.Registration, error) { return w.node.List(ctx, alpha, nil, "petr") },
		"unknown user": func() ([]registration.Registration, error) { return w.node.List(ctx, alpha, mine, "nobody") },
	} {
		got, err := n()
		require.NoError(t, err, name)
		require.Empty(t, got, name)
	}
	w.skew.Store(int64(registration.DefaultValidity))
	list, err = w.node.List(ctx, alpha, mine, "petr")
	require.NoError(t, err)
	require.Len(t, list, 1, "the expired one is left out")
	require.Equal(t, registration.StateRemoved, w.row(alpha, second.ID).State)
}

func TestConfigAndOutage(t *testing.T) {
	t.Parallel()
	_, err := registration.New(registration.Config{})
	require.Error(t, err)
	w := newWorld(t)
	c := w.create(alpha, "petr")
	d := w.newDevice(alpha)
	req, _, _ := d.request(c.ActivationCode, "")
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range map[string]func() error{
		"create": func() error {
			_, err := w.node.Create(over, alpha, registration.CreateParams{Apps: mine, App: "APP", UserID: "x"})
			return err
		},
		"activate": func() error { _, err := w.node.Activate(over, req); return err },
		"commit":   func() error { return w.node.Commit(over, alpha, registration.CommitParams{Apps: mine, ID: c.ID}) },
		"get":      func() error { _, err := w.node.Get(over, alpha, mine, c.ID); return err },
		"list":     func() error { _, err := w.node.List(over, alpha, mine, "petr"); return err },
	} {
		require.ErrorIs(t, call(), fault.ErrUnavailable, name)
	}
	require.EqualValues(t, 1, w.row(alpha, c.ID).Revision)
}
