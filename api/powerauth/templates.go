package powerauth

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/api/powerauth/internal/spec"
	"github.com/signet-hsm/signet/operation"
	"github.com/signet-hsm/signet/signature"
)

// templateBody has the proximity check beside what the contract has, under the
// name of the public server, and the labels of the form in each language.
type templateBody struct {
	spec.OperationTemplate
	Texts     map[string]templateText `json:"texts,omitempty"`
	Proximity bool                    `json:"proximityCheckEnabled,omitzero"`
}

type templateText struct {
	Title   string            `json:"title"`
	Message string            `json:"message"`
	Labels  map[string]string `json:"labels,omitempty"` // by the id of the attribute, "operation.amount"
}

// createTemplate is PA-X-06.
func (h *handlers) createTemplate(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := rest.Decode[templateBody](r)
	if err != nil {
		return rest.Response{}, err
	}
	tpl, err := body.template()
	if err != nil {
		return rest.Response{}, err
	}
	tpl, err = h.operations.CreateTemplate(ctx, r.Principal.Tenant, tpl, r.Principal.Name)
	return rest.OK(templateOf(tpl)), err
}

// listTemplates is PA-X-07.
func (h *handlers) listTemplates(ctx context.Context, r *rest.Request) (rest.Response, error) {
	list, err := h.operations.Templates(ctx, r.Principal.Tenant)
	out := make([]templateBody, len(list))
	for i, tpl := range list {
		out[i] = templateOf(tpl)
	}
	return rest.OK(out), err
}

// updateTemplate is PA-X-08.
func (h *handlers) updateTemplate(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := rest.Decode[templateBody](r)
	if err != nil {
		return rest.Response{}, err
	}
	var c rest.Check
	if body.TemplateName != r.Path("templateName") {
		c.Fail("templateName", body.TemplateName, "must be the name in the path")
	}
	if err := c.Err(); err != nil {
		return rest.Response{}, err
	}
	tpl, err := body.template()
	if err != nil {
		return rest.Response{}, err
	}
	return done, h.operations.UpdateTemplate(ctx, r.Principal.Tenant, tpl, r.Principal.Name)
}

// deleteTemplate is PA-X-09.
func (h *handlers) deleteTemplate(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return done, h.operations.DeleteTemplate(ctx, r.Principal.Tenant, r.Path("templateName"), r.Principal.Name)
}

// template maps the body. Of what the domain reads as "not told" only the right
// values pass.
func (b templateBody) template() (operation.Template, error) {
	tpl := operation.Template{
		Name: b.TemplateName, Type: b.OperationType, Data: b.DataTemplate, RiskFlags: value(b.RiskFlags, ""), Proximity: b.Proximity,
		MaxFailures: value(b.MaxFailureCount, 0), Lifetime: time.Duration(value(b.Expiration, 0)) * time.Second,
		Texts: map[string]operation.Text{},
	}
	var c rest.Check
	if b.MaxFailureCount != nil && *b.MaxFailureCount < 1 {
		c.Fail("maxFailureCount", *b.MaxFailureCount, "must be at least 1")
	}
	if most := int64(operation.MaxLifetime / time.Second); b.Expiration != nil && (*b.Expiration < 1 || *b.Expiration > most) {
		c.Fail("expiration", *b.Expiration, fmt.Sprintf("must be 1 to %d seconds", most))
	}
	for i, name := range b.SignatureType {
		f, ok := signature.ParseFactors(string(name))
		if !ok || !name.Valid() {
			c.Fail(fmt.Sprintf("signatureType[%d]", i), nil, "must be one of the six signature types")
		}
		tpl.Types = append(tpl.Types, f)
	}
	for language, words := range b.Texts {
		tpl.Texts[language] = operation.Text(words)
	}
	return tpl, c.Err()
}

func templateOf(t operation.Template) templateBody {
	seconds := int64(t.Lifetime / time.Second)
	b := templateBody{Proximity: t.Proximity}
	b.OperationTemplate = spec.OperationTemplate{
		TemplateName: t.Name, OperationType: t.Type, DataTemplate: t.Data, MaxFailureCount: &t.MaxFailures,
		Expiration: &seconds, RiskFlags: &t.RiskFlags,
	}
	for _, f := range t.Types {
		b.SignatureType = append(b.SignatureType, spec.SignatureType(strings.ToUpper(f.String())))
	}
	b.Texts = make(map[string]templateText, len(t.Texts))
	for language, w := range t.Texts {
		b.Texts[language] = templateText(w)
	}
	return b
}
