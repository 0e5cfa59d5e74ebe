package registration_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// told is an outbox that is a table: what a transaction that rolled back has
// added is not there.
type told struct{ w *world }

func (w *world) listen() *told {
	w.tb.Helper()
	_, err := w.db.Exec(w.tb.Context(), `create table told
		(n bigint generated always as identity, registration text, app text, user_id text, status text, reason text)`)
	require.NoError(w.tb, err)
	w.outbox = &told{w}
	w.node = w.newNode(w.db, nil)
	return w.outbox.(*told)
}

func (q *told) AddTx(ctx context.Context, tx pgx.Tx, events ...outbox.Event) error {
	for _, e := range events {
		reason, _ := e.Data["blockedReason"].(string)
		if _, err := tx.Exec(ctx, `insert into told (registration, app, user_id, status, reason) values ($1, $2, $3, $4, $5)`,
			e.Registration, e.App, e.User, e.Data["status"], reason); err != nil {
			return err
		}
	}
	return nil
}

// of lists what was told of a registration, oldest first: "STATUS" or
// "STATUS reason".
func (q *told) of(id string) []string {
	q.w.tb.Helper()
	rows, err := q.w.db.Query(q.w.tb.Context(), `select trim(status || ' ' || reason) from told
		where registration = $1 and app = 'APP' and user_id <> '' order by n`, id)
	require.NoError(q.w.tb, err)
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(q.w.tb, err)
	return out
}

type deaf struct{}

func (deaf) AddTx(context.Context, pgx.Tx, ...outbox.Event) error {
	return errors.New("no outbox today")
}

func (w *world) change(id string, c registration.Change) error {
	return w.node.Change(w.tb.Context(), alpha, registration.ChangeParams{
		Apps: mine, ID: id, Change: c, ExternalUserID: "operator1", Actor: "backend",
	})
}

func TestPAREG05_TheMatrix(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	q := w.listen()
	const b, u, r = registration.Block, registration.Unblock, registration.Remove
	states := map[string]func(user string) string{
		"CREATED": func(user string) string { return w.create(alpha, user).ID },
		"PENDING_COMMIT": func(user string) string {
			d := w.newDevice(alpha)
			require.NoError(t, d.activate(t.Context(), w.node, w.create(alpha, user).ActivationCode, ""))
			return d.id
		},
		"ACTIVE": func(user string) string { return w.active(alpha, user).id },
		"BLOCKED": func(user string) string {
			d := w.active(alpha, user)
			require.NoError(t, w.change(d.id, b))
			return d.id
		},
		"REMOVED": func(user string) string {
			c := w.create(alpha, user)
			require.NoError(t, w.change(c.ID, r))
			return c.ID
		},
	}
	for from, to := range map[string]map[registration.Change]string{
		"CREATED":        {r: "REMOVED"},
		"PENDING_COMMIT": {r: "REMOVED"},
		"ACTIVE":         {b: "BLOCKED", r: "REMOVED"},
		"BLOCKED":        {u: "ACTIVE", r: "REMOVED"},
		"REMOVED":        {},
	} {
		for _, c := range []registration.Change{b, u, r} {
			id := states[from]("user-" + from + string(c))
			before, heard := w.row(alpha, id), q.of(id)
			err := w.change(id, c)
			want, allowed := to[c]
			switch {
			case from == "REMOVED":
				require.ErrorIs(t, err, registration.ErrNotFound, "%s of %s", c, from)
			case !allowed:
				require.ErrorIs(t, err, registration.ErrChange, "%s of %s", c, from)
			}
			if !allowed {
				require.Equal(t, before, w.row(alpha, id))
				require.Equal(t, heard, q.of(id))
				continue
			}
			require.NoError(t, err, "%s of %s", c, from)
			require.EqualValues(t, want, w.row(alpha, id).State)
			if want == "BLOCKED" {
				want += " NOT_SPECIFIED"
			}
			require.Equal(t, append(heard, want), q.of(id))
			action := map[registration.Change]string{b: "registration.block", u: "registration.unblock", r: "registration.remove"}[c]
			events := w.events(alpha, id, action)
			require.Equal(t, "operator1", events[len(events)-1].Detail["externalUserId"])
			require.Equal(t, "backend", events[len(events)-1].Actor)
		}
	}
}

