package grpc

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc"

	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/ca"
)

// ordersAtOnce of one stream: each takes the HSM for a while.
const ordersAtOnce = 8

// IssueCertificates leaves out of the domain's batch what could not be told it. An
// order that the time was not enough for is UNAVAILABLE, and the others are still
// answered.
func (s certificates) IssueCertificates(ctx context.Context, req *signetv1.IssueCertificatesRequest) (*signetv1.IssueCertificatesResponse, error) {
	orders := req.GetOrders()
	results := make([]*signetv1.OrderResult, len(orders))
	var batch []ca.IssueRequest
	var places []int
	for i, o := range orders {
		r, err := issueRequest(ctx, o)
		if err != nil {
			results[i] = s.result(ctx, nil, err)
			continue
		}
		batch, places = append(batch, r), append(places, i)
	}
	if len(batch) > 0 || len(orders) == 0 {
		part, cancel := portion(ctx)
		defer cancel()
		issued, err := s.authority.IssueBatch(part, principal(ctx).Tenant, batch)
		if err != nil {
			return nil, err
		}
		for i := range issued {
			results[places[i]] = s.result(ctx, issuedCertificate(issued[i].Certificate), issued[i].Err)
		}
	}
	for i, r := range results {
		for _, v := range r.GetError().GetViolations() {
			if inner, ok := strings.CutPrefix(v.GetField(), "order"); ok {
				v.Field = fmt.Sprintf("orders[%d]%s", i, inner)
			}
		}
	}
	return &signetv1.IssueCertificatesResponse{Results: results}, nil
}

// IssueStream issues orders as they come.
func (s certificates) IssueStream(stream grpc.BidiStreamingServer[signetv1.IssueStreamRequest, signetv1.IssueStreamResponse]) error {
	return converse(s.server, stream, conversation[signetv1.IssueStreamRequest, signetv1.IssueStreamResponse]{
		atOnce: ordersAtOnce,
		answer: func(ctx context.Context, r *signetv1.IssueStreamRequest) *signetv1.IssueStreamResponse {
			issued, err := s.safely(ctx, r)
			return &signetv1.IssueStreamResponse{Tag: r.GetTag(), Result: s.result(ctx, issued, err)}
		},
	})
}

func (s certificates) safely(ctx context.Context, req *signetv1.IssueStreamRequest) (_ *signetv1.IssuedCertificate, err error) {
	defer s.server.recovered(ctx, callOf(ctx), &err)
	if err := storable(req); err != nil {
		return nil, err
	}
	return s.issue(ctx, req.GetOrder())
}

// result is an order's outcome as a caller may see it.
func (s certificates) result(ctx context.Context, issued *signetv1.IssuedCertificate, err error) *signetv1.OrderResult {
	if err == nil {
		return &signetv1.OrderResult{Outcome: &signetv1.OrderResult_Issued{Issued: issued}}
	}
	e := s.server.itemError(ctx, "order", err)
	out := &signetv1.OrderError{Code: e.GetCode(), Reason: e.GetReason(), Message: e.GetMessage()}
	for _, v := range e.GetViolations() {
		out.Violations = append(out.Violations, &signetv1.OrderViolation{Field: v.GetField(), Description: v.GetDescription()})
	}
	return &signetv1.OrderResult{Outcome: &signetv1.OrderResult_Error{Error: out}}
}
