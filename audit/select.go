package audit

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/tenant"
)

// selection is a page of events, newest first: those in rows of their own by the
// statement rows, whose arguments are args, and those in packs.
type selection struct {
	rows  string
	args  []any
	from  uuid.UUID // inclusive
	below uuid.UUID // exclusive
	user  string    // "": any
	apps  []string  // empty: any
	also  func(*Event) bool
	limit int
}

func (s *selection) has(e *Event) bool {
	return bytes.Compare(e.ID[:], s.from[:]) >= 0 && bytes.Compare(e.ID[:], s.below[:]) < 0 &&
		(s.user == "" || e.UserID == s.user) && (len(s.apps) == 0 || slices.Contains(s.apps, e.AppID)) &&
		(s.also == nil || s.also(e))
}

// read returns the page.
func (l *Log) read(ctx context.Context, t tenant.ID, s *selection) ([]Event, error) {
	rows, err := l.db.Query(ctx, s.rows, s.args...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", fault.ErrUnavailable, err)
	}
	events, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Event, error) { return scan(row, t) })
	if err != nil {
		return nil, fmt.Errorf("%w: %w", fault.ErrUnavailable, err)
	}
	packed, err := l.readPacks(ctx, t, s)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", fault.ErrUnavailable, err)
	}
	return newest(append(events, packed...), s.limit), nil
}

func newest(events []Event, limit int) []Event {
	slices.SortFunc(events, func(a, b Event) int { return bytes.Compare(b.ID[:], a.ID[:]) })
	return events[:min(limit, len(events))]
}

// packPage is how many packs are opened at a time. Each may hold what is asked for,
// and none need to.
const packPage = 50

// readPacks opens packs from the newest on until those that are left can only hold
// older events than it has.
func (l *Log) readPacks(ctx context.Context, t tenant.ID, s *selection) ([]Event, error) {
	sql, page := sqlPacks, min(s.limit, packPage)
	// A pack is of one moment, so one that begins below the bound ends in the
	// moment of the bound at the latest.
	args := []any{t.String(), s.from, endOfMoment(s.below), s.below, s.apps, page}
	if s.user != "" {
		sql, args = sqlPacksUser, append(args, []string{s.user})
	}
	var found []Event
	for {
		rows, err := l.db.Query(ctx, sql, args...)
		if err != nil {
			return nil, err
		}
		var (
			id   pgtype.UUID
			text []byte
			n    int
		)
		_, err = pgx.ForEachRow(rows, []any{&id, &text}, func() error {
			events, err := unpack(t, text)
			for i := range events {
				if s.has(&events[i]) {
					found = append(found, events[i])
				}
			}
			n++
			return err
		})
		if err != nil {
			return nil, err
		}
		found = newest(found, s.limit)
		// What is not read yet ends before the last pack that was read.
		if n < page || len(found) == s.limit && bytes.Compare(found[s.limit-1].ID[:], id.Bytes[:]) >= 0 {
			return found, nil
		}
		args[2] = uuid.UUID(id.Bytes)
	}
}

// endOfMoment is above all ids of the microsecond of id.
func endOfMoment(id uuid.UUID) uuid.UUID {
	binary.BigEndian.PutUint64(id[8:], math.MaxUint64)
	return id
}
