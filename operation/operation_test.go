package operation_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/operation"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

func TestPAOP01_Create(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template(alpha, payment())
	w.active(alpha, "APP", "petr")
	op := w.create(alpha, "petr")
	_, err := uuid.Parse(op.ID) // PUSHX-08
	require.NoError(t, err)
	require.Equal(t, operation.Operation{
		ID: op.ID, Apps: mine, UserID: "petr", ExternalID: "ext-1", Template: "payment", Type: "authorize_payment",
		Language: "en", Parameters: createParams("").Parameters, Data: paymentData, Types: payment().Types,
		State: operation.StatePending, Additional: map[string]string{}, MaxFailures: 3,
		CreatedAt: op.CreatedAt, ExpiresAt: op.CreatedAt.Add(10 * time.Minute),
	}, op)
	require.Equal(t, op, w.get(alpha, op.ID))
	require.Equal(t, map[string]int{"create/ok": 1}, w.outcomes(alpha, op.ID))
}

// The push of a new operation goes once to each application that can decide.
func TestPUSHX01_OperationInit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template(alpha, payment())
	w.active(alpha, "APP", "petr", "VIP")
	w.active(alpha, "OTHER", "petr", "VIP")
	op := w.create(alpha, "petr", func(p *operation.CreateParams) { p.Language, p.Flag = "cs", "VIP" })
	require.Equal(t, all, op.Apps)
	var apps []string
	for _, e := range w.told(op.ID) {
		apps = append(apps, e.App)
		require.Equal(t, told{
			Kind: outbox.OperationCreated, Tenant: "alpha", App: e.App, User: "petr", Operation: op.ID,
			Data: map[string]any{
				"name": "authorize_payment", "template": "payment", "flag": "VIP", "externalId": "ext-1", "status": "PENDING",
				"title": "Platba", "message": "Zaplatit 63.99 EUR?", "expires": op.ExpiresAt.Format(time.RFC3339),
			},
		}, e)
	}
	require.Equal(t, all, apps)
}

func TestPAOP01_NeedsAnActiveRegistration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template(alpha, payment())
	w.template(beta, payment())
	_, err := w.devices.Create(t.Context(), alpha, registration.CreateParams{Apps: mine, App: "APP", UserID: "new"})
	require.NoError(t, err)
	phone := w.active(alpha, "APP", "petr", "VIP")

	for name, change := range map[string]func(*operation.CreateParams){
		"unknown user":         func(p *operation.CreateParams) { p.UserID = "nobody" },
		"not yet active":       func(p *operation.CreateParams) { p.UserID = "new" },
		"another flag":         func(p *operation.CreateParams) { p.Flag = "OTHER" },
		"not my application":   func(p *operation.CreateParams) { p.Apps = []string{"OTHER"} },
		"without applications": func(p *operation.CreateParams) { p.Apps = nil },
	} {
		p := createParams("petr")
		change(&p)
		_, err := w.ops.Create(t.Context(), alpha, p)
		require.ErrorIs(t, err, registration.ErrNotFound, name)
	}
	_, err = w.ops.Create(t.Context(), beta, createParams("petr")) // the twin has no such user
	require.ErrorIs(t, err, registration.ErrNotFound)
	w.create(alpha, "petr", func(p *operation.CreateParams) { p.Flag = "VIP" })

	require.NoError(t, w.devices.Change(t.Context(), alpha, registration.ChangeParams{Apps: mine, ID: phone.id, Change: registration.Block}))
	_, err = w.ops.Create(t.Context(), alpha, createParams("petr"))
	require.ErrorIs(t, err, registration.ErrNotFound)
}

