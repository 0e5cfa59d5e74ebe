package grpc

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/operation"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// Templates is the part of *operation.Ledger that TemplateService calls.
type Templates interface {
	CreateTemplate(ctx context.Context, t tenant.ID, tpl operation.Template, actor string) (operation.Template, error)
	Templates(ctx context.Context, t tenant.ID) ([]operation.Template, error)
	UpdateTemplate(ctx context.Context, t tenant.ID, tpl operation.Template, actor string) error
	DeleteTemplate(ctx context.Context, t tenant.ID, name, actor string) error
}

type templates struct {
	signetv1.UnimplementedTemplateServiceServer
	domain Templates
}

func (s templates) CreateTemplate(ctx context.Context, req *signetv1.CreateTemplateRequest) (*signetv1.CreateTemplateResponse, error) {
	tpl, err := template(req.GetTemplate())
	if err != nil {
		return nil, err
	}
	p := principal(ctx)
	if tpl, err = s.domain.CreateTemplate(ctx, p.Tenant, tpl, p.Name); err != nil {
		return nil, err
	}
	return &signetv1.CreateTemplateResponse{Template: templateOf(tpl)}, nil
}

func (s templates) ListTemplates(ctx context.Context, _ *signetv1.ListTemplatesRequest) (*signetv1.ListTemplatesResponse, error) {
	list, err := s.domain.Templates(ctx, principal(ctx).Tenant)
	if err != nil {
		return nil, err
	}
	resp := &signetv1.ListTemplatesResponse{}
	for _, tpl := range list {
		resp.Templates = append(resp.Templates, templateOf(tpl))
	}
	return resp, nil
}

func (s templates) UpdateTemplate(ctx context.Context, req *signetv1.UpdateTemplateRequest) (*signetv1.UpdateTemplateResponse, error) {
	tpl, err := template(req.GetTemplate())
	if err != nil {
		return nil, err
	}
	p := principal(ctx)
	return &signetv1.UpdateTemplateResponse{}, s.domain.UpdateTemplate(ctx, p.Tenant, tpl, p.Name)
}

func (s templates) DeleteTemplate(ctx context.Context, req *signetv1.DeleteTemplateRequest) (*signetv1.DeleteTemplateResponse, error) {
	p := principal(ctx)
	return &signetv1.DeleteTemplateResponse{}, s.domain.DeleteTemplate(ctx, p.Tenant, req.GetName(), p.Name)
}

// template reads one. Of what the domain takes for "not told" only what was not
// told passes.
func template(m *signetv1.OperationTemplate) (operation.Template, error) {
	if m == nil {
		return operation.Template{}, missing("template")
	}
	tpl := operation.Template{
		Name: m.GetName(), Type: m.GetOperationType(), Data: m.GetDataTemplate(), MaxFailures: m.GetMaxFailureCount(),
		RiskFlags: m.GetRiskFlags(), Proximity: m.GetProximityCheck(), Texts: map[string]operation.Text{},
	}
	var wrong []fault.Violation
	if m.MaxFailureCount != nil && m.GetMaxFailureCount() < 1 {
		wrong = append(wrong, fault.Violation{Field: "template.max_failure_count", Hint: "must be at least 1"})
	}
	if m.Expiration != nil {
		tpl.Lifetime = m.GetExpiration().AsDuration() // one that no Duration can hold is the longest one, and too long
		if m.GetExpiration().CheckValid() != nil || tpl.Lifetime == 0 {
			wrong = append(wrong, fault.Violation{Field: "template.expiration", Hint: fmt.Sprintf("must be 1 to %d whole seconds", operation.MaxLifetime/time.Second)})
		}
	}
	for i, t := range m.GetSignatureTypes() {
		f, ok := factors[t]
		if !ok {
			wrong = append(wrong, fault.Violation{Field: fmt.Sprintf("template.signature_types[%d]", i), Hint: "must be one of the six signature types"})
		}
		tpl.Types = append(tpl.Types, f)
	}
	for language, words := range m.GetTexts() {
		tpl.Texts[language] = operation.Text{Title: words.GetTitle(), Message: words.GetMessage(), Labels: words.GetLabels()}
	}
	if wrong != nil {
		return tpl, errRequest.With(wrong...)
	}
	return tpl, nil
}

var factors = map[signetv1.SignatureType]signature.Factor{}

func init() {
	for _, f := range []signature.Factor{
		signature.Possession, signature.Knowledge, signature.Biometry,
		signature.PossessionKnowledge, signature.PossessionBiometry, signature.PossessionKnowledgeBiometry,
	} {
		factors[signatureType(f)] = f
	}
}

func templateOf(t operation.Template) *signetv1.OperationTemplate {
	m := &signetv1.OperationTemplate{
		Name: t.Name, OperationType: t.Type, DataTemplate: t.Data, MaxFailureCount: &t.MaxFailures,
		Expiration: durationpb.New(t.Lifetime), RiskFlags: t.RiskFlags, ProximityCheck: t.Proximity,
		SignatureTypes: signatureTypes(t.Types), Texts: make(map[string]*signetv1.TemplateText, len(t.Texts)),
	}
	for language, words := range t.Texts {
		m.Texts[language] = &signetv1.TemplateText{Title: words.Title, Message: words.Message, Labels: words.Labels}
	}
	return m
}

func signatureTypes(list []signature.Factor) []signetv1.SignatureType {
	out := make([]signetv1.SignatureType, len(list))
	for i, f := range list {
		out[i] = signatureType(f)
	}
	return out
}
