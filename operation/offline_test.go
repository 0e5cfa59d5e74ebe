package operation_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/group"
	"github.com/signet-hsm/signet/operation"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// requireSigned checks a QR payload the way a phone does.
func requireSigned(t *testing.T, qr operation.QR, keyType string, public []byte) []string {
	t.Helper()
	i := strings.LastIndexByte(qr.Data, '\n') + 1
	require.Equal(t, keyType, qr.Data[i:i+1])
	der, err := signature.ParseBase64(qr.Data[i+1:])
	require.NoError(t, err)
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), public)
	require.NoError(t, err)
	digest := sha256.Sum256([]byte(qr.Data[:i+1]))
	require.True(t, ecdsa.VerifyASN1(pub, digest[:], der))
	return strings.Split(qr.Data[:i-1], "\n")
}

func TestPAOP04_PersonalizedQR(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template(alpha, payment())
	p := w.active(alpha, "APP", "petr")
	op := w.create(alpha, "petr")
	qr := p.qr(op)
	require.Equal(t, []string{op.ID, "Payment", "Pay 63.99 EUR?", paymentData, "BXF", qr.Nonce}, requireSigned(t, qr, "1", p.server.Bytes()))
	require.Regexp(t, `^[A-Za-z0-9+/]{22}==$`, qr.Nonce)
	require.NotEqual(t, qr.Nonce, p.qr(op).Nonce)
}

func TestPAOP04_MasterKeyQR(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template(alpha, payment())
	p := w.active(alpha, "APP", "petr")
	op := w.create(alpha, "petr")
	qr, err := w.ops.OfflineQR(t.Context(), alpha, operation.QRParams{Apps: all, ID: op.ID})
	require.NoError(t, err)
	requireSigned(t, qr, "0", w.master["alpha/APP"])
	v, err := w.ops.OfflineOTP(t.Context(), alpha, p.otp(op, qr, p.scan(qr, signature.PossessionKnowledge)))
	require.NoError(t, err)
	require.True(t, v.Valid)

	w.active(alpha, "OTHER", "petr")
	op = w.create(alpha, "petr")
	_, err = w.ops.OfflineQR(t.Context(), alpha, operation.QRParams{Apps: all, ID: op.ID})
	require.ErrorIs(t, err, operation.ErrInvalid, "which of two applications is not said")
	qr, err = w.ops.OfflineQR(t.Context(), alpha, operation.QRParams{Apps: all, ID: op.ID, App: "OTHER"})
	require.NoError(t, err)
	requireSigned(t, qr, "0", w.master["alpha/OTHER"])
}

func TestPAOP04_Refusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.template(alpha, payment())
	w.template(alpha, operation.Template{Name: "one factor", Type: "login", Data: "A2", Types: []signature.Factor{signature.Possession}})
	p := w.active(alpha, "APP", "petr", "VIP")
	plain, jana := w.active(alpha, "APP", "petr"), w.active(alpha, "APP", "jana")
	op := w.create(alpha, "petr", func(p *operation.CreateParams) { p.Flag = "VIP" })
	for _, id := range []string{plain.id, jana.id, uuid.NewString(), "x"} {
		_, err := w.ops.OfflineQR(ctx, alpha, operation.QRParams{Apps: mine, ID: op.ID, Registration: id})
		require.ErrorIs(t, err, registration.ErrNotFound)
		_, err = w.ops.OfflineOTP(ctx, alpha, operation.OTPParams{
			Apps: mine, ID: op.ID, Registration: id, OTP: "1234567812345678", Nonce: "AAAAAAAAAAAAAAAAAAAAAA==",
		})
		require.ErrorIs(t, err, registration.ErrNotFound)
	}
	single := w.create(alpha, "petr", func(p *operation.CreateParams) { p.Template = "one factor" })
	_, err := w.ops.OfflineQR(ctx, alpha, operation.QRParams{Apps: mine, ID: single.ID, Registration: p.id})
	require.ErrorIs(t, err, operation.ErrState)
	require.NoError(t, w.devices.Change(ctx, alpha, registration.ChangeParams{Apps: mine, ID: p.id, Change: registration.Block}))
	_, err = w.ops.OfflineQR(ctx, alpha, operation.QRParams{Apps: mine, ID: op.ID, Registration: p.id})
	require.ErrorIs(t, err, registration.ErrNotFound)
}

