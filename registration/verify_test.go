package registration_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
)

func TestPAAUTH01_Valid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	for i, f := range []signature.Factor{
		signature.Possession, signature.Knowledge, signature.Biometry,
		signature.PossessionKnowledge, signature.PossessionBiometry, signature.PossessionKnowledgeBiometry,
	} {
		v := d.verify(d.sign(f))
		require.Equal(t, registration.Verdict{
			Valid: true, ID: d.id, Status: registration.StateActive, Factors: f, Judged: true, UserID: "petr",
			App: "APP", Roles: []string{"ROLE"}, Flags: []string{"FLAG"}, RemainingAttempts: registration.MaxFailedAttempts,
		}, v)
		require.EqualValues(t, i+1, w.row(alpha, d.id).Counter)
	}
	require.Equal(t, "3.1", w.row(alpha, d.id).Version)
	require.Equal(t, map[string]int{"signature_ok": 6}, outcomes(w.events(alpha, d.id, "registration.verify")))
}

func TestPAAUTH01_GETSignsItsParameters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	query := map[string]string{"b": "x y", "a": "ž~"}
	req := d.sign(signature.Possession)
	req.Method, req.Body, req.Query = "GET", nil, query
	req.Header.Signature = d.keys.Sign(signature.V31, signature.Possession, signature.Request{
		Method: "GET", URIID: "/login", Nonce: req.Header.Nonce[:], Body: []byte("a=%C5%BE%7E&b=x+y"),
		Secret: w.version[alpha].Secret.Reveal(),
	}, d.ctr)
	require.True(t, d.verify(req).Valid)
}

func TestPAAUTH01_ReplayIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	req := d.sign(signature.PossessionKnowledge)
	require.True(t, d.verify(req).Valid)
	v := d.verify(req)
	require.False(t, v.Valid)
	require.Equal(t, 4, v.RemainingAttempts)
	require.EqualValues(t, 1, w.row(alpha, d.id).Counter)
}

func TestPAAUTH01_LookAhead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	skip := func(n int) {
		for range n {
			d.ctr = d.ctr.Next()
		}
	}
	early := d.sign(signature.PossessionKnowledge)
	skip(18)
	require.True(t, d.verify(d.sign(signature.PossessionKnowledge)).Valid, "19 skipped: the last of the window")
	require.EqualValues(t, 20, w.row(alpha, d.id).Counter)
	require.False(t, d.verify(early).Valid, "an earlier counter is gone")
	require.EqualValues(t, 20, w.row(alpha, d.id).Counter, "and never comes back")
	skip(20)
	require.False(t, d.verify(d.sign(signature.PossessionKnowledge)).Valid, "20 skipped: outside")
	require.EqualValues(t, 20, w.row(alpha, d.id).Counter)
	e := w.events(alpha, d.id, "registration.verify")[0]
	require.EqualValues(t, 19, e.Detail["skipped"])
	require.EqualValues(t, 20, e.Detail["counter"])
}

func TestPAAUTH01_FiveWrongBlock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	for i := range 5 {
		v := d.verify(d.wrong(signature.PossessionKnowledge))
		require.False(t, v.Valid)
		require.True(t, v.Judged)
		require.Equal(t, 4-i, v.RemainingAttempts)
		if i < 4 {
			require.Equal(t, registration.StateActive, v.Status)
			require.Empty(t, v.BlockedReason)
		} else {
			require.Equal(t, registration.StateBlocked, v.Status)
			require.Equal(t, registration.BlockedMaxFailedAttempts, v.BlockedReason)
		}
	}
	before := w.row(alpha, d.id)
	require.Equal(t, registration.BlockedMaxFailedAttempts, *before.Blocked)
	require.Equal(t, registration.Verdict{ID: d.id, Status: registration.StateBlocked, Factors: signature.PossessionKnowledge},
		d.verify(d.sign(signature.PossessionKnowledge)), "a right one tells nothing but the state now")
	require.Equal(t, before, w.row(alpha, d.id))
	require.Equal(t, map[string]int{"signature_does_not_match": 5, "activation_invalid_state": 1},
		outcomes(w.events(alpha, d.id, "registration.verify")))
}

