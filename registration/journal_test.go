//go:build signet_journal

package registration_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/group"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// The second gear of docs/design/0026, as a prototype: the commit of a batch is one
// row of a journal beside the audit pack, the rows of registration follow in the
// background. Who commits owns the shard: its epoch is looked at, and held, by the
// statement itself, so that a node that was taken over commits nothing more.

const sqlJournalTables = `
create table shard_owner (shard integer primary key, epoch bigint not null);
create table verdict_journal (shard integer not null, seq bigint generated always as identity, body bytea not null, primary key (shard, seq));
insert into shard_owner select n, 1 from generate_series(0, 1) n`

var (
	sqlJournal = `with own as (
    select epoch from shard_owner where shard = $2 and epoch = $3 for key share
), written as (
    insert into verdict_journal (shard, body) select $2, $4::bytea from own returning 1 as n
), logged as (` + audit.AfterPack("written", "n", "exists (select from written)", 5) + `)
select count(*) from written`

	sqlTakeOver = `update shard_owner set epoch = epoch + 1 where shard = $1 returning epoch`

	// What the journal has is applied in one statement and gone: the last counter of
	// each registration wins, and none goes back.
	sqlJournalRead  = `select seq, body from verdict_journal where shard = $1 order by seq limit $2`
	sqlJournalApply = `update registration r set ctr_data = g.ctr_data, counter = g.counter, revision = r.revision + 1, last_used_at = now()
from unnest($2::uuid[], $3::bytea[], $4::bigint[]) as g(id, ctr_data, counter)
where r.tenant_id = $1 and r.id = g.id and r.counter < g.counter`
	sqlJournalTrim = `delete from verdict_journal where shard = $1 and seq <= $2`
)

type journal struct {
	c     *crowd
	epoch [2]int64
	held  sync.Map // uuid.UUID to *journalled
	group *group.Group[*journalled, bool]
	stop  context.CancelFunc
	done  sync.WaitGroup
}

// journalled is a registration whose truth is in memory while the shard is owned.
type journalled struct {
	mu      sync.Mutex // from the judgement to its commit
	id      uuid.UUID
	ctr     signature.Counter
	counter int64
	next    signature.Counter
	offset  int64
	event   audit.Event
}

const journalRecord = 16 + 16 + 8

func (c *crowd) newJournal() *journal {
	tb := c.w.tb
	_, err := c.w.db.Exec(tb.Context(), sqlJournalTables)
	require.NoError(tb, err)
	j := &journal{c: c, epoch: [2]int64{1, 1}}
	j.group, err = group.New(group.Config[*journalled, bool]{Name: "journal", Flush: j.flush})
	require.NoError(tb, err)
	ctx, stop := context.WithCancel(tb.Context())
	j.stop = stop
	for shard := range 2 {
		j.done.Go(func() {
			for ctx.Err() == nil {
				n, err := j.apply(context.WithoutCancel(ctx), shard, 512)
				if err != nil || n == 0 {
					time.Sleep(20 * time.Millisecond)
				}
			}
		})
	}
	tb.Cleanup(func() { stop(); j.done.Wait() })
	return j
}