func TestPAOP05_ValidOTPApproves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.template(alpha, payment())
	p := w.active(alpha, "APP", "petr", "VIP")
	for _, f := range payment().Types {
		op := w.create(alpha, "petr")
		qr := p.qr(op)
		digits := p.scan(qr, f)
		v, err := w.ops.OfflineOTP(ctx, alpha, p.otp(op, qr, digits[:4]+"-"+digits[4:13]+"-"+digits[13:]))
		require.NoError(t, err)
		require.Equal(t, operation.OTPVerdict{
			Valid: true, OperationID: op.ID, State: operation.StateApproved, UserID: "petr", Registration: p.id,
			Status: registration.StateActive, Factors: f, RemainingAttempts: 5, Flags: []string{"VIP"}, App: "APP", Roles: []string{"ROLE"},
		}, v)
		got := w.get(alpha, op.ID)
		require.Equal(t, operation.StateApproved, got.State)
		require.Equal(t, p.id, got.Additional["activationId"])
		require.Equal(t, []string{"authentication.success"}, w.results(op.ID))
		_, err = w.ops.OfflineOTP(ctx, alpha, p.otp(op, qr, digits))
		require.ErrorIs(t, err, operation.ErrState, "an OTP is good once")
	}
}

func TestPAOP05_WrongOTPCountsTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.template(alpha, payment())
	p := w.active(alpha, "APP", "petr")
	op := w.create(alpha, "petr")
	qr := p.qr(op)
	for n := 1; n <= 3; n++ {
		v, err := w.ops.OfflineOTP(ctx, alpha, p.otp(op, qr, "0000000000000000"))
		require.NoError(t, err)
		require.False(t, v.Valid)
		require.Equal(t, signature.PossessionKnowledge, v.Factors)
		require.Equal(t, 5-n, v.RemainingAttempts)
		require.EqualValues(t, n, w.get(alpha, op.ID).Failures)
		require.Equal(t, w.get(alpha, op.ID).State, v.State)
	}
	require.Equal(t, operation.StateFailed, w.get(alpha, op.ID).State)
	require.Equal(t, []string{"authentication.fail"}, w.results(op.ID))

	// Two more and the registration is blocked; the verdict says so, then and later.
	op = w.create(alpha, "petr")
	qr = p.qr(op)
	for _, want := range []registration.State{registration.StateActive, registration.StateBlocked, registration.StateBlocked} {
		v, err := w.ops.OfflineOTP(ctx, alpha, p.otp(op, qr, "0000000000000000"))
		require.NoError(t, err)
		require.False(t, v.Valid)
		require.Equal(t, want, v.Status)
	}
	got := w.get(alpha, op.ID)
	require.EqualValues(t, 2, got.Failures, "with a blocked registration nothing is judged")
	require.Equal(t, operation.StatePending, got.State)
}

func TestPAOP05_WrongFormCountsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template(alpha, payment())
	p := w.active(alpha, "APP", "petr")
	op := w.create(alpha, "petr")
	qr := p.qr(op)
	for range 6 {
		_, err := w.ops.OfflineOTP(t.Context(), alpha, p.otp(op, qr, "0000 0000 0000 0000"))
		require.ErrorIs(t, err, operation.ErrOTPForm)
		bad := p.otp(op, qr, "0000000000000000")
		bad.Nonce = "AAAA"
		_, err = w.ops.OfflineOTP(t.Context(), alpha, bad)
		require.ErrorIs(t, err, operation.ErrInvalid)
	}
	require.Equal(t, op, w.get(alpha, op.ID))
	v, err := w.ops.OfflineOTP(t.Context(), alpha, p.otp(op, qr, p.scan(qr, signature.PossessionKnowledge)))
	require.NoError(t, err)
	require.True(t, v.Valid)
	require.Equal(t, 5, v.RemainingAttempts)
}