// A limit that was lowered below what has failed already.
func TestPAAUTH01_NoAttemptLeftIsNotJudged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	_, err := w.db.Exec(t.Context(), `update registration set failed_attempts = 3, max_failed_attempts = 3`)
	require.NoError(t, err)
	v := d.verify(d.sign(signature.PossessionKnowledge))
	require.False(t, v.Valid)
	require.Equal(t, registration.StateBlocked, v.Status)
	require.Zero(t, v.RemainingAttempts)
	require.Zero(t, w.row(alpha, d.id).Counter)
	require.Equal(t, map[string]int{"activation_max_failed_attempts": 1}, outcomes(w.events(alpha, d.id, "registration.verify")))
}

// The rule of doc.go: what clears the count, and what possession alone may.
func TestPAAUTH01_WhatClearsTheFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	const p, pk = signature.Possession, signature.PossessionKnowledge
	step := func(req registration.VerifyRequest, valid bool, remaining, failedPossession int) {
		t.Helper()
		v := d.verify(req)
		require.Equal(t, valid, v.Valid)
		require.Equal(t, remaining, v.RemainingAttempts)
		require.Equal(t, failedPossession, w.row(alpha, d.id).FailedPossession)
	}
	step(d.wrong(p), false, 4, 1)
	step(d.wrong(p), false, 3, 2)
	step(d.sign(p), true, 5, 0) // its own failures
	step(d.wrong(pk), false, 4, 0)
	step(d.wrong(pk), false, 3, 0)
	step(d.wrong(p), false, 2, 1)
	step(d.sign(p), true, 3, 0) // not those of a PIN
	step(d.sign(pk), true, 5, 0)
	for i := range 5 { // possession alone is counted and capped
		step(d.wrong(p), false, 4-i, i+1)
	}
	require.Equal(t, registration.StateBlocked, w.row(alpha, d.id).State)
}

func TestPAAUTH01_StateComesBeforeTheApplicationKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	foreign := func(req registration.VerifyRequest) registration.VerifyRequest {
		req.Header.ApplicationKey = w.version[beta].Key // exists, but is the twin's
		return req
	}
	unknown := func(req registration.VerifyRequest) registration.VerifyRequest {
		req.Header.ApplicationKey[0] ^= 1
		return req
	}
	c := w.create(alpha, "petr")
	d := w.newDevice(alpha)
	require.NoError(t, d.activate(t.Context(), w.node, c.ActivationCode, ""))
	before := w.row(alpha, c.ID)
	for range 6 {
		v := d.verify(unknown(d.signAt(d.ctr, signature.PossessionKnowledge)))
		require.Equal(t, registration.Verdict{ID: c.ID, Status: registration.StatePendingCommit, Factors: signature.PossessionKnowledge}, v)
	}
	require.Equal(t, before, w.row(alpha, c.ID), "a wrong key can not touch what is not ACTIVE")

	require.NoError(t, w.node.Commit(t.Context(), alpha, registration.CommitParams{Apps: mine, ID: c.ID}))
	require.Equal(t, 4, d.verify(unknown(d.signAt(d.ctr, signature.PossessionKnowledge))).RemainingAttempts)
	require.Equal(t, 3, d.verify(foreign(d.signAt(d.ctr, signature.PossessionKnowledge))).RemainingAttempts)
	_, err := w.db.Exec(t.Context(), `update app_version set supported = false where tenant_id = 'alpha'`)
	require.NoError(t, err)
	w.skew.Store(int64(6 * time.Second)) // past the cache
	require.Equal(t, 2, d.verify(d.signAt(d.ctr, signature.PossessionKnowledge)).RemainingAttempts, "called back")
	require.Equal(t, map[string]int{"activation_invalid_state": 6, "activation_invalid_application": 3},
		outcomes(w.events(alpha, c.ID, "registration.verify")))
}

