package operation

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/tenant"
)

// CreateParams is what a person shall decide.
type CreateParams struct {
	Apps       []string // the applications that the caller may use; empty means none
	UserID     string
	Template   string
	Language   string // two small letters; "": en
	ExternalID string
	Flag       string            // only registrations that have it may decide; "" any
	Parameters map[string]string // of the template
	Actor      string            // for the audit log
}

// Create makes an operation (PA-OP-01), PENDING. The devices that may decide it
// belong to the applications in which the user has an ACTIVE registration (with
// the flag) now. Errors: registration.ErrNotFound when there is none; ErrInvalid,
// also for an unknown template and for parameters that do not fit it.
func (l *Ledger) Create(ctx context.Context, t tenant.ID, p CreateParams) (Operation, error) {
	if p.Language == "" {
		p.Language = DefaultLanguage
	}
	op, err := l.create(ctx, t, p)
	if err != nil {
		return Operation{}, fmt.Errorf("operation: create: %w", err)
	}
	return op, nil
}

func (l *Ledger) create(ctx context.Context, t tenant.ID, p CreateParams) (Operation, error) {
	if err := p.validate(); err != nil {
		return Operation{}, err
	}
	tpl, err := l.template(ctx, t, p.Template)
	if errors.Is(err, ErrTemplateNotFound) {
		err = ErrInvalid.With(fault.Violation{Field: "template", Value: p.Template, Hint: "must be a registered template"})
	}
	if err != nil {
		return Operation{}, err
	}
	row := &record{
		tenant: t, user: p.UserID, external: p.ExternalID, flag: p.Flag, template: tpl.Name, kind: tpl.Type,
		language: p.Language, parameters: maps.Clone(p.Parameters), types: tpl.Types, riskFlags: tpl.RiskFlags,
		max: tpl.MaxFailures, revision: 1, standing: standing{state: StatePending, additional: map[string]string{}},
	}
	if row.parameters == nil {
		row.parameters = map[string]string{}
	}
	if err := row.fill(tpl); err != nil {
		return Operation{}, err
	}
	if row.apps, err = l.deciders(ctx, t, p); err != nil {
		return Operation{}, err
	}
	if row.id, err = uuid.NewRandom(); err != nil {
		return Operation{}, err
	}
	if tpl.Proximity {
		var seed [16]byte
		_, _ = rand.Read(seed[:]) // never fails since Go 1.24
		if row.seed, err = l.envelope.Seal(ctx, seedField(t, row.id), seed[:]); err != nil {
			return Operation{}, err
		}
	}
	row.createdAt = l.clock()
	row.expiresAt = row.createdAt.Add(tpl.Lifetime)
	if err := l.insert(ctx, row, p.Actor); err != nil {
		return Operation{}, err
	}
	l.metrics.moves.WithLabelValues(string(StatePending)).Inc()
	return row.view(), nil
}

// deciders are the applications in which the user can decide.
func (l *Ledger) deciders(ctx context.Context, t tenant.ID, p CreateParams) ([]string, error) {
	active, err := l.devices.Active(ctx, t, registration.ActiveQuery{Apps: p.Apps, UserID: p.UserID, Flag: p.Flag})
	if err != nil {
		return nil, err
	}
	if len(active) == 0 {
		return nil, registration.ErrNotFound
	}
	var apps []string
	for _, r := range active {
		apps = append(apps, r.App)
	}
	slices.Sort(apps)
	return slices.Compact(apps), nil
}

// fill puts the parameters into the data and the texts of all languages.
func (row *record) fill(tpl Template) error {
	f := filling{params: row.parameters, template: tpl.Name}
	row.data = f.data(tpl.Data)
	row.texts = make(map[string]Text, len(tpl.Texts))
	for language, words := range tpl.Texts {
		row.texts[language] = Text{
			Title:   f.words(words.Title, MaxTitle),
			Message: f.words(words.Message, MaxMessage),
			Labels:  words.Labels,
		}
	}
	return f.err()
}

// filling collects what is wrong while texts are filled.
type filling struct {
	params   map[string]string
	template string
	missing  []string
	wrong    []fault.Violation
	broken   error // a stored template that does not parse
}

func (f *filling) data(s string) string {
	p, err := parseDataPattern(s)
	if err != nil {
		f.broken = err
		return ""
	}
	data, missing := p.fill(f.params, escape)
	if f.missing = append(f.missing, missing...); len(missing) > 0 {
		return ""
	}
	if _, err := ParseData(data); err != nil {
		f.wrong = append(f.wrong, fault.Violation{Field: "parameters", Hint: err.Error()})
	}
	return data
}

func (f *filling) words(s string, max int) string {
	p, err := parsePattern(s)
	if err != nil {
		f.broken = err
		return ""
	}
	text, missing := p.fill(f.params, verbatim)
	f.missing = append(f.missing, missing...)
	if utf8.RuneCountInString(text) > max {
		f.wrong = append(f.wrong, fault.Violation{Field: "parameters", Hint: fmt.Sprintf("must leave a text of at most %d characters", max)})
	}
	return text
}

func (f *filling) err() error {
	if f.broken != nil {
		return fmt.Errorf("%w: template %q: %w", errStored, f.template, f.broken)
	}
	slices.Sort(f.missing)
	for _, name := range slices.Compact(f.missing) {
		f.wrong = append(f.wrong, fault.Violation{Field: "parameters." + name, Hint: "must be present: the template uses it"})
	}
	return refuse(f.wrong)
}

func (l *Ledger) insert(ctx context.Context, row *record, actor string) error {
	parameters, err := json.Marshal(row.parameters)
	if err != nil {
		return err
	}
	texts, err := json.Marshal(row.texts)
	if err != nil {
		return err
	}
	event, err := l.audit.Args(row.event(row.createdAt, act{
		action: "create", actor: actor, outcome: "ok", detail: map[string]any{"template": row.template, "dataHash": row.dataHash()},
	}))
	if err != nil {
		return err
	}
	args := append([]any{
		row.tenant.String(), row.id, row.apps, row.user, row.external, row.flag, row.template, row.kind, row.language,
		parameters, row.data, texts, factorNames(row.types), row.riskFlags, row.seed, row.max, row.createdAt, row.expiresAt,
	}, event...)
	words := row.text(row.language)
	told := row.tell(outbox.OperationCreated, map[string]any{
		"title": words.Title, "message": words.Message, "expires": row.expiresAt.Format(time.RFC3339),
		"status": string(row.state),
	})
	err = pg.InTx(ctx, l.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlInsert, args...); err != nil {
			return err
		}
		return l.outbox.AddTx(ctx, tx, told...)
	})
	return pg.Unavailable(err)
}