func TestPAOP01_Violations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template(alpha, payment())
	w.active(alpha, "APP", "petr")
	for _, c := range []struct {
		field  string
		change func(*operation.CreateParams)
	}{
		{"userId", func(p *operation.CreateParams) { p.UserID = "" }},
		{"template", func(p *operation.CreateParams) { p.Template = "" }},
		{"template", func(p *operation.CreateParams) { p.Template = "unknown" }},
		{"language", func(p *operation.CreateParams) { p.Language = "EN" }},
		{"externalId", func(p *operation.CreateParams) { p.ExternalID = strings.Repeat("x", 256) }},
		{"flag", func(p *operation.CreateParams) { p.Flag = "\x00" }},
		{"parameters.note", func(p *operation.CreateParams) { p.Parameters["note"] = "tab\there" }},
		{"parameters.amount", func(p *operation.CreateParams) { delete(p.Parameters, "amount") }},
		{"parameters", func(p *operation.CreateParams) { p.Parameters["amount"] = "1,5" }},
		{"parameters", func(p *operation.CreateParams) { p.Parameters["currency"] = "EUR*Nfree" }},
	} {
		p := createParams("petr")
		p.Parameters = maps.Clone(p.Parameters)
		c.change(&p)
		_, err := w.ops.Create(t.Context(), alpha, p)
		require.ErrorIs(t, err, operation.ErrInvalid, c.field)
		require.Equal(t, c.field, fault.Of(err).Violations[0].Field)
	}
	var n int
	require.NoError(t, w.db.QueryRow(t.Context(), `select count(*) from operation`).Scan(&n))
	require.Zero(t, n, "nothing is written for what does not fit")
}

// Neither an operation without its event nor an event without its operation.
func TestPAOP01_TheOutboxIsPartOfTheChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template(alpha, payment())
	w.active(alpha, "APP", "petr")
	op := w.create(alpha, "petr")
	broken := w.node(func(c *operation.Config) { c.Outbox = brokenQueue{} })
	_, err := broken.Create(t.Context(), alpha, createParams("petr"))
	require.ErrorIs(t, err, fault.ErrUnavailable)
	require.ErrorIs(t, broken.Cancel(t.Context(), alpha, operation.CancelParams{Apps: mine, ID: op.ID}), fault.ErrUnavailable)
	require.Equal(t, operation.StatePending, w.get(alpha, op.ID).State)
	require.Equal(t, map[string]int{"create/ok": 1}, w.outcomes(alpha, op.ID))
	var n int
	require.NoError(t, w.db.QueryRow(t.Context(), `select count(*) from operation`).Scan(&n))
	require.Equal(t, 1, n)
}

type brokenQueue struct{}

func (brokenQueue) AddTx(context.Context, pgx.Tx, ...outbox.Event) error {
	return errors.New("queue is down")
}

func TestPAOP02_GetIsBlindToOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template(alpha, payment())
	w.active(alpha, "APP", "petr")
	op := w.create(alpha, "petr")
	require.Equal(t, op, func() operation.Operation {
		got, err := w.ops.Get(t.Context(), alpha, mine, strings.ToUpper(op.ID))
		require.NoError(t, err)
		return got
	}())
	for name, c := range map[string]struct {
		tenant tenant.ID
		apps   []string
		id     string
	}{
		"the twin":            {beta, all, op.ID},
		"another application": {alpha, []string{"OTHER"}, op.ID},
		"no application":      {alpha, nil, op.ID},
		"unknown":             {alpha, all, uuid.NewString()},
		"no id":               {alpha, all, "x"},
		"another spelling":    {alpha, all, "{" + op.ID + "}"},
	} {
		_, err := w.ops.Get(t.Context(), c.tenant, c.apps, c.id)
		require.ErrorIs(t, err, operation.ErrNotFound, name)
		err = w.ops.Cancel(t.Context(), c.tenant, operation.CancelParams{Apps: c.apps, ID: c.id})
		require.ErrorIs(t, err, operation.ErrNotFound, name)
		_, err = w.ops.OfflineQR(t.Context(), c.tenant, operation.QRParams{Apps: c.apps, ID: c.id})
		require.ErrorIs(t, err, operation.ErrNotFound, name)
	}
}

func TestPAOP02_ExpiryIsAppliedOnRead_PUSHX05(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template(alpha, payment())
	p := w.active(alpha, "APP", "petr")
	op := w.create(alpha, "petr")
	w.skew.Store(int64(10*time.Minute - 5*time.Second))
	require.Equal(t, operation.StatePending, w.get(alpha, op.ID).State)
	w.skew.Store(int64(10 * time.Minute))
	got := w.get(alpha, op.ID)
	require.Equal(t, operation.StateExpired, got.State)
	require.False(t, got.FinishedAt.IsZero())
	require.Equal(t, []string{"operation.timeout"}, w.results(op.ID))
	require.Equal(t, map[string]int{"create/ok": 1, "expire/expired": 1}, w.outcomes(alpha, op.ID))
	require.ErrorIs(t, p.approve(t.Context(), w.ops, op), operation.ErrExpired)
}

