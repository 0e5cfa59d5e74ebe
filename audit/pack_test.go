package audit_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

// pack writes events into one row as a domain's statement does: those whose
// numbers, from 1, are not won are left out.
func pack(t *testing.T, db audit.ChainDB, at time.Time, won []int64, events ...audit.Event) {
	t.Helper()
	p := audit.NewPack(alpha, at, len(events))
	for i := range events {
		require.NoError(t, audit.Check(&events[i]))
		p.Add(&events[i])
	}
	_, err := db.Exec(t.Context(), sqlTestPack, append([]any{"alpha", won, len(events)}, p.Args()...)...)
	require.NoError(t, err)
}

var sqlTestPack = "with moved as (select n from unnest($2::bigint[]) n) " +
	audit.AfterPack("moved", "n", "(select count(*) from moved) = $3::bigint", 4)

func packEvent(user, app, action string) audit.Event {
	return audit.Event{
		Action: action, Actor: "it's \"quoted\"", Subject: "subject", UserID: user, AppID: app, Outcome: "ok",
		JSON: []byte(`{"registration":"subject","n":1.50}`),
	}
}

// What is listed does not depend on how it was written: rows and packs of a random
// history are one log, page by page, for each filter.
func TestPacksAreListedLikeRows(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	l := newLog(t, db)
	start := time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC)
	want := 0
	users, apps := []string{"u1", "u2", "ü3", ""}, []string{"A", "B", ""}
	for i := range 60 {
		at := start.Add(time.Duration(i/2) * time.Second) // two of each moment
		switch i % 4 {
		case 0:
			require.NoError(t, l.RecordTx(t.Context(), db, audit.Event{
				Tenant: alpha, At: at, Action: fmt.Sprint("row-", i), Subject: "subject", UserID: users[i%3], AppID: apps[i%2], Outcome: "ok",
			}))
			want++
		default:
			var events []audit.Event
			var won []int64
			for k := range 1 + i%7 {
				events = append(events, packEvent(users[(i+k)%4], apps[(i+k)%3], fmt.Sprintf("pack-%d-%d", i, k)))
				if i%4 != 3 || k%2 == 0 { // of some packs only a part
					won = append(won, int64(k+1))
				}
			}
			pack(t, db, at, won, events...)
			want += len(won)
		}
	}
	// An empty pack is none.
	pack(t, db, start, nil, packEvent("u1", "A", "never"))

	var all []audit.Event
	collect := func(f audit.Filter) (out []audit.Event) {
		f.Limit = 7
		for {
			page, err := l.List(t.Context(), alpha, f)
			require.NoError(t, err)
			out = append(out, page...)
			if len(page) < f.Limit {
				return out
			}
			f.Before = page[len(page)-1].ID
		}
	}
	all = collect(audit.Filter{})
	require.Len(t, all, want)
	require.True(t, slices.IsSortedFunc(all, func(a, b audit.Event) int { return -slices.Compare(a.ID[:], b.ID[:]) }))
	var seen int
	require.NoError(t, db.QueryRow(t.Context(), "select count(distinct id) from audit_entry where tenant_id = 'alpha'").Scan(&seen))
	require.Equal(t, want, seen)

	for _, f := range []audit.Filter{
		{UserID: "u1"},
		{UserID: "ü3", Apps: []string{"A"}},
		{Apps: []string{"B"}},
		{UserID: "nobody"},
		{From: start.Add(5 * time.Second), To: start.Add(9 * time.Second)},
		{UserID: "u2", From: start.Add(5 * time.Second), To: start.Add(20 * time.Second)},
	} {
		var expected []audit.Event
		for _, e := range all {
			if (f.UserID == "" || e.UserID == f.UserID) && (f.Apps == nil || slices.Contains(f.Apps, e.AppID)) &&
				!e.At.Before(f.From) && (f.To.IsZero() || e.At.Before(f.To)) {
				expected = append(expected, e)
			}
		}
		require.Equal(t, expected, collect(f), "%+v", f)
	}

	// The history of a registration, in pages as well.
	var history []audit.Item
	for before := uuid.Nil; ; {
		items, next, err := l.History(t.Context(), alpha, audit.HistoryQuery{Registration: "subject", UserID: "u1", App: "A", Before: before, Limit: 3})
		require.NoError(t, err)
		history = append(history, items...)
		if before = next; next == uuid.Nil {
			break
		}
	}
	require.Len(t, history, len(collect(audit.Filter{UserID: "u1", Apps: []string{"A"}})))

	others, err := l.List(t.Context(), beta, audit.Filter{UserID: "u1"})
	require.NoError(t, err)
	require.Empty(t, others)
}