func TestPAAUTH01_UnknownIsUniform(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	twin := w.active(beta, "petr")
	before := w.row(alpha, d.id)
	for name, c := range map[string]struct {
		of  *device
		req func() registration.VerifyRequest
	}{
		"unknown id": {d, func() registration.VerifyRequest {
			r := d.signAt(d.ctr, signature.Possession)
			r.Header.ActivationID = "8819ac31-ad29-40d1-ac60-1b54293abe61"
			return r
		}},
		"other application": {d, func() registration.VerifyRequest {
			r := d.signAt(d.ctr, signature.Possession)
			r.Apps = []string{"OTHER"}
			return r
		}},
		"no applications": {d, func() registration.VerifyRequest {
			r := d.signAt(d.ctr, signature.Possession)
			r.Apps = nil
			return r
		}},
		"twin's registration": {d, func() registration.VerifyRequest { return twin.signAt(twin.ctr, signature.Possession) }},
	} {
		req := c.req()
		v := c.of.verify(req)
		require.Equal(t, registration.Verdict{ID: v.ID, Status: registration.StateRemoved, Factors: signature.Possession}, v, name)
	}
	require.Equal(t, before, w.row(alpha, d.id))
	require.Equal(t, map[string]int{"activation_unknown": 2}, outcomes(w.events(alpha, d.id, "registration.verify")))
	require.Equal(t, map[string]int{"activation_unknown": 1}, outcomes(w.events(alpha, twin.id, "registration.verify")))
	require.Empty(t, w.events(beta, twin.id, "registration.verify"))

	// A device that asks for itself has shown nothing: no record of its guesses.
	guess := d.signAt(d.ctr, signature.Possession)
	guess.Header.ActivationID, guess.Actor = "5d1f4b7e-0c57-4d0e-8d0a-1c0f5c3a2b11", "device"
	require.Equal(t, registration.StateRemoved, d.verify(guess).Status)
	require.Empty(t, w.events(alpha, guess.Header.ActivationID, "registration.verify"))
}

func TestPAAUTH01_ExpiredWhileInProgress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.create(alpha, "petr")
	d := w.newDevice(alpha)
	require.NoError(t, d.activate(t.Context(), w.node, c.ActivationCode, ""))
	w.skew.Store(int64(registration.DefaultValidity))
	require.Equal(t, registration.StateRemoved, d.verify(d.sign(signature.Possession)).Status)
	require.Equal(t, registration.StateRemoved, w.row(alpha, c.ID).State)
}

func TestPAAUTH01_MalformedRequestsChangeNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	before := w.row(alpha, d.id)
	for name, change := range map[string]func(*registration.VerifyRequest){
		"method":         func(r *registration.VerifyRequest) { r.Method = "PATCH" },
		"lower case":     func(r *registration.VerifyRequest) { r.Method = "post" },
		"no uri id":      func(r *registration.VerifyRequest) { r.URIID = "" },
		"NUL in uri id":  func(r *registration.VerifyRequest) { r.URIID = "/a\x00" },
		"GET with body":  func(r *registration.VerifyRequest) { r.Method = "GET" },
		"POST and query": func(r *registration.VerifyRequest) { r.Query = map[string]string{"a": "b"} },
		"no id":          func(r *registration.VerifyRequest) { r.Header.ActivationID = "" },
	} {
		req := d.wrong(signature.PossessionKnowledge)
		change(&req)
		_, err := w.node.Verify(t.Context(), alpha, req)
		require.ErrorIs(t, err, registration.ErrInvalid, name)
	}
	require.Equal(t, before, w.row(alpha, d.id))
	require.Empty(t, w.events(alpha, d.id, "registration.verify"))
}

func TestPAAUTH01_NoSecretInTheAuditLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	d.verify(d.sign(signature.PossessionKnowledge))
	e := w.events(alpha, d.id, "registration.verify")[0]
	require.Equal(t, []string{"backend", "petr", "APP"}, []string{e.Actor, e.UserID, e.AppID})
	require.Len(t, e.Detail["dataHash"], 64)
	text, err := json.Marshal(e)
	require.NoError(t, err)
	for name, s := range map[string]string{
		"application secret": string(w.version[alpha].Secret.Reveal()),
		"body":               "amount",
		"counter data":       signature.EncodeBase64(w.row(alpha, d.id).ctr),
	} {
		require.NotContains(t, string(text), s, name)
	}
}