// The template says which factors count, offline as well.
func TestPAOP05_FactorsOfTheTemplate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	knowledge, biometry := payment(), payment()
	knowledge.Types = []signature.Factor{signature.PossessionKnowledge}
	biometry.Name, biometry.Types = "biometry", []signature.Factor{signature.PossessionBiometry}
	w.template(alpha, knowledge)
	w.template(alpha, biometry)
	p := w.active(alpha, "APP", "petr")

	op := w.create(alpha, "petr")
	qr := p.qr(op)
	require.Equal(t, "XF", strings.Split(qr.Data, "\n")[4])
	v, err := w.ops.OfflineOTP(ctx, alpha, p.otp(op, qr, p.scan(qr, signature.PossessionBiometry)))
	require.NoError(t, err)
	require.False(t, v.Valid)
	require.Equal(t, 4, v.RemainingAttempts)

	op = w.create(alpha, "petr", func(p *operation.CreateParams) { p.Template = "biometry" })
	qr = p.qr(op)
	v, err = w.ops.OfflineOTP(ctx, alpha, p.otp(op, qr, p.scan(qr, signature.PossessionKnowledge)))
	require.NoError(t, err)
	require.False(t, v.Valid)
	require.EqualValues(t, 1, w.get(alpha, op.ID).Failures)
	require.Equal(t, map[string]int{"create/ok": 1, "approve/factors_not_allowed": 1}, w.outcomes(alpha, op.ID))
	v, err = w.ops.OfflineOTP(ctx, alpha, p.otp(op, qr, p.scan(qr, signature.PossessionBiometry)))
	require.NoError(t, err)
	require.True(t, v.Valid)
}

func TestPAOP05_ProximityTOTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	tpl := payment()
	tpl.Proximity, tpl.MaxFailures = true, 10
	w.template(alpha, tpl)
	p := w.active(alpha, "APP", "petr")
	op := w.create(alpha, "petr")
	check := func(after time.Duration, want bool) {
		qr := p.qr(op)
		lines := requireSigned(t, qr, "1", p.server.Bytes())
		require.Len(t, lines, 7) // and the signature
		require.Regexp(t, `^\d{8}$`, lines[5])
		w.skew.Add(int64(after))
		v, err := w.ops.OfflineOTP(ctx, alpha, p.otp(op, qr, p.scan(qr, signature.PossessionKnowledge)))
		require.NoError(t, err)
		require.Equal(t, want, v.Valid)
	}
	check(time.Minute, false)
	require.EqualValues(t, 1, w.get(alpha, op.ID).Failures, "two candidates are one attempt")
	check(30*time.Second, true)
}

func TestPAOP05_ParallelOTPsApproveOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template(alpha, payment())
	p := w.active(alpha, "APP", "petr")
	op := w.create(alpha, "petr")
	qr := p.qr(op)
	digits := p.scan(qr, signature.PossessionKnowledge)
	var valid, wrong atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		l := w.node()
		wg.Go(func() {
			v, err := l.OfflineOTP(t.Context(), alpha, p.otp(op, qr, digits))
			switch {
			case err == nil && v.Valid:
				valid.Add(1)
			case err == nil:
				wrong.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, valid.Load())
	require.Zero(t, wrong.Load(), "a right OTP is never called wrong")
	require.Zero(t, w.get(alpha, op.ID).Failures)
	require.Equal(t, []string{"authentication.success"}, w.results(op.ID))
}

// flaky is a database that fails some transactions.
type flaky struct {
	*pgxpool.Pool
	begin, commit atomic.Int32 // how many of the next ones fail
}

var errFlaky = errors.New("connection reset")

func (f *flaky) Begin(ctx context.Context) (pgx.Tx, error) {
	if f.begin.Add(-1) >= 0 {
		return nil, errFlaky
	}
	tx, err := f.Pool.Begin(ctx)
	return flakyTx{tx, f}, err
}

type flakyTx struct {
	pgx.Tx
	f *flaky
}

// Commit takes place, but nobody hears of it.
func (tx flakyTx) Commit(ctx context.Context) error {
	err := tx.Tx.Commit(ctx)
	if tx.f.commit.Add(-1) >= 0 {
		return errFlaky
	}
	return err
}

func TestPAOP05_TheSecondWriteIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template(alpha, payment())
	p := w.active(alpha, "APP", "petr")
	db := &flaky{Pool: w.db}
	l := w.node(func(c *operation.Config) { c.DB = db })
	for name, fail := range map[string]*atomic.Int32{"not stored": &db.begin, "stored unheard": &db.commit} {
		op := w.create(alpha, "petr")
		qr := p.qr(op)
		fail.Store(2)
		v, err := l.OfflineOTP(t.Context(), alpha, p.otp(op, qr, p.scan(qr, signature.PossessionKnowledge)))
		require.NoError(t, err, name)
		require.True(t, v.Valid, name)
		require.Equal(t, []string{"authentication.success"}, w.results(op.ID), name)

		op = w.create(alpha, "petr")
		qr = p.qr(op)
		fail.Store(2)
		v, err = l.OfflineOTP(t.Context(), alpha, p.otp(op, qr, "0000000000000000"))
		require.NoError(t, err, name)
		require.False(t, v.Valid, name)
		require.EqualValues(t, 1, w.get(alpha, op.ID).Failures, name)
		fail.Store(0)
	}
}