func TestPAREG05_BlockReasonAndUnblockClears(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	q := w.listen()
	d := w.active(alpha, "petr")
	d.verify(d.wrong(signature.PossessionKnowledge))
	d.verify(d.wrong(signature.Possession))
	require.NoError(t, w.node.Change(t.Context(), alpha, registration.ChangeParams{
		Apps: mine, ID: strings.ToUpper(d.id), Change: registration.Block, BlockReason: "STOLEN",
	}))
	got, err := w.node.Get(t.Context(), alpha, mine, d.id)
	require.NoError(t, err)
	require.Equal(t, "STOLEN", got.BlockedReason)
	require.Equal(t, 2, w.row(alpha, d.id).Failed)
	require.False(t, d.verify(d.signAt(d.ctr, signature.PossessionKnowledge)).Valid)
	require.NoError(t, w.change(d.id, registration.Unblock))
	r := w.row(alpha, d.id)
	require.Zero(t, r.Failed)
	require.Zero(t, r.FailedPossession)
	require.Nil(t, r.Blocked)
	require.True(t, d.verify(d.sign(signature.PossessionKnowledge)).Valid)
	require.Equal(t, []string{"CREATED", "PENDING_COMMIT", "ACTIVE", "BLOCKED STOLEN", "ACTIVE"}, q.of(d.id))
}

func TestPAREG05_RefusalsAndStrangers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	before := w.row(alpha, d.id)
	good := registration.ChangeParams{Apps: mine, ID: d.id, Change: registration.Block}
	for name, c := range map[string]struct {
		tenant tenant.ID
		want   error
		change func(*registration.ChangeParams)
	}{
		"no change":     {alpha, registration.ErrInvalid, func(p *registration.ChangeParams) { p.Change = "" }},
		"lower case":    {alpha, registration.ErrInvalid, func(p *registration.ChangeParams) { p.Change = "block" }},
		"long reason":   {alpha, registration.ErrInvalid, func(p *registration.ChangeParams) { p.BlockReason = strings.Repeat("x", 256) }},
		"NUL in reason": {alpha, registration.ErrInvalid, func(p *registration.ChangeParams) { p.BlockReason = "\x00" }},
		"long operator": {alpha, registration.ErrInvalid, func(p *registration.ChangeParams) { p.ExternalUserID = strings.Repeat("x", 256) }},
		"twin":          {beta, registration.ErrNotFound, func(*registration.ChangeParams) {}},
		"other app":     {alpha, registration.ErrNotFound, func(p *registration.ChangeParams) { p.Apps = []string{"OTHER"} }},
		"no apps":       {alpha, registration.ErrNotFound, func(p *registration.ChangeParams) { p.Apps = nil }},
		"no UUID":       {alpha, registration.ErrNotFound, func(p *registration.ChangeParams) { p.ID = "x" }},
	} {
		p := good
		c.change(&p)
		require.ErrorIs(t, w.node.Change(t.Context(), c.tenant, p), c.want, name)
	}
	require.Equal(t, before, w.row(alpha, d.id))
	over, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, w.node.Change(over, alpha, good), fault.ErrUnavailable)
}

// Many operators at once: one blocks, the others learn that someone was first.
func TestPAREG05_ManyAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	q := w.listen()
	d := w.active(alpha, "petr")
	var (
		wg   sync.WaitGroup
		done atomic.Int32
	)
	for range 8 {
		wg.Go(func() {
			if err := w.change(d.id, registration.Block); err == nil {
				done.Add(1)
			} else {
				require.ErrorIs(t, err, registration.ErrChange)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, done.Load())
	require.Equal(t, []string{"CREATED", "PENDING_COMMIT", "ACTIVE", "BLOCKED NOT_SPECIFIED"}, q.of(d.id))
	require.Len(t, w.events(alpha, d.id, "registration.block"), 1)
}

func TestPAREG06_RemoveIsFinal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	require.NoError(t, w.change(d.id, registration.Remove))
	_, err := w.node.Get(t.Context(), alpha, mine, d.id)
	require.ErrorIs(t, err, registration.ErrNotFound)
	v := d.verify(d.sign(signature.PossessionKnowledge))
	require.Equal(t, registration.StateRemoved, v.Status)
	require.ErrorIs(t, w.change(d.id, registration.Remove), registration.ErrNotFound)
	c := w.create(alpha, "jana")
	w.skew.Store(int64(registration.DefaultValidity))
	require.ErrorIs(t, w.change(c.ID, registration.Remove), registration.ErrNotFound, "it had expired")
	require.Len(t, w.events(alpha, c.ID, "registration.expire"), 1)
}

// The automatic block is told too, and a state that can not be told does not
// come about.
func TestPAREG05_TheOutboxIsPartOfTheChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	q := w.listen()
	d := w.active(alpha, "petr")
	for range registration.MaxFailedAttempts {
		d.verify(d.wrong(signature.Possession))
	}
	require.Equal(t, []string{"CREATED", "PENDING_COMMIT", "ACTIVE", "BLOCKED MAX_FAILED_ATTEMPTS"}, q.of(d.id))

	other := w.active(alpha, "jana")
	before := w.row(alpha, other.id)
	w.outbox = deaf{}
	node := w.newNode(w.db, nil)
	require.ErrorIs(t, node.Change(t.Context(), alpha, registration.ChangeParams{
		Apps: mine, ID: other.id, Change: registration.Remove,
	}), fault.ErrUnavailable)
	require.Equal(t, before, w.row(alpha, other.id))
	require.Empty(t, w.events(alpha, other.id, "registration.remove"))
}