// The detail is JSON made by hand: whatever the application calls its resource
// comes back as it was.
func TestPAAUTH01_AnyURIIDIsAuditedAsItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	for _, id := range []string{`"`, `\`, "\n\x01\u007f\u2028", `","status":"ACTIVE`, "ž 😀", strings.Repeat("ž", registration.MaxURIID)} {
		req := d.wrong(signature.Knowledge)
		req.URIID = id
		d.verify(req)
		events := w.events(alpha, d.id, "registration.verify")
		require.Equal(t, id, events[len(events)-1].Detail["uriId"])
		require.True(t, d.verify(d.sign(signature.Knowledge)).Valid)
	}
}

// A verification changes no indexed column and finds room on its page.
func TestPAAUTH01_VerdictsAreHOTUpdates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	single, err := pg.Open(t.Context(), w.url, pg.Options{MaxConns: 1}) // statistics are kept by session
	require.NoError(t, err)
	t.Cleanup(single.Close)
	node := w.newNode(single, nil)
	const n = 50
	for range n {
		v, err := node.Verify(t.Context(), alpha, d.sign(signature.PossessionKnowledge))
		require.NoError(t, err)
		require.True(t, v.Valid)
	}
	_, err = single.Exec(t.Context(), `select pg_stat_force_next_flush()`)
	require.NoError(t, err)
	var all, hot int
	require.NoError(t, single.QueryRow(t.Context(), `select pg_stat_get_tuples_updated(c), pg_stat_get_tuples_hot_updated(c)
		from (select 'registration'::regclass::oid as c) t`).Scan(&all, &hot))
	require.GreaterOrEqual(t, all, n)
	// Not all: a transaction of another test, in another database of the server,
	// may keep a page from being pruned for a moment. An index in the way is zero.
	require.GreaterOrEqual(t, hot, n-5)
}

// Ten times as many attempts as the limit, at once and over two nodes: exactly
// five are judged.
func TestPAAUTH01_ParallelWrongAttemptsBlockExactlyAtTheLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	nodes := []*registration.Registrar{w.node, w.newNode(w.pool(), nil)}
	var (
		wg     sync.WaitGroup
		judged atomic.Int32
	)
	for i := range 50 {
		req := d.wrong(signature.PossessionKnowledge)
		wg.Go(func() {
			v, err := nodes[i%2].Verify(t.Context(), alpha, req)
			require.NoError(t, err)
			require.False(t, v.Valid)
			if v.Judged {
				judged.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 5, judged.Load())
	r := w.row(alpha, d.id)
	require.Equal(t, registration.StateBlocked, r.State)
	require.Equal(t, 5, r.Failed)
	require.Equal(t, map[string]int{"signature_does_not_match": 5, "activation_invalid_state": 45},
		outcomes(w.events(alpha, d.id, "registration.verify")))
}

func TestPAAUTH01_OneSignatureAThousandTimesOverTwoNodesIsAcceptedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	nodes := []*registration.Registrar{w.node, w.newNode(w.pool(), nil)}
	req := d.sign(signature.PossessionKnowledge)
	var (
		wg    sync.WaitGroup
		valid atomic.Int32
		gate  = make(chan struct{})
	)
	for i := range 1000 {
		wg.Go(func() {
			<-gate
			v, err := nodes[i%2].Verify(t.Context(), alpha, req)
			require.NoError(t, err)
			if v.Valid {
				valid.Add(1)
			}
		})
	}
	close(gate)
	wg.Wait()
	require.EqualValues(t, 1, valid.Load())
	require.EqualValues(t, 1, w.row(alpha, d.id).Counter)
	require.Equal(t, map[string]int{"signature_ok": 1, "signature_does_not_match": 5, "activation_invalid_state": 994},
		outcomes(w.events(alpha, d.id, "registration.verify")))
}

// Different signatures at once: whatever order they are judged in, no counter is
// spent twice, the counter is the sum of what was acknowledged, and a refused one
// had been overtaken.
func TestPAAUTH01_DifferentSignaturesAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	_, err := w.db.Exec(t.Context(), `update registration set max_failed_attempts = 1000`)
	require.NoError(t, err)
	nodes := []*registration.Registrar{w.node, w.newNode(w.pool(), nil)}
	var (
		wg    sync.WaitGroup
		valid atomic.Int32
	)
	for i := range 64 {
		req := d.sign(signature.PossessionKnowledge)
		wg.Go(func() {
			v, err := nodes[i%2].Verify(t.Context(), alpha, req)
			require.NoError(t, err)
			if v.Valid {
				valid.Add(1)
			}
		})
	}
	wg.Wait()
	require.Positive(t, valid.Load())
	seen := map[float64]bool{}
	var last, sum float64
	for _, e := range w.events(alpha, d.id, "registration.verify") {
		if e.Outcome != "signature_ok" {
			continue
		}
		counter, skipped := e.Detail["counter"].(float64), e.Detail["skipped"].(float64)
		require.False(t, seen[counter])
		seen[counter] = true
		sum += skipped + 1
		last = max(last, counter)
	}
	require.Len(t, seen, int(valid.Load()))
	require.Equal(t, sum, last)
	require.EqualValues(t, last, w.row(alpha, d.id).Counter)
}

func TestPAAUTH01_AnOutageIsNoVerdict(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	require.True(t, d.verify(d.sign(signature.PossessionKnowledge)).Valid)
	before := w.row(alpha, d.id)
	req := d.sign(signature.PossessionKnowledge)

	over, cancel := context.WithCancel(t.Context())
	cancel()
	v, err := w.node.Verify(over, alpha, req)
	require.ErrorIs(t, err, fault.ErrUnavailable)
	require.Equal(t, registration.Verdict{}, v)

	pool := w.pool()
	node := w.newNode(pool, nil)
	pool.Close()
	v, err = node.Verify(t.Context(), alpha, req)
	require.ErrorIs(t, err, fault.ErrUnavailable)
	require.Equal(t, registration.Verdict{}, v)

	// The write fails after a good read: someone holds the row.
	tx, err := w.db.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `select 1 from registration where id = $1 for update`, d.id)
	require.NoError(t, err)
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	v, err = w.node.Verify(short, alpha, req)
	require.ErrorIs(t, err, fault.ErrUnavailable)
	require.Equal(t, registration.Verdict{}, v)
	// The statement is cancelled on the server too. Had the lock been released
	// first, it would have been stored without an answer: see doc.go.
	require.Eventually(t, func() bool {
		var waiting int
		err := w.db.QueryRow(t.Context(), `select count(*) from pg_stat_activity
			where datname = current_database() and wait_event_type = 'Lock'`).Scan(&waiting)
		return err == nil && waiting == 0
	}, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, tx.Rollback(t.Context()))

	require.Equal(t, before, w.row(alpha, d.id))
	require.True(t, d.verify(req).Valid, "the same signature is still good")
}

func TestPAAUTH01_DamagedKeysAreAnErrorNotAVerdict(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d, other := w.active(alpha, "petr"), w.active(alpha, "jana")
	for name, sql := range map[string]string{
		"one bit": `update registration set master_secret_sealed =
			set_byte(master_secret_sealed, 20, get_byte(master_secret_sealed, 20) # 1) where id = $1 and $2::uuid is not null`,
		"another row's": `update registration set master_secret_sealed =
			(select master_secret_sealed from registration where id = $2) where id = $1`,
	} {
		_, err := w.db.Exec(t.Context(), sql, d.id, other.id)
		require.NoError(t, err)
		before := w.row(alpha, d.id)
		fresh := w.newNode(w.db, nil) // which has not read the row before it was damaged
		v, err := fresh.Verify(t.Context(), alpha, d.sign(signature.Possession))
		require.ErrorIs(t, err, envelope.ErrCorrupt, name)
		require.Equal(t, fault.Internal, fault.KindOf(err), name)
		require.Equal(t, registration.Verdict{}, v, name)
		require.Equal(t, before, w.row(alpha, d.id), name)
	}
}

