package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// Kind is a way in which a log was changed.
type Kind string

const (
	Changed  Kind = "changed"  // an event, or its link, is not what was sealed
	Deleted  Kind = "deleted"  // a sealed event is gone
	Cut      Kind = "cut"      // links are gone, in the middle or at the end
	Inserted Kind = "inserted" // an event older than what was sealed before it
	Forged   Kind = "forged"   // a checkpoint is not the HSM's, or one is missing
)

// Finding is one row that is not right.
type Finding struct {
	Kind  Kind
	Seq   int64     // place in the chain; 0 for an event that has none
	Event uuid.UUID // zero when the event is not known
	Text  string
}

func (f Finding) String() string {
	return fmt.Sprintf("%s: seq %d, event %s: %s", f.Kind, f.Seq, f.Event, f.Text)
}

// maxFindings bounds a report; Bad counts all.
const maxFindings = 100

// Report is the state of a tenant's audit log.
type Report struct {
	Tenant      tenant.ID
	Seq         int64      // the end of the chain
	Hash        [32]byte   // of the chain at Seq
	Checkpoints int64      // good ones
	Signed      Checkpoint // the last good one; the zero value when there is none
	Unsealed    int64      // events that wait for the sealer
	Bad         int64
	Findings    []Finding // the first ones: the chain's in its order, then events without a place
}

// OK reports that nothing was changed, as far as the chain and its checkpoints
// tell.
func (r Report) OK() bool { return r.Bad == 0 }

func (r *Report) add(k Kind, seq int64, event uuid.UUID, format string, a ...any) {
	r.Bad++
	if len(r.Findings) < maxFindings {
		r.Findings = append(r.Findings, Finding{k, seq, event, fmt.Sprintf(format, a...)})
	}
}

// Witness is a checkpoint as somebody outside the database remembers it, from the
// log for example.
type Witness struct {
	Number, Seq int64
	Hash        [32]byte
}

// Verifier checks chains. It writes nothing and may run beside everything else.
type Verifier struct {
	DB   ChainDB
	Keys Keys
	Page int // rows read at a time; 0: 1,000
}

// Tenants lists all that have events or a chain.
func (v Verifier) Tenants(ctx context.Context) ([]tenant.ID, error) {
	rows, err := v.DB.Query(ctx, sqlTenants)
	if err != nil {
		return nil, fmt.Errorf("audit: tenants: %w", pg.Unavailable(err))
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (tenant.ID, error) {
		var s string
		if err := row.Scan(&s); err != nil {
			return tenant.ID{}, err
		}
		return tenant.Stored(s)
	})
	if err != nil {
		return nil, fmt.Errorf("audit: tenants: %w", pg.Unavailable(err))
	}
	return list, nil
}

// Verify reads the whole log of a tenant, computes its chain anew and holds it
// against the checkpoints, whose signatures it checks with the keys of the HSM.
// Findings are no error: an error means that there is no verdict.
func (v Verifier) Verify(ctx context.Context, t tenant.ID, known ...Witness) (Report, error) {
	if v.Page == 0 {
		v.Page = 1000
	}
	run := verification{Verifier: v, ctx: ctx, report: Report{Tenant: t}, known: known, chain: chain{tenant: t.String()}}
	for _, step := range []func() error{run.begin, run.links, run.strays} {
		if err := step(); err != nil {
			return Report{}, fmt.Errorf("audit: verify %s: %w", t, pg.Unavailable(err))
		}
	}
	return run.report, nil
}

type verification struct {
	Verifier
	ctx    context.Context
	report Report
	known  []Witness

	chain       chain
	end         head         // as it was when we began: what comes later is not judged
	newest      int64        // number of the last checkpoint when we began
	checkpoints []Checkpoint // the page in hand
	read        Checkpoint   // the last one read
	exhausted   bool
	mark        uuid.UUID // of the last good checkpoint passed
}