func TestPAREG07_08_09_Flags(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	d := w.active(alpha, "petr") // has FLAG
	flags := func() []string {
		got, err := w.node.Get(ctx, alpha, mine, d.id)
		require.NoError(t, err)
		return got.Flags
	}
	p := func(flags ...string) registration.FlagParams {
		return registration.FlagParams{Apps: mine, ID: d.id, Flags: flags, Actor: "backend"}
	}
	require.NoError(t, w.node.AddFlags(ctx, alpha, p("A", "FLAG", "A", "B")))
	require.Equal(t, []string{"FLAG", "A", "B"}, flags())
	require.Equal(t, []string{"FLAG", "A", "B"}, d.verify(d.sign(signature.Possession)).Flags)
	require.NoError(t, w.node.RemoveFlags(ctx, alpha, p("FLAG", "NONE")))
	require.Equal(t, []string{"A", "B"}, flags())
	require.NoError(t, w.node.SetFlags(ctx, alpha, p("C", "C")))
	require.Equal(t, []string{"C"}, flags())
	revision := w.row(alpha, d.id).Revision
	require.NoError(t, w.node.AddFlags(ctx, alpha, p("C")))
	require.NoError(t, w.node.RemoveFlags(ctx, alpha, p("X")))
	require.NoError(t, w.node.SetFlags(ctx, alpha, p("C")))
	require.Equal(t, revision, w.row(alpha, d.id).Revision, "nothing to do writes nothing")
	require.NoError(t, w.node.SetFlags(ctx, alpha, p()))
	require.Empty(t, flags())
	for action, n := range map[string]int{"registration.flags.add": 1, "registration.flags.remove": 1, "registration.flags.set": 2} {
		require.Len(t, w.events(alpha, d.id, action), n, action)
	}

	many := make([]string, registration.MaxFlags)
	for i := range many {
		many[i] = strings.Repeat("x", i+1)
	}
	require.NoError(t, w.node.SetFlags(ctx, alpha, p(many...)))
	require.ErrorIs(t, w.node.AddFlags(ctx, alpha, p("one more")), registration.ErrInvalid)
	for name, set := range map[string]func(context.Context, tenant.ID, registration.FlagParams) error{
		"add": w.node.AddFlags, "set": w.node.SetFlags, "remove": w.node.RemoveFlags,
	} {
		require.ErrorIs(t, set(ctx, alpha, p("")), registration.ErrInvalid, name)
		require.ErrorIs(t, set(ctx, alpha, p(make([]string, registration.MaxFlags+1)...)), registration.ErrInvalid, name)
		require.ErrorIs(t, set(ctx, beta, p("A")), registration.ErrNotFound, name)
		q := p("A")
		q.Apps = nil
		require.ErrorIs(t, set(ctx, alpha, q), registration.ErrNotFound, name)
	}
	require.NoError(t, w.change(d.id, registration.Remove))
	require.ErrorIs(t, w.node.SetFlags(ctx, alpha, p("A")), registration.ErrNotFound)
}

// Flags and verdicts change one row: neither is lost.
func TestPAREG07_ManyAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			require.NoError(t, w.node.AddFlags(t.Context(), alpha, registration.FlagParams{
				Apps: mine, ID: d.id, Flags: []string{strings.Repeat("f", i+1)},
			}))
		})
	}
	for range 10 {
		require.True(t, d.verify(d.sign(signature.PossessionKnowledge)).Valid)
	}
	wg.Wait()
	got, err := w.node.Get(t.Context(), alpha, mine, d.id)
	require.NoError(t, err)
	require.Len(t, got.Flags, 11)
	require.EqualValues(t, 10, w.row(alpha, d.id).Counter)
}