// The signature is used up and the operation did not move: the retry is told
// neither "valid" nor "wrong", and costs nothing. A new code decides.
func TestPAOP05_ALostOutcomeIsUndecided(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.template(alpha, payment())
	p := w.active(alpha, "APP", "petr")
	op := w.create(alpha, "petr")
	qr := p.qr(op)
	digits := p.scan(qr, signature.PossessionKnowledge)
	db := &flaky{Pool: w.db}
	db.begin.Store(100)
	l := w.node(func(c *operation.Config) { c.DB = db })
	_, err := l.OfflineOTP(ctx, alpha, p.otp(op, qr, digits))
	require.ErrorIs(t, err, fault.ErrUnavailable)
	for _, form := range []string{digits, strings.ReplaceAll(digits, "-", "")} {
		_, err = w.ops.OfflineOTP(ctx, alpha, p.otp(op, qr, form))
		require.ErrorIs(t, err, operation.ErrUndecided)
	}
	require.Equal(t, op, w.get(alpha, op.ID))

	// Another OTP that is tried in between, and is wrong, does not wipe the mark.
	v, err := w.ops.OfflineOTP(ctx, alpha, p.otp(op, qr, "00000000-00000000"))
	require.NoError(t, err)
	require.False(t, v.Valid)
	_, err = w.ops.OfflineOTP(ctx, alpha, p.otp(op, qr, digits))
	require.ErrorIs(t, err, operation.ErrUndecided)

	qr = p.qr(op)
	v, err = w.ops.OfflineOTP(ctx, alpha, p.otp(op, qr, p.scan(qr, signature.PossessionKnowledge)))
	require.NoError(t, err)
	require.True(t, v.Valid)
	require.Equal(t, 5, v.RemainingAttempts, "the retries were not counted")
}

// Two phones' right OTPs for one payment, or an approval online while an OTP is
// checked: one of the two decides, and the other one is told so.
func TestPAOP05_OfTwoApprovalsOneDecides(t *testing.T) {
	t.Parallel()
	for name, other := range map[string]func(w *world, p *phone, op operation.Operation) error{
		"another OTP": func(w *world, p *phone, op operation.Operation) error {
			qr := p.qr(op)
			v, err := w.ops.OfflineOTP(w.tb.Context(), alpha, p.otp(op, qr, p.scan(qr, signature.PossessionKnowledge)))
			require.True(w.tb, v.Valid)
			return err
		},
		"online": func(w *world, p *phone, op operation.Operation) error { return p.approve(w.tb.Context(), w.ops, op) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.template(alpha, payment())
			p, second := w.active(alpha, "APP", "petr"), w.active(alpha, "APP", "petr")
			op := w.create(alpha, "petr")
			l := w.node(func(c *operation.Config) {
				c.Devices = devices{w.devices, func() { require.NoError(t, other(w, second, op)) }}
			})
			qr := p.qr(op)
			_, err := l.OfflineOTP(t.Context(), alpha, p.otp(op, qr, p.scan(qr, signature.PossessionKnowledge)))
			require.ErrorIs(t, err, operation.ErrState)
			require.Equal(t, second.device().Registration, w.get(alpha, op.ID).Additional["activationId"])
			require.Len(t, w.results(op.ID), 1)
		})
	}
}