// begin looks for the newest checkpoint before it looks at the head, so that one
// which reaches beyond the head tells of a cut.
func (v *verification) begin() error {
	last, err := scanCheckpoint(v.DB.QueryRow(v.ctx, sqlCheckpointLast, v.chain.tenant))
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	v.newest = last.Number
	for _, w := range v.known {
		if w.Number > last.Number {
			v.report.add(Forged, w.Seq, uuid.Nil, "checkpoint %d is gone", w.Number)
		}
	}
	var longest int64
	var hash []byte
	err = v.DB.QueryRow(v.ctx, sqlHead, v.chain.tenant).
		Scan(&longest, &v.end.tenant, &v.end.seq, &hash, &v.end.mark, &v.end.holder, &v.end.held)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		var links int64
		if err := v.DB.QueryRow(v.ctx, sqlLongest, v.chain.tenant).Scan(&links); err != nil {
			return err
		}
		if links > 0 || last.Number > 0 { // begun after our look at the head, at worst: look again
			v.report.add(Cut, max(links, last.Seq), uuid.Nil, "the head of the chain is gone")
			v.end.seq = links
		}
		v.report.Seq = v.end.seq
		return nil
	case err != nil:
		return err
	}
	copy(v.end.hash[:], hash)
	v.report.Seq, v.report.Hash = v.end.seq, v.end.hash
	if longest > v.end.seq {
		v.report.add(Changed, v.end.seq+1, uuid.Nil, "links up to %d stand beyond the end of the chain", longest)
	}
	return nil
}

// links walks the chain. After a bad row it goes on from the stored hash, so that
// each bad row is named and no good one.
func (v *verification) links() error {
	for {
		rows, err := v.DB.Query(v.ctx, sqlLinks, v.chain.tenant, v.chain.seq, v.end.seq, v.Page)
		if err != nil {
			return err
		}
		n, err := v.page(rows)
		if err != nil {
			return err
		}
		if n < v.Page {
			break
		}
	}
	if v.chain.seq < v.end.seq {
		v.report.add(Cut, v.chain.seq+1, uuid.Nil, "the chain should go on to %d", v.end.seq)
	} else if v.end.tenant != "" && v.chain.hash != v.end.hash {
		v.report.add(Changed, v.chain.seq, uuid.Nil, "the head of the chain has another hash")
	}
	// What is left covers links that are not there.
	for {
		c, ok, err := v.peekCheckpoint()
		if err != nil || !ok {
			return err
		}
		v.checkpoints = v.checkpoints[1:]
		if good, err := v.judge(c); err != nil {
			return err
		} else if good {
			v.report.add(Cut, v.chain.seq+1, uuid.Nil, "links up to %d are gone, says checkpoint %d", c.Seq, c.Number)
		}
	}
}

func (v *verification) page(rows pgx.Rows) (n int, err error) {
	defer rows.Close()
	var (
		s       stored
		seq     int64
		hash    []byte
		present bool
	)
	into := append([]any{&seq, &s.id, &hash, &present}, s.fields()...)
	for ; rows.Next(); n++ {
		if err := rows.Scan(into...); err != nil {
			return n, err
		}
		if err := v.link(seq, &s, hash, present); err != nil {
			return n, err
		}
	}
	return n, rows.Err()
}

