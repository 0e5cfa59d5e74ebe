package operation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// record is a row.
type record struct {
	tenant     tenant.ID
	id         uuid.UUID
	apps       []string
	user       string
	external   string
	flag       string
	template   string
	kind       string // the operation type
	language   string
	parameters map[string]string
	data       string
	texts      map[string]Text // placeholders filled
	types      []signature.Factor
	riskFlags  string
	seed       []byte // sealed; nil: no proximity check
	standing
	max        int64
	revision   int64
	createdAt  time.Time
	expiresAt  time.Time
	finishedAt *time.Time
}

// standing is what a change may change.
type standing struct {
	state      State
	reason     string
	additional map[string]string
	failures   int64
	attempt    marks // of the offline OTPs whose checks have no known outcome; nil: none
}

func (row *record) scan(s pgx.Row) error {
	var (
		owner                         string
		types                         []string
		parameters, texts, additional []byte
	)
	err := s.Scan(&owner, &row.id, &row.apps, &row.user, &row.external, &row.flag, &row.template, &row.kind, &row.language,
		&parameters, &row.data, &texts, &types, &row.riskFlags, &row.seed, &row.state, &row.reason, &additional,
		&row.failures, &row.max, &row.attempt, &row.revision, &row.createdAt, &row.expiresAt, &row.finishedAt)
	if err != nil {
		return err
	}
	if row.tenant.IsZero() { // the sweeper reads all tenants
		if row.tenant, err = tenant.Parse(owner); err != nil {
			return fmt.Errorf("%w: %w", errStored, err)
		}
	}
	if owner != row.tenant.String() {
		return fmt.Errorf("%w: row of another tenant", errStored)
	}
	if row.types, err = parseFactors(types); err != nil {
		return err
	}
	for _, column := range []struct {
		raw []byte
		out any
	}{{parameters, &row.parameters}, {texts, &row.texts}, {additional, &row.additional}} {
		if err := json.Unmarshal(column.raw, column.out); err != nil {
			return fmt.Errorf("%w: %w", errStored, err)
		}
	}
	return nil
}

// read returns the row as it stands; ErrNotFound.
func (l *Ledger) read(ctx context.Context, t tenant.ID, id uuid.UUID) (*record, error) {
	row := &record{tenant: t}
	err := row.scan(l.db.QueryRow(ctx, sqlByID, t.String(), id))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, ErrNotFound
	case err != nil:
		return nil, pg.Unavailable(err)
	}
	return row, nil
}

// many reads rows.
func (l *Ledger) many(ctx context.Context, t tenant.ID, sql string, args ...any) ([]*record, error) {
	rows, err := l.db.Query(ctx, sql, append([]any{t.String()}, args...)...)
	if err != nil {
		return nil, pg.Unavailable(err)
	}
	return collect(rows, t)
}

func collect(rows pgx.Rows, t tenant.ID) ([]*record, error) {
	list, err := pgx.CollectRows(rows, func(s pgx.CollectableRow) (*record, error) {
		row := &record{tenant: t}
		return row, row.scan(s)
	})
	return list, pg.Unavailable(err)
}

// current is the row after the lazy expiry: never PENDING past its time.
func (l *Ledger) current(ctx context.Context, t tenant.ID, id string) (*record, error) {
	key, ok := parseID(id)
	if !ok {
		return nil, ErrNotFound
	}
	for {
		row, err := l.read(ctx, t, key)
		if err != nil || !row.overdue(l.now()) {
			return row, err
		}
		if _, err := l.move(ctx, row, row.in(StateExpired), act{action: "expire", actor: "system", outcome: "expired"}); err != nil {
			return nil, fmt.Errorf("expire: %w", err)
		}
	}
}

func (row *record) overdue(now time.Time) bool {
	return row.state == StatePending && !now.Before(row.expiresAt)
}

// in is the row's standing in another state.
func (row *record) in(s State) standing {
	n := row.standing
	n.state = s
	return n
}

// act is who changes an operation and how, for the audit log.
type act struct {
	action, actor, outcome string
	app                    string // of the device; "" for the application tier
	detail                 map[string]any
}

func (row *record) event(at time.Time, a act) audit.Event {
	if a.app == "" {
		a.app = row.apps[0]
	}
	return audit.Event{
		Tenant: row.tenant, At: at, Action: "operation." + a.action, Actor: a.actor, Subject: row.id.String(),
		UserID: row.user, AppID: a.app, Outcome: a.outcome, Detail: a.detail,
	}
}