func (j *journal) verify(ctx context.Context, t tenant.ID, req registration.VerifyRequest) (v registration.Verdict, err error) {
	id := uuid.MustParse(req.Header.ActivationID)
	e, err := j.load(ctx, t, id)
	if err != nil {
		return v, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	m, ok := j.c.keys.Verify(&req.Header, signature.Request{
		Method: req.Method, URIID: req.URIID, Body: req.Body, Secret: j.c.w.version[t].Secret.Reveal(),
	}, e.ctr, signature.DefaultLookAhead)
	if !ok {
		return v, nil
	}
	e.next, e.offset = m.Next, int64(m.Offset)+1
	e.event = audit.Event{
		Tenant: t, Action: "registration.verify", Actor: req.Actor, Subject: req.Header.ActivationID, UserID: "user", AppID: "APP",
		Outcome: "signature_ok", JSON: []byte(naiveDetail),
	}
	won, err := j.group.Do(ctx, uint64(id[15]), e)
	if err != nil || !won {
		return v, fmt.Errorf("%w: %w", fault.ErrUnavailable, err)
	}
	e.ctr, e.counter = e.next, e.counter+e.offset
	v.Valid = true
	return v, nil
}

func (j *journal) load(ctx context.Context, t tenant.ID, id uuid.UUID) (*journalled, error) {
	if e, ok := j.held.Load(id); ok {
		return e.(*journalled), nil
	}
	e := &journalled{id: id}
	var ctr []byte
	if err := j.c.w.db.QueryRow(ctx, `select ctr_data, counter from registration where tenant_id = $1 and id = $2`, t.String(), id).
		Scan(&ctr, &e.counter); err != nil {
		return nil, err
	}
	copy(e.ctr[:], ctr)
	got, _ := j.held.LoadOrStore(id, e)
	return got.(*journalled), nil
}

func (j *journal) flush(ctx context.Context, batch []*journalled) ([]bool, error) {
	shard := int(batch[0].id[15] % 2)
	at := time.Now()
	body := make([]byte, 0, len(batch)*journalRecord)
	pack := audit.NewPack(alpha, at, len(batch))
	for _, e := range batch {
		body = append(body, e.id[:]...)
		body = append(body, e.next[:]...)
		body = binary.BigEndian.AppendUint64(body, uint64(e.counter+e.offset))
		pack.Add(&e.event)
	}
	var written int
	err := j.c.w.db.QueryRow(ctx, sqlJournal, append([]any{alpha.String(), shard, j.epoch[shard], body}, pack.Args()...)...).Scan(&written)
	won := make([]bool, len(batch))
	for i := range won {
		won[i] = written == 1
	}
	return won, err
}

// apply brings the table up to the journal.
func (j *journal) apply(ctx context.Context, shard, most int) (n int, err error) {
	db := j.c.w.db
	rows, err := db.Query(ctx, sqlJournalRead, shard, most)
	if err != nil {
		return 0, err
	}
	var (
		seq  int64
		body []byte
		ctrs = map[uuid.UUID]signature.Counter{}
		nums = map[uuid.UUID]int64{}
	)
	if _, err = pgx.ForEachRow(rows, []any{&seq, &body}, func() error {
		n++
		for b := body; len(b) >= journalRecord; b = b[journalRecord:] {
			id := uuid.UUID(b[:16])
			ctrs[id], nums[id] = signature.Counter(b[16:32]), int64(binary.BigEndian.Uint64(b[32:]))
		}
		return nil
	}); err != nil || n == 0 {
		return n, err
	}
	var (
		id      []pgtype.UUID
		ctr     [][]byte
		counter []int64
	)
	for k, c := range ctrs {
		id, ctr, counter = append(id, pgtype.UUID{Bytes: k, Valid: true}), append(ctr, c[:]), append(counter, nums[k])
	}
	return n, pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlJournalApply, alpha.String(), id, ctr, counter); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, sqlJournalTrim, shard, seq)
		return err
	})
}

// Nothing is answered that is not in the journal, and nothing is written by who does
// not own the shard any more.
func TestJournalIsFenced(t *testing.T) {
	w := newWorld(t)
	c := w.newCrowd(8)
	j := c.newJournal()
	ctx := t.Context()
	for i := range c.phones {
		v, err := j.verify(ctx, alpha, c.sign(i))
		require.NoError(t, err)
		require.True(t, v.Valid)
	}
	for shard := range 2 { // another node takes over
		_, err := w.db.Exec(ctx, sqlTakeOver, shard)
		require.NoError(t, err)
	}
	events := len(w.packs(t))
	for i := range c.phones {
		v, err := j.verify(ctx, alpha, c.sign(i))
		require.ErrorIs(t, err, fault.ErrUnavailable)
		require.False(t, v.Valid)
	}
	require.Len(t, w.packs(t), events)
	require.Eventually(t, func() bool {
		var left, moved int
		require.NoError(t, w.db.QueryRow(ctx, `select (select count(*) from verdict_journal), (select count(*) from registration where counter = 1)`).Scan(&left, &moved))
		return left == 0 && moved == len(c.phones)
	}, 10*time.Second, 20*time.Millisecond)
}

func (w *world) packs(t *testing.T) (ids []uuid.UUID) {
	rows, err := w.db.Query(t.Context(), `select id from audit_pack`)
	require.NoError(t, err)
	ids, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	require.NoError(t, err)
	return ids
}

// BenchmarkJournal takes turns with the way that is served, at 256 and 1024 callers.
func BenchmarkJournal(b *testing.B) {
	n := 100_000
	if os.Getenv("SIGNET_LONG") != "" {
		n = 1_000_000
	}
	w := newDurableWorld(b)
	c := w.newCrowd(n)
	together := w.ways(c)[0]
	// Each its own half: what the one has in memory the other would move.
	left, right := *c, *c
	left.phones, right.phones = c.phones[:n/2], c.phones[n/2:]
	gear := way{"journal", left.newJournal().verify}
	for _, callers := range []int{1, 256, 1024} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			left.run(b, gear, callers, time.Second, 1<<40)
			right.run(b, together, callers, time.Second, 1<<40)
			w.checkpoint()
			var journal, ours, ratio, cpu series
			for range b.N {
				a := left.run(b, gear, callers, round, 1<<40)
				z := right.run(b, together, callers, round, 1<<40)
				journal, ours = append(journal, a), append(ours, z)
				ratio = append(ratio, stats{value: a.rate() / z.rate()})
				cpu = append(cpu, stats{value: z.cpu() / a.cpu()})
			}
			b.ReportMetric(journal.median(stats.rate), "journal/s")
			b.ReportMetric(ours.median(stats.rate), "together/s")
			b.ReportMetric(ratio.median(stats.plain), "x-together")
			b.ReportMetric(cpu.median(stats.plain), "x-together-cpu")
			b.ReportMetric(journal.median(func(s stats) float64 { return s.wal / float64(s.n) }), "wal-B/op")
			b.ReportMetric(0, "ns/op")
		})
	}
}