func (v *verification) link(seq int64, s *stored, hash []byte, present bool) error {
	id := uuid.UUID(s.id.Bytes)
	if seq != v.chain.seq+1 {
		v.report.add(Cut, v.chain.seq+1, uuid.Nil, "links %d to %d are gone", v.chain.seq+1, seq-1)
		v.chain.seq = seq - 1
		v.chain.hash = digest{} // the link is judged by those after it
	}
	switch want, err := v.chain.next(s); {
	case !present:
		v.report.add(Deleted, seq, id, "the event is gone")
	case v.chain.hash == digest{} && seq > 1: // after a gap
	case err != nil || !bytes.Equal(want[:], hash):
		v.report.add(Changed, seq, id, "the event or its link was changed")
	}
	if bytes.Compare(id[:], v.mark[:]) < 0 {
		v.report.add(Inserted, seq, id, "the event is older than checkpoint %d allows", v.report.Signed.Number)
	}
	v.chain.add(toDigest(hash))
	for _, w := range v.known {
		if w.Seq == seq && w.Hash != v.chain.hash {
			v.report.add(Changed, seq, id, "the chain is not the one of checkpoint %d as it was known", w.Number)
		}
	}
	return v.passCheckpoints()
}

// passCheckpoints judges the checkpoints at the link just added.
func (v *verification) passCheckpoints() error {
	for {
		c, ok, err := v.peekCheckpoint()
		if err != nil || !ok || c.Seq > v.chain.seq {
			return err
		}
		v.checkpoints = v.checkpoints[1:]
		good, err := v.judge(c)
		if err != nil {
			return err
		}
		if good && (c.Seq != v.chain.seq || c.Hash != v.chain.hash) {
			v.report.add(Changed, c.Seq, uuid.Nil, "links from %d on were made anew: checkpoint %d has another hash", v.report.Signed.Seq+1, c.Number)
			good = false
		}
		if good {
			v.report.Checkpoints++
			v.report.Signed, v.mark = c, c.Mark
		}
	}
}

// judge checks a checkpoint by itself and against the one before it.
func (v *verification) judge(c Checkpoint) (good bool, err error) {
	good, err = c.verify(v.ctx, v.Keys)
	switch {
	case err != nil:
		return false, err
	case !good:
		v.report.add(Forged, c.Seq, uuid.Nil, "the signature of checkpoint %d is wrong", c.Number)
	case !c.follows(v.read):
		v.report.add(Forged, c.Seq, uuid.Nil, "checkpoint %d does not follow %d", c.Number, v.read.Number)
	}
	v.read = c
	return good, nil
}

func (v *verification) peekCheckpoint() (Checkpoint, bool, error) {
	if len(v.checkpoints) == 0 && !v.exhausted {
		if err := v.moreCheckpoints(); err != nil {
			return Checkpoint{}, false, err
		}
	}
	if len(v.checkpoints) == 0 || v.checkpoints[0].Number > v.newest { // made since we began
		return Checkpoint{}, false, nil
	}
	return v.checkpoints[0], true, nil
}

func (v *verification) moreCheckpoints() error {
	rows, err := v.DB.Query(v.ctx, sqlCheckpoints, v.chain.tenant, v.read.Number, v.Page)
	if err != nil {
		return err
	}
	v.checkpoints, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Checkpoint, error) { return scanCheckpoint(row) })
	v.exhausted = len(v.checkpoints) < v.Page
	return err
}

// strays walks the events themselves: one below the mark must have a link.
func (v *verification) strays() error {
	mark := v.end.mark
	if bytes.Compare(v.mark[:], mark[:]) > 0 {
		mark = v.mark
	}
	after := uuid.Nil
	for {
		rows, err := v.DB.Query(v.ctx, sqlMembers, v.chain.tenant, pgtype.UUID{Bytes: after, Valid: true}, v.Page)
		if err != nil {
			return err
		}
		var (
			id     pgtype.UUID
			linked bool
		)
		n := 0
		for ; rows.Next(); n++ {
			if err := rows.Scan(&id, &linked); err != nil {
				rows.Close()
				return err
			}
			after = id.Bytes
			switch {
			case linked:
			case bytes.Compare(after[:], mark[:]) < 0:
				v.report.add(Inserted, 0, after, "the event was written after its time was sealed")
			default:
				v.report.Unsealed++
			}
		}
		if err := rows.Err(); err != nil {
			return err
		}
		if n < v.Page {
			return nil
		}
	}
}