// What was certainly not judged may be tried again: the caller hung up, or there
// was too much to do.
func TestPAOP05_WhatWasNotJudgedIsNotUndecided(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template(alpha, payment())
	p := w.active(alpha, "APP", "petr")
	op := w.create(alpha, "petr")
	qr := p.qr(op)
	digits := p.scan(qr, signature.PossessionKnowledge)
	l := w.node(func(c *operation.Config) { c.Devices = busy{w.devices} })
	for range 20 { // more than may be open
		_, err := l.OfflineOTP(t.Context(), alpha, p.otp(op, qr, digits))
		require.ErrorIs(t, err, group.ErrBusy)
	}
	ctx, cancel := context.WithCancel(t.Context())
	l = w.node(func(c *operation.Config) { c.Devices = hangUp{w.devices, cancel} })
	v, err := l.OfflineOTP(ctx, alpha, p.otp(op, qr, digits))
	require.NoError(t, err)
	require.True(t, v.Valid)
}

// busy has no time to judge.
type busy struct{ *registration.Registrar }

func (busy) VerifyOffline(context.Context, tenant.ID, registration.OfflineRequest) (registration.Verdict, error) {
	return registration.Verdict{}, group.ErrBusy
}

// hangUp is a caller who goes away before the signature is judged.
type hangUp struct {
	*registration.Registrar
	cancel context.CancelFunc
}

func (h hangUp) VerifyOffline(ctx context.Context, t tenant.ID, req registration.OfflineRequest) (registration.Verdict, error) {
	h.cancel()
	return h.Registrar.VerifyOffline(ctx, t, req)
}

// Checks that were all cut short are bounded, and the bound counts nothing.
func TestPAOP05_OpenChecksAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template(alpha, payment())
	p := w.active(alpha, "APP", "petr")
	op := w.create(alpha, "petr")
	qr := p.qr(op)
	db := &flaky{Pool: w.db}
	db.begin.Store(1000)
	l := w.node(func(c *operation.Config) {
		c.DB, c.Devices = db, noVerdict{w.devices}
	})
	for i := range 9 {
		_, err := l.OfflineOTP(t.Context(), alpha, p.otp(op, qr, fmt.Sprintf("00000000-%08d", i)))
		if i < 8 {
			require.ErrorIs(t, err, fault.ErrUnavailable)
		} else {
			require.ErrorIs(t, err, operation.ErrUndecided)
		}
	}
	require.Equal(t, op, w.get(alpha, op.ID))
}

// noVerdict is an outage in the middle of a check.
type noVerdict struct{ *registration.Registrar }

func (noVerdict) VerifyOffline(context.Context, tenant.ID, registration.OfflineRequest) (registration.Verdict, error) {
	return registration.Verdict{}, fault.ErrUnavailable
}

// devices lets a test act between the two writes.
type devices struct {
	*registration.Registrar
	after func()
}

func (d devices) VerifyOffline(ctx context.Context, t tenant.ID, req registration.OfflineRequest) (registration.Verdict, error) {
	v, err := d.Registrar.VerifyOffline(ctx, t, req)
	d.after()
	return v, err
}

func TestPAOP05_CanceledWhileTheOTPWasChecked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.template(alpha, payment())
	p := w.active(alpha, "APP", "petr")
	var op operation.Operation
	l := w.node(func(c *operation.Config) {
		c.Devices = devices{w.devices, func() {
			require.NoError(t, w.ops.Cancel(t.Context(), alpha, operation.CancelParams{Apps: mine, ID: op.ID}))
		}}
	})
	op = w.create(alpha, "petr")
	qr := p.qr(op)
	_, err := l.OfflineOTP(ctx, alpha, p.otp(op, qr, p.scan(qr, signature.PossessionKnowledge)))
	require.ErrorIs(t, err, operation.ErrState)
	require.Equal(t, []string{"operation.canceled"}, w.results(op.ID))

	op = w.create(alpha, "petr") // the caller hangs up: what was begun is finished
	l = w.node(func(c *operation.Config) { c.Devices = devices{w.devices, cancel} })
	qr = p.qr(op)
	v, err := l.OfflineOTP(ctx, alpha, p.otp(op, qr, p.scan(qr, signature.PossessionKnowledge)))
	require.NoError(t, err)
	require.True(t, v.Valid)
	require.Equal(t, operation.StateApproved, w.get(alpha, op.ID).State)
}