func TestPackedEventsAreWhatWasGiven(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	l := newLog(t, db)
	at := time.Date(2026, 12, 1, 10, 0, 0, 123456789, time.UTC)
	e := packEvent("u\t\"1", "A", "a.b")
	pack(t, db, at, []int64{1}, e)
	got, err := l.List(t.Context(), alpha, audit.Filter{UserID: e.UserID})
	require.NoError(t, err)
	require.Len(t, got, 1)
	want := e
	want.Tenant, want.ID, want.At, want.JSON = alpha, got[0].ID, at.Truncate(time.Microsecond), nil
	want.Detail = map[string]any{"registration": "subject", "n": 1.5}
	require.Equal(t, want, got[0])

	for name, bad := range map[string]func(*audit.Event){
		"no action":     func(e *audit.Event) { e.Action = "" },
		"no outcome":    func(e *audit.Event) { e.Outcome = "" },
		"NUL":           func(e *audit.Event) { e.Actor = "a\x00" },
		"no UTF-8":      func(e *audit.Event) { e.UserID = "\xff" },
		"NUL in detail": func(e *audit.Event) { e.JSON = []byte(`{"a":"\u0000"}`) },
		"a map":         func(e *audit.Event) { e.Detail = map[string]any{"a": 1} },
	} {
		e := packEvent("u", "A", "x")
		bad(&e)
		require.ErrorIs(t, audit.Check(&e), audit.ErrInvalid, name)
	}
}

// A pack is sealed as a whole, and whatever is done to it afterwards is found.
func TestPacksAreSealed(t *testing.T) {
	t.Parallel()
	for name, tamper := range map[string]struct {
		sql  string
		kind audit.Kind
	}{
		"an event changed":            {`update audit_pack set events = replace(events, 'second', 'secund')`, audit.Changed},
		"an event taken out of sight": {`update audit_pack set users = '{}'`, audit.Changed},
		"an application":              {`update audit_pack set apps = '{B}'`, audit.Changed},
		"the range":                   {`update audit_pack set first_id = '00000000-0000-7000-8000-000000000001'`, audit.Changed},
		"deleted":                     {`delete from audit_pack`, audit.Deleted},
		"a pack of the past": {`insert into audit_pack select tenant_id, '01000000-0000-7000-8000-000000000001', '01000000-0000-7000-8000-000000000001',
			users, apps, events from audit_pack`, audit.Inserted},
		"nothing": {`select 1`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			token := softhsmtest.New(t)
			_, err := token.Generate(t.Context(), audit.KeyRef(), hsm.P256, [16]byte{})
			require.NoError(t, err)
			now := time.Now()
			s, err := audit.NewSealer(audit.SealerConfig{DB: db, Keys: token})
			require.NoError(t, err)
			require.NoError(t, newLog(t, db).RecordTx(t.Context(), db, audit.Event{Tenant: alpha, Action: "row", Outcome: "ok"}))
			pack(t, db, now, []int64{1, 2}, packEvent("u1", "A", "first"), packEvent("u2", "A", "second"))
			n, err := s.Seal(t.Context())
			require.NoError(t, err)
			require.Equal(t, 2, n, "a row and a pack")
			_, err = db.Exec(t.Context(), tamper.sql)
			require.NoError(t, err)
			report, err := audit.Verifier{DB: db, Keys: token}.Verify(t.Context(), alpha)
			require.NoError(t, err)
			require.Zero(t, report.Unsealed)
			if tamper.kind == "" {
				require.True(t, report.OK(), report.Findings)
				require.EqualValues(t, 2, report.Seq)
				return
			}
			require.EqualValues(t, 1, report.Bad, report.Findings)
			require.Equal(t, tamper.kind, report.Findings[0].Kind)
		})
	}
}