// move changes the row if nobody has since it was read: the new standing, the
// audit event and, for a final state, what the world is told, or none of them.
func (l *Ledger) move(ctx context.Context, row *record, n standing, a act) (won bool, err error) {
	now := l.clock()
	additional, err := json.Marshal(n.additional)
	if err != nil {
		return false, err
	}
	event, err := l.audit.Args(row.event(now, a))
	if err != nil {
		return false, err
	}
	var finished *time.Time
	if n.state != StatePending {
		finished = &now
	}
	args := append([]any{
		row.tenant.String(), row.id, row.revision, string(n.state), n.reason, additional, n.failures, n.attempt, finished,
	}, event...)
	err = pg.InTx(ctx, l.db, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sqlMove, args...)
		if err != nil {
			return err
		}
		if won = tag.RowsAffected() == 1; won && n.state != StatePending {
			return l.outbox.AddTx(ctx, tx, row.finished(n)...)
		}
		return nil
	})
	if err != nil {
		return false, pg.Unavailable(err)
	}
	switch {
	case !won:
		l.metrics.retries.Inc()
	case n.state != StatePending:
		l.metrics.moves.WithLabelValues(string(n.state)).Inc()
	}
	return won, nil
}

// result is what the finishing push says (PUSHX-03 to 07).
func (n standing) result() string {
	switch n.state {
	case StateApproved:
		return "authentication.success"
	case StateExpired:
		return "operation.timeout"
	case StateCanceled:
		if n.reason == ReasonMethodGone {
			return "operation.methodNotAvailable"
		}
		return "operation.canceled"
	default: // FAILED and REJECTED
		return "authentication.fail"
	}
}

func (row *record) finished(n standing) []outbox.Event {
	return row.tell(outbox.OperationFinished, map[string]any{"result": n.result(), "status": string(n.state)})
}

// tell makes one event for each application.
func (row *record) tell(kind outbox.Kind, data map[string]any) []outbox.Event {
	data["name"], data["template"] = row.kind, row.template // a push calls the type the name (PUSHX-09)
	for name, value := range map[string]string{"flag": row.flag, "externalId": row.external} {
		if value != "" {
			data[name] = value
		}
	}
	events := make([]outbox.Event, len(row.apps))
	for i, app := range row.apps {
		events[i] = outbox.Event{
			Tenant: row.tenant, Kind: kind, App: app, User: row.user, Operation: row.id.String(), Data: data,
		}
	}
	return events
}

// visible reports whether a caller with these applications may see the row.
func (row *record) visible(apps []string) bool {
	return slices.ContainsFunc(apps, func(app string) bool { return slices.Contains(row.apps, app) })
}

// text is the title and message in the language, or the operation's own, or
// English, or the first there is; without any, the operation type is the title.
func (row *record) text(language string) Text {
	for _, l := range []string{language, row.language, DefaultLanguage} {
		if text, ok := row.texts[l]; ok {
			return text
		}
	}
	first := ""
	for l := range row.texts {
		if first == "" || l < first {
			first = l
		}
	}
	if first == "" {
		return Text{Title: row.kind}
	}
	return row.texts[first]
}

func (row *record) view() Operation {
	op := Operation{
		ID: row.id.String(), Apps: row.apps, UserID: row.user, ExternalID: row.external, Flag: row.flag,
		Template: row.template, Type: row.kind, Language: row.language, Parameters: row.parameters, Data: row.data,
		Types: row.types, State: row.state, Reason: row.reason, Additional: row.additional,
		Failures: row.failures, MaxFailures: row.max, CreatedAt: row.createdAt.UTC(), ExpiresAt: row.expiresAt.UTC(),
	}
	if row.finishedAt != nil {
		op.FinishedAt = row.finishedAt.UTC()
	}
	return op
}

func seedField(t tenant.ID, id uuid.UUID) envelope.Field {
	return envelope.Field{Tenant: t, Table: "operation", Column: "proximity_seed", Row: id.String()}
}

// parseID reads a UUID in its usual form, in any case.
func parseID(s string) (uuid.UUID, bool) {
	if len(s) != 36 {
		return uuid.UUID{}, false
	}
	id, err := uuid.Parse(s)
	return id, err == nil
}
