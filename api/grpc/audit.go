package grpc

import (
	"context"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/tenant"
)

// Audit is the part of *audit.Log that AuditService and RegistrationService call.
type Audit interface {
	Query(ctx context.Context, t tenant.ID, q audit.UserQuery) ([]audit.Item, error)
	History(ctx context.Context, t tenant.ID, q audit.HistoryQuery) ([]audit.Item, uuid.UUID, error)
}

type auditLog struct {
	signetv1.UnimplementedAuditServiceServer
	domain Audit
}

func (s auditLog) QueryEvents(ctx context.Context, req *signetv1.QueryEventsRequest) (*signetv1.QueryEventsResponse, error) {
	p := principal(ctx)
	q := audit.UserQuery{UserID: req.GetUserId(), Apps: p.Apps}
	var wrong []fault.Violation
	if !text(q.UserID) {
		wrong = append(wrong, fault.Violation{Field: "user_id", Hint: "must have 1 to 255 characters"})
	}
	for _, bound := range []struct {
		name string
		told *timestamppb.Timestamp
		at   *time.Time
	}{{"from", req.GetFrom(), &q.From}, {"to", req.GetTo(), &q.To}} {
		if bound.told == nil {
			continue
		}
		if bound.told.CheckValid() != nil {
			wrong = append(wrong, fault.Violation{Field: bound.name, Hint: "must be a time of the years 1 to 9999"})
		}
		*bound.at = bound.told.AsTime()
	}
	if wrong != nil {
		return nil, errRequest.With(wrong...)
	}
	list, err := s.domain.Query(ctx, p.Tenant, q)
	if err != nil {
		return nil, err
	}
	return &signetv1.QueryEventsResponse{Events: events(list)}, nil
}

func events(list []audit.Item) []*signetv1.AuditEvent {
	out := make([]*signetv1.AuditEvent, len(list))
	for i, e := range list {
		out[i] = &signetv1.AuditEvent{RegistrationId: e.ActivationID, EventType: e.EventType, EventData: e.EventData, At: timestamppb.New(e.Time)}
	}
	return out
}