// After the first verification nothing but the database is asked: the HSM may
// even be gone.
func TestPAAUTH01_WarmVerifyNeedsNoHSM(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	require.True(t, d.verify(d.sign(signature.PossessionKnowledge)).Valid)
	require.NoError(t, w.hsm.Destroy(t.Context(), w.kek.Info().Ref))
	require.True(t, d.verify(d.sign(signature.PossessionKnowledge)).Valid)

	cold := w.newNode(w.pool(), nil) // a new process can not open anything
	v, err := cold.Verify(t.Context(), alpha, d.sign(signature.PossessionKnowledge))
	require.Error(t, err)
	require.Equal(t, registration.Verdict{}, v)
	_, err = w.node.Create(t.Context(), alpha, registration.CreateParams{Apps: mine, App: "APP", UserID: "x"})
	require.NoError(t, err, "the tenant's data key was unwrapped before")
}

func TestPAAUTH01_AnApplicationOfTheSameTenant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	_, v, err := w.apps(w.db).Create(t.Context(), alpha, app.CreateParams{ID: "SECOND"})
	require.NoError(t, err)
	req := d.sign(signature.PossessionKnowledge)
	req.Apps = []string{"APP", "SECOND"}
	req.Header.ApplicationKey = v.Key
	verdict := d.verify(req)
	require.False(t, verdict.Valid)
	require.Equal(t, 4, verdict.RemainingAttempts)
}

func TestPAAUTH01_Metrics(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	d.verify(d.sign(signature.Possession))
	d.verify(d.wrong(signature.Possession))
	n, err := testutil.GatherAndCount(w.metrics, "signet_registration_verdicts_total")
	require.NoError(t, err)
	require.Equal(t, 2, n)
	for _, name := range []string{
		"signet_registration_cas_retries_total", "signet_registration_key_cache_total", "signet_registration_verify_seconds",
	} {
		n, err := testutil.GatherAndCount(w.metrics, name)
		require.NoError(t, err)
		require.Positive(t, n, name)
	}
}