func TestActive(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	first, second := w.active(alpha, "petr"), w.active(alpha, "petr")
	w.active(beta, "petr")
	w.create(alpha, "petr")
	blocked := w.active(alpha, "jana")
	require.NoError(t, w.change(blocked.id, registration.Block))
	require.NoError(t, w.node.AddFlags(ctx, alpha, registration.FlagParams{Apps: mine, ID: first.id, Flags: []string{"VIP"}}))
	for name, c := range map[string]struct {
		q    registration.ActiveQuery
		want []string
	}{
		"all":          {registration.ActiveQuery{Apps: mine, UserID: "petr"}, []string{second.id, first.id}},
		"flag":         {registration.ActiveQuery{Apps: mine, UserID: "petr", Flag: "VIP"}, []string{first.id}},
		"unknown flag": {registration.ActiveQuery{Apps: mine, UserID: "petr", Flag: "V"}, nil},
		"id":           {registration.ActiveQuery{Apps: mine, UserID: "petr", ID: strings.ToUpper(second.id)}, []string{second.id}},
		"id and flag":  {registration.ActiveQuery{Apps: mine, UserID: "petr", ID: second.id, Flag: "VIP"}, nil},
		"not an id":    {registration.ActiveQuery{Apps: mine, UserID: "petr", ID: "x"}, nil},
		"no apps":      {registration.ActiveQuery{UserID: "petr"}, nil},
		"other app":    {registration.ActiveQuery{Apps: []string{"OTHER"}, UserID: "petr"}, nil},
		"blocked":      {registration.ActiveQuery{Apps: mine, UserID: "jana"}, nil},
	} {
		got, err := w.node.Active(ctx, alpha, c.q)
		require.NoError(t, err, name)
		var ids []string
		for _, r := range got {
			ids = append(ids, r.ID)
		}
		require.Equal(t, c.want, ids, name)
	}
}

func TestSignPersonalized(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	d := w.active(alpha, "petr")
	data := []byte("5ff1b1ed\nApprove Login\n1")
	der, err := w.node.SignPersonalized(ctx, alpha, d.id, data)
	require.NoError(t, err)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), d.server.Bytes())
	require.NoError(t, err)
	digest := sha256.Sum256(data)
	require.True(t, ecdsa.VerifyASN1(key, digest[:], der))
	_, err = w.node.SignPersonalized(ctx, beta, d.id, data)
	require.ErrorIs(t, err, registration.ErrNotFound)
	_, err = w.node.SignPersonalized(ctx, alpha, "x", data)
	require.ErrorIs(t, err, registration.ErrNotFound)
	require.NoError(t, w.change(d.id, registration.Block))
	_, err = w.node.SignPersonalized(ctx, alpha, d.id, data)
	require.ErrorIs(t, err, registration.ErrChange)
}

// Three nodes sweep more than a batch at once: each registration expires once.
func TestSM05_SweepersExpireOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	q := w.listen()
	const n = 120
	_, err := w.db.Exec(t.Context(), `insert into registration (tenant_id, id, app_id, user_id, activation_code, state, otp_mode,
		flags, name, platform, device_info, server_public_key, server_private_sealed, counter, failed_attempts, failed_possession,
		max_failed_attempts, version, revision, expires_at, created_at, changed_at, last_used_at)
		select 'alpha', gen_random_uuid(), 'APP', 'user-' || i, lpad(i::text, 23, '0'), 'CREATED', 'NONE', '{}', '', '', '',
		decode(repeat('00', 65), 'hex'), '', 0, 0, 0, 5, '', 1, now() + interval '1 minute', now(), now(), now()
		from generate_series(1, $1) i`, n)
	require.NoError(t, err)
	live := w.active(alpha, "petr")
	more, err := w.node.Sweep(t.Context())
	require.NoError(t, err)
	require.False(t, more)
	w.skew.Store(int64(2 * time.Minute))
	fresh := w.create(beta, "petr")

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 {
		node := w.newNode(w.pool(), nil)
		wg.Go(func() { require.NoError(t, node.Run(ctx)) })
	}
	require.Eventually(t, func() bool {
		var left int
		err := w.db.QueryRow(t.Context(), `select count(*) from registration where state <> 'REMOVED'`).Scan(&left)
		return err == nil && left == 2
	}, 30*time.Second, 20*time.Millisecond)
	cancel()
	wg.Wait()
	var events, heard int
	require.NoError(t, w.db.QueryRow(t.Context(), `select
		(select count(*) from audit_event where action = 'registration.expire'), (select count(*) from told where status = 'REMOVED')`).
		Scan(&events, &heard))
	require.Equal(t, n, events)
	require.Equal(t, n, heard)
	require.Equal(t, registration.StateActive, w.row(alpha, live.id).State)
	require.Equal(t, registration.StateCreated, w.row(beta, fresh.ID).State)
	require.NotEmpty(t, q.of(live.id))
}