func TestPAOP03_Cancel_PUSHX06(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template(alpha, payment())
	w.active(alpha, "APP", "petr")
	op := w.create(alpha, "petr")
	cancel := operation.CancelParams{Apps: mine, ID: op.ID, Reason: "CLOSED", Actor: "backend"}
	require.ErrorIs(t, w.ops.Cancel(t.Context(), alpha, operation.CancelParams{
		Apps: mine, ID: op.ID, Reason: strings.Repeat("x", 33),
	}), operation.ErrInvalid)
	require.NoError(t, w.ops.Cancel(t.Context(), alpha, cancel))
	got := w.get(alpha, op.ID)
	require.Equal(t, operation.StateCanceled, got.State)
	require.Equal(t, "CLOSED", got.Reason)
	require.ErrorIs(t, w.ops.Cancel(t.Context(), alpha, cancel), operation.ErrState)
	require.Equal(t, []string{"operation.canceled"}, w.results(op.ID))
	require.Equal(t, map[string]int{"create/ok": 1, "cancel/ok": 1}, w.outcomes(alpha, op.ID))

	op = w.create(alpha, "petr")
	w.skew.Store(int64(time.Hour))
	require.ErrorIs(t, w.ops.Cancel(t.Context(), alpha, operation.CancelParams{Apps: mine, ID: op.ID}), operation.ErrState)
	require.Equal(t, operation.StateExpired, w.get(alpha, op.ID).State)
}

// Every way to act on an operation, in every final state: nothing changes.
func TestSM06_FinalStatesAreFinal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template(alpha, payment())
	p := w.active(alpha, "APP", "petr")
	ctx := t.Context()
	fail := func(op operation.Operation) error { return w.ops.Fail(ctx, alpha, p.device(), op.ID) }
	for state, c := range map[operation.State]struct {
		reach func(operation.Operation)
		told  error
		push  string
	}{
		operation.StateApproved: {func(op operation.Operation) { require.NoError(t, p.approve(ctx, w.ops, op)) }, operation.ErrFinished, "authentication.success"},
		operation.StateRejected: {func(op operation.Operation) {
			require.NoError(t, w.ops.Reject(ctx, alpha, p.device(), operation.Rejection{ID: op.ID, Reason: "UNKNOWN"}))
		}, operation.ErrFinished, "authentication.fail"},
		operation.StateCanceled: {func(op operation.Operation) {
			require.NoError(t, w.ops.Cancel(ctx, alpha, operation.CancelParams{Apps: mine, ID: op.ID}))
		}, operation.ErrCanceled, "operation.canceled"},
		operation.StateFailed: {func(op operation.Operation) {
			require.ErrorIs(t, fail(op), operation.ErrRefused)
			require.ErrorIs(t, fail(op), operation.ErrRefused)
			require.ErrorIs(t, fail(op), operation.ErrFailed)
		}, operation.ErrFailed, "authentication.fail"},
	} {
		op := w.create(alpha, "petr")
		qr := p.qr(op)
		digits := p.scan(qr, signature.PossessionKnowledge)
		c.reach(op)
		ended := w.get(alpha, op.ID)
		require.Equal(t, state, ended.State)
		require.False(t, ended.FinishedAt.IsZero())
		require.Equal(t, []string{c.push}, w.results(op.ID))

		require.ErrorIs(t, p.approve(ctx, w.ops, op), c.told, state)
		require.ErrorIs(t, fail(op), c.told, state)
		require.ErrorIs(t, w.ops.Reject(ctx, alpha, p.device(), operation.Rejection{ID: op.ID}), c.told, state)
		_, err := w.ops.Detail(ctx, alpha, p.device(), op.ID, "en")
		require.ErrorIs(t, err, c.told, state)
		require.ErrorIs(t, w.ops.Cancel(ctx, alpha, operation.CancelParams{Apps: mine, ID: op.ID}), operation.ErrState)
		_, err = w.ops.OfflineQR(ctx, alpha, operation.QRParams{Apps: mine, ID: op.ID, Registration: p.id})
		require.ErrorIs(t, err, operation.ErrState)
		_, err = w.ops.OfflineOTP(ctx, alpha, p.otp(op, qr, digits))
		require.ErrorIs(t, err, operation.ErrState)
		n, err := w.ops.Sweep(ctx)
		require.NoError(t, err)
		require.Zero(t, n)
		require.Equal(t, ended, w.get(alpha, op.ID))
		require.Len(t, w.results(op.ID), 1)
	}
}

func TestSM06_ParallelApprovalsApproveOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template(alpha, payment())
	p := w.active(alpha, "APP", "petr")
	op := w.create(alpha, "petr")
	var approved, finished atomic.Int32
	var wg sync.WaitGroup
	for i := range 32 {
		l := []*operation.Ledger{w.ops, w.node()}[i%2]
		wg.Go(func() {
			switch err := p.approve(t.Context(), l, op); {
			case err == nil:
				approved.Add(1)
			case errors.Is(err, operation.ErrFinished):
				finished.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, approved.Load())
	require.EqualValues(t, 31, finished.Load())
	require.Equal(t, []string{"authentication.success"}, w.results(op.ID))
	require.Equal(t, map[string]int{"create/ok": 1, "approve/ok": 1}, w.outcomes(alpha, op.ID))
}

func TestSM06_CancelAgainstApproveHasOneWinner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template(alpha, payment())
	p := w.active(alpha, "APP", "petr")
	won := map[operation.State]int{}
	for range 20 {
		op := w.create(alpha, "petr")
		var canceled, approved error
		var wg sync.WaitGroup
		start := make(chan struct{})
		wg.Go(func() {
			<-start
			canceled = w.ops.Cancel(t.Context(), alpha, operation.CancelParams{Apps: mine, ID: op.ID})
		})
		wg.Go(func() { <-start; approved = p.approve(t.Context(), w.node(), op) })
		close(start)
		wg.Wait()
		state := w.get(alpha, op.ID).State
		won[state]++
		require.Len(t, w.results(op.ID), 1)
		if canceled == nil {
			require.Equal(t, operation.StateCanceled, state)
			require.ErrorIs(t, approved, operation.ErrCanceled)
		} else {
			require.ErrorIs(t, canceled, operation.ErrState)
			require.NoError(t, approved)
			require.Equal(t, operation.StateApproved, state)
		}
	}
	require.Equal(t, 20, won[operation.StateApproved]+won[operation.StateCanceled])
}

// The count of failures is exact under any concurrency.
func TestSM06_ParallelFailuresStopAtTheLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template(alpha, payment())
	p := w.active(alpha, "APP", "petr")
	op := w.create(alpha, "petr")
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() { _ = w.ops.Fail(t.Context(), alpha, p.device(), op.ID) })
	}
	wg.Wait()
	got := w.get(alpha, op.ID)
	require.Equal(t, operation.StateFailed, got.State)
	require.EqualValues(t, 3, got.Failures)
	require.Equal(t, []string{"authentication.fail"}, w.results(op.ID))
	require.Equal(t, map[string]int{"create/ok": 1, "approve/signature_does_not_match": 3}, w.outcomes(alpha, op.ID))
}

func TestPAINT01_AnnounceTellsTheEndAgain_PUSHX02(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template(alpha, payment())
	p := w.active(alpha, "APP", "petr")
	op := w.create(alpha, "petr")
	require.NoError(t, w.ops.Announce(t.Context(), alpha, op.ID))
	require.Empty(t, w.results(op.ID), "a pending operation has no end to tell")
	require.NoError(t, p.approve(t.Context(), w.ops, op))
	require.NoError(t, w.ops.Announce(t.Context(), alpha, op.ID))
	require.Equal(t, []string{"authentication.success", "authentication.success"}, w.results(op.ID))
	events := w.told(op.ID)
	require.Equal(t, events[1], events[2])
	require.Equal(t, "ext-1", events[2].Data["externalId"])
	require.Equal(t, "authorize_payment", events[2].Data["name"]) // PUSHX-09

	op = w.create(alpha, "petr")
	w.skew.Store(int64(time.Hour))
	require.NoError(t, w.ops.Announce(t.Context(), alpha, op.ID))
	require.Equal(t, []string{"operation.timeout"}, w.results(op.ID), "the expiry is told once")
	require.ErrorIs(t, w.ops.Announce(t.Context(), beta, op.ID), operation.ErrNotFound)
	require.ErrorIs(t, w.ops.Announce(t.Context(), alpha, "x"), operation.ErrNotFound)
}

