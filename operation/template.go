package operation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// Template is what operations of one kind have in common.
type Template struct {
	Name  string
	Type  string // e.g. "authorize_payment"; what a phone calls the operation's name
	Data  string // operation data with ${parameter} placeholders
	Types []signature.Factor
	// MaxFailures is how many failed approvals end an operation; 0: 5.
	MaxFailures int64
	Lifetime    time.Duration // whole seconds; 0: 5 minutes
	RiskFlags   string        // of the QR code: X flip buttons, F fraud warning, C not during a call
	// Proximity asks for a TOTP that only who sees the operation's screen has.
	Proximity bool
	Texts     map[string]Text // by language, two small letters
}

// Text is what a person reads in one language; both may have ${parameter}
// placeholders.
type Text struct {
	Title   string `json:"title"`
	Message string `json:"message"`
	// Labels replaces the English labels of the form, by the id of the attribute
	// ("operation.amount").
	Labels map[string]string `json:"labels,omitempty"`
}

// CreateTemplate stores a new template (PA-X-06) and returns it with its
// defaults. Errors: ErrInvalid, ErrTemplateExists.
func (l *Ledger) CreateTemplate(ctx context.Context, t tenant.ID, tpl Template, actor string) (Template, error) {
	tpl = tpl.withDefaults()
	if err := tpl.validate(); err != nil {
		return Template{}, fmt.Errorf("operation: create template: %w", err)
	}
	err := l.storeTemplate(ctx, t, sqlTemplateInsert, tpl, "template.create", actor)
	switch {
	case pg.IsUnique(err, "operation_template_pkey"):
		return Template{}, fmt.Errorf("operation: create template: %w", ErrTemplateExists)
	case err != nil:
		return Template{}, fmt.Errorf("operation: create template: %w", pg.Unavailable(err))
	}
	return tpl, nil
}

// UpdateTemplate replaces a template (PA-X-08); the name can not change.
// Operations that were made from it stay as they are. Errors: ErrInvalid,
// ErrTemplateNotFound.
func (l *Ledger) UpdateTemplate(ctx context.Context, t tenant.ID, tpl Template, actor string) error {
	tpl = tpl.withDefaults()
	if err := tpl.validate(); err != nil {
		return fmt.Errorf("operation: update template: %w", err)
	}
	if err := l.storeTemplate(ctx, t, sqlTemplateUpdate, tpl, "template.update", actor); err != nil {
		return fmt.Errorf("operation: update template: %w", pg.Unavailable(err))
	}
	return nil
}

func (l *Ledger) storeTemplate(ctx context.Context, t tenant.ID, sql string, tpl Template, action, actor string) error {
	texts, err := json.Marshal(tpl.Texts)
	if err != nil {
		return fmt.Errorf("texts: %w", err)
	}
	now := l.clock()
	return l.changeTemplate(ctx, sql, []any{
		t.String(), tpl.Name, tpl.Type, tpl.Data, factorNames(tpl.Types), tpl.MaxFailures,
		int64(tpl.Lifetime / time.Second), tpl.RiskFlags, tpl.Proximity, texts, now,
	}, audit.Event{Tenant: t, At: now, Action: "operation." + action, Actor: actor, Subject: tpl.Name, Outcome: "ok"})
}

// DeleteTemplate removes a template (PA-X-09); operations that were made from it
// stay. Error: ErrTemplateNotFound.
func (l *Ledger) DeleteTemplate(ctx context.Context, t tenant.ID, name, actor string) error {
	if !text(name, MaxText) {
		return fmt.Errorf("operation: delete template: %w", ErrTemplateNotFound)
	}
	now := l.clock()
	err := l.changeTemplate(ctx, sqlTemplateDelete, []any{t.String(), name}, audit.Event{
		Tenant: t, At: now, Action: "operation.template.delete", Actor: actor, Subject: name, Outcome: "ok",
	})
	if err != nil {
		return fmt.Errorf("operation: delete template: %w", pg.Unavailable(err))
	}
	return nil
}

// changeTemplate runs a statement that ends with its event; no row changed is
// ErrTemplateNotFound.
func (l *Ledger) changeTemplate(ctx context.Context, sql string, args []any, e audit.Event) error {
	event, err := l.audit.Args(e)
	if err != nil {
		return err
	}
	tag, err := l.db.Exec(ctx, sql, append(args, event...)...)
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrTemplateNotFound
	}
	return err
}

// Templates lists the tenant's templates by name (PA-X-07).
func (l *Ledger) Templates(ctx context.Context, t tenant.ID) ([]Template, error) {
	rows, err := l.db.Query(ctx, sqlTemplates, t.String())
	if err != nil {
		return nil, fmt.Errorf("operation: templates: %w", pg.Unavailable(err))
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Template, error) { return scanTemplate(row) })
	if err != nil {
		return nil, fmt.Errorf("operation: templates: %w", pg.Unavailable(err))
	}
	return list, nil
}

// template reads one; ErrTemplateNotFound.
func (l *Ledger) template(ctx context.Context, t tenant.ID, name string) (Template, error) {
	tpl, err := scanTemplate(l.db.QueryRow(ctx, sqlTemplate, t.String(), name))
	if errors.Is(err, pgx.ErrNoRows) {
		return Template{}, ErrTemplateNotFound
	}
	return tpl, pg.Unavailable(err)
}

func scanTemplate(row pgx.Row) (Template, error) {
	var (
		t       Template
		types   []string
		seconds int64
		texts   []byte
	)
	err := row.Scan(&t.Name, &t.Type, &t.Data, &types, &t.MaxFailures, &seconds, &t.RiskFlags, &t.Proximity, &texts)
	if err != nil {
		return Template{}, err
	}
	t.Lifetime = time.Duration(seconds) * time.Second
	if t.Types, err = parseFactors(types); err != nil {
		return Template{}, err
	}
	if err := json.Unmarshal(texts, &t.Texts); err != nil {
		return Template{}, fmt.Errorf("%w: texts: %w", errStored, err)
	}
	return t, nil
}

func (t Template) withDefaults() Template {
	if t.MaxFailures == 0 {
		t.MaxFailures = DefaultMaxFailures
	}
	if t.Lifetime == 0 {
		t.Lifetime = DefaultLifetime
	}
	if t.Texts == nil {
		t.Texts = map[string]Text{}
	}
	t.Types = slices.Compact(slices.Sorted(slices.Values(t.Types)))
	return t
}

// factorNames are the upper-case names, as the contract and the tables have them.
func factorNames(types []signature.Factor) []string {
	out := make([]string, len(types))
	for i, f := range types {
		out[i] = strings.ToUpper(f.String())
	}
	return out
}

func parseFactors(names []string) ([]signature.Factor, error) {
	out := make([]signature.Factor, len(names))
	for i, name := range names {
		f, ok := signature.ParseFactors(name)
		if !ok {
			return nil, fmt.Errorf("%w: signature type %q", errStored, name)
		}
		out[i] = f
	}
	return out, nil
}
