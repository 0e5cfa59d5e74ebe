package operation_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/operation"
	"github.com/signet-hsm/signet/signature"
)

func TestPAX06_CreateTemplate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := w.template(alpha, operation.Template{
		Name: "login", Type: "login", Data: "A2",
		Types: []signature.Factor{signature.PossessionKnowledge, signature.Possession, signature.PossessionKnowledge},
	})
	require.Equal(t, operation.Template{
		Name: "login", Type: "login", Data: "A2", Types: []signature.Factor{signature.Possession, signature.PossessionKnowledge},
		MaxFailures: 5, Lifetime: 5 * time.Minute, Texts: map[string]operation.Text{},
	}, got)
	_, err := w.ops.CreateTemplate(t.Context(), alpha, got, "admin")
	require.ErrorIs(t, err, operation.ErrTemplateExists)
	w.template(beta, got) // the twin's is another one
	require.Equal(t, map[string]int{"template.create/ok": 1}, w.outcomes(alpha, "login"))
}

func TestPAX06_TemplateViolations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for field, spoil := range map[string]func(*operation.Template){
		"templateName":    func(p *operation.Template) { p.Name = "" },
		"operationType":   func(p *operation.Template) { p.Type = strings.Repeat("x", 256) },
		"dataTemplate":    func(p *operation.Template) { p.Data = "${x}" },
		"signatureType":   func(p *operation.Template) { p.Types = nil },
		"maxFailureCount": func(p *operation.Template) { p.MaxFailures = -1 },
		"expiration":      func(p *operation.Template) { p.Lifetime = 1500 * time.Millisecond },
		"riskFlags":       func(p *operation.Template) { p.RiskFlags = "x" },
		"texts":           func(p *operation.Template) { p.Texts = map[string]operation.Text{"eng": {Title: "a", Message: "b"}} },
		"texts.en.title":  func(p *operation.Template) { p.Texts = map[string]operation.Text{"en": {Message: "b"}} },
		"texts.en.message": func(p *operation.Template) {
			p.Texts = map[string]operation.Text{"en": {Title: "a", Message: "${unclosed"}}
		},
	} {
		tpl := payment()
		spoil(&tpl)
		_, err := w.ops.CreateTemplate(t.Context(), alpha, tpl, "admin")
		require.ErrorIs(t, err, operation.ErrInvalid, field)
		require.Equal(t, field, fault.Of(err).Violations[0].Field)
	}
	list, err := w.ops.Templates(t.Context(), alpha)
	require.NoError(t, err)
	require.Empty(t, list)
}

func TestPAX07_ListTemplates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.template(alpha, payment())
	login := w.template(alpha, operation.Template{
		Name: "login", Type: "login", Data: "A2", Types: []signature.Factor{signature.Possession}, Proximity: true,
	})
	w.template(beta, payment())
	list, err := w.ops.Templates(t.Context(), alpha)
	require.NoError(t, err)
	require.Equal(t, []operation.Template{login, p}, list)
}

func TestPAX08_UpdateTemplateLeavesOperationsAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tpl := w.template(alpha, payment())
	w.template(beta, payment())
	w.active(alpha, "APP", "petr")
	before := w.create(alpha, "petr")

	tpl.Data, tpl.MaxFailures, tpl.Texts = "A2", 9, nil
	require.NoError(t, w.ops.UpdateTemplate(t.Context(), alpha, tpl, "admin"))
	require.Equal(t, before, w.get(alpha, before.ID))
	after := w.create(alpha, "petr")
	require.Equal(t, "A2", after.Data)
	require.EqualValues(t, 9, after.MaxFailures)
	list, err := w.ops.Templates(t.Context(), beta)
	require.NoError(t, err)
	require.Equal(t, payment().Data, list[0].Data)

	tpl.Name = "other"
	require.ErrorIs(t, w.ops.UpdateTemplate(t.Context(), alpha, tpl, "admin"), operation.ErrTemplateNotFound)
	tpl.Data = ""
	require.ErrorIs(t, w.ops.UpdateTemplate(t.Context(), alpha, tpl, "admin"), operation.ErrInvalid)
}

func TestPAX09_DeleteTemplateLeavesOperationsAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template(alpha, payment())
	w.template(beta, payment())
	p := w.active(alpha, "APP", "petr")
	op := w.create(alpha, "petr")
	require.NoError(t, w.ops.DeleteTemplate(t.Context(), alpha, "payment", "admin"))
	require.ErrorIs(t, w.ops.DeleteTemplate(t.Context(), alpha, "payment", "admin"), operation.ErrTemplateNotFound)
	_, err := w.ops.Create(t.Context(), alpha, createParams("petr"))
	require.ErrorIs(t, err, operation.ErrInvalid)
	require.NoError(t, p.approve(t.Context(), w.ops, op))
	list, err := w.ops.Templates(t.Context(), beta)
	require.NoError(t, err)
	require.Len(t, list, 1)
}