func TestPUSHX07_TheLastDeviceIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template(alpha, payment())
	ctx := t.Context()
	first, second := w.active(alpha, "APP", "petr"), w.active(alpha, "APP", "petr", "VIP")
	remove := func(p *phone) {
		require.NoError(t, w.devices.Change(ctx, alpha, registration.ChangeParams{Apps: all, ID: p.id, Change: registration.Remove}))
	}
	abandon := func(want int) {
		n, err := w.ops.Abandon(ctx, alpha, "petr")
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	op := w.create(alpha, "petr")
	vip := w.create(alpha, "petr", func(p *operation.CreateParams) { p.Flag = "VIP" })
	require.NoError(t, w.devices.Change(ctx, alpha, registration.ChangeParams{Apps: all, ID: first.id, Change: registration.Block}))
	abandon(0)
	remove(second)
	abandon(1) // the blocked one may come back, but has no flag
	require.Equal(t, []string{"operation.methodNotAvailable"}, w.results(vip.ID))
	require.Equal(t, operation.ReasonMethodGone, w.get(alpha, vip.ID).Reason)
	require.Equal(t, operation.StatePending, w.get(alpha, op.ID).State)
	remove(first)
	abandon(1)
	abandon(0)
	require.Equal(t, operation.StateCanceled, w.get(alpha, op.ID).State)
}

// The removal itself, once it is delivered, is what ends the operation.
func TestPUSHX07_TheOutboxBringsTheNews(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template(alpha, payment())
	p := w.active(alpha, "APP", "petr")
	op := w.create(alpha, "petr")
	c := w.ops.Consumer()
	for status, want := range map[registration.State][]string{registration.StateBlocked: nil, registration.StateRemoved: {"petr"}} {
		got, err := c.Targets(t.Context(), outbox.Event{Kind: outbox.RegistrationChanged, User: "petr", Data: map[string]any{"status": string(status)}})
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	runner, err := outbox.NewRunner(outbox.RunnerConfig{DB: w.db, Consumers: []outbox.Consumer{c}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- runner.Run(ctx) }()
	require.NoError(t, w.devices.Change(t.Context(), alpha, registration.ChangeParams{Apps: all, ID: p.id, Change: registration.Remove}))
	require.Eventually(t, func() bool { return w.get(alpha, op.ID).State == operation.StateCanceled }, 20*time.Second, 20*time.Millisecond)
	cancel()
	require.NoError(t, <-done)
	require.Equal(t, []string{"operation.methodNotAvailable"}, w.results(op.ID)[:1])
}

func TestSweepExpiresOnceOnAllNodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template(alpha, payment())
	w.template(beta, payment())
	w.active(alpha, "APP", "petr")
	w.active(beta, "APP", "petr")
	var ids []string
	for range 10 {
		ids = append(ids, w.create(alpha, "petr").ID, w.create(beta, "petr").ID)
	}
	w.skew.Store(int64(time.Hour))
	late := w.create(alpha, "petr")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 {
		l := w.node(func(c *operation.Config) { c.Sweep, c.Batch = 10*time.Millisecond, 3 })
		wg.Go(func() { _ = l.Run(ctx) })
	}
	require.Eventually(t, func() bool {
		var open int
		require.NoError(t, w.db.QueryRow(t.Context(), `select count(*) from operation where state = 'PENDING'`).Scan(&open))
		return open == 1
	}, 10*time.Second, 10*time.Millisecond)
	cancel()
	wg.Wait()
	require.Equal(t, operation.StatePending, w.get(alpha, late.ID).State)
	for i, id := range ids {
		require.Equal(t, []string{"operation.timeout"}, w.results(id))
		require.Equal(t, map[string]int{"create/ok": 1, "expire/expired": 1}, w.outcomes([]tenant.ID{alpha, beta}[i%2], id))
	}
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	_, err := operation.New(operation.Config{})
	require.Error(t, err)
	w := newWorld(t)
	require.Error(t, operation.Config{DB: w.db, Devices: w.devices, Apps: w.apps, Envelope: w.envelope, Audit: w.audit, Batch: -1}.Validate())
}
