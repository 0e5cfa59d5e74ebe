package grpc

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/push"
	"github.com/signet-hsm/signet/tenant"
)

// Push is the part of *push.Pusher that MessageService and ApplicationService
// call.
type Push interface {
	Send(ctx context.Context, t tenant.ID, m push.Message) error
	PostInbox(ctx context.Context, t tenant.ID, l push.Letter) (push.InboxMessage, error)
	Inbox(ctx context.Context, t tenant.ID, q push.InboxQuery) ([]push.InboxMessage, error)
	Message(ctx context.Context, t tenant.ID, q push.InboxQuery, id string) (push.InboxMessage, error)
	Read(ctx context.Context, t tenant.ID, q push.InboxQuery, id string) error
	SetAPNs(ctx context.Context, t tenant.ID, c push.APNsCredential) error
	SetFCM(ctx context.Context, t tenant.ID, c push.FCMCredential) error
	SetHMS(ctx context.Context, t tenant.ID, c push.HMSCredential) error
}

type messages struct {
	signetv1.UnimplementedMessageServiceServer
	domain Push
}

// inboxTypes: a number without a name is no type, which the domain refuses.
var inboxTypes = map[signetv1.InboxMessageType]string{
	signetv1.InboxMessageType_INBOX_MESSAGE_TYPE_UNSPECIFIED: "text",
	signetv1.InboxMessageType_INBOX_MESSAGE_TYPE_TEXT:        "text",
	signetv1.InboxMessageType_INBOX_MESSAGE_TYPE_HTML:        "html",
}

func (s messages) SendMessage(ctx context.Context, req *signetv1.SendMessageRequest) (*signetv1.SendMessageResponse, error) {
	p := principal(ctx)
	err := s.domain.Send(ctx, p.Tenant, push.Message{
		Apps: p.Apps, UserID: req.GetUserId(), Registration: req.GetRegistrationId(), Silent: req.GetSilent(),
		Title: req.Title, Body: req.Message, Sound: req.GetSound(), Extras: req.GetExtras().AsMap(), Actor: p.Name,
	})
	return &signetv1.SendMessageResponse{}, err
}

func (s messages) PostInboxMessage(ctx context.Context, req *signetv1.PostInboxMessageRequest) (*signetv1.PostInboxMessageResponse, error) {
	p := principal(ctx)
	if err := granted(p, req.GetApplication()); err != nil {
		return nil, err
	}
	kind, ok := inboxTypes[req.GetType()]
	if !ok {
		return nil, bad("type", "must be TEXT or HTML")
	}
	posted, err := s.domain.PostInbox(ctx, p.Tenant, push.Letter{
		App: req.GetApplication(), UserID: req.GetUserId(), Subject: req.GetSubject(), Summary: req.GetSummary(),
		Body: req.GetBody(), Type: kind, Silent: req.GetSilent(), Actor: p.Name,
	})
	if err != nil {
		return nil, err
	}
	return &signetv1.PostInboxMessageResponse{Message: inboxMessage(posted)}, nil
}

func (s messages) ListInboxMessages(ctx context.Context, req *signetv1.ListInboxMessagesRequest) (*signetv1.ListInboxMessagesResponse, error) {
	p := principal(ctx)
	q, err := inbox(p, req)
	if err != nil {
		return nil, err
	}
	size, err := pageSize(req.GetPageSize(), 20, 100)
	if err != nil {
		return nil, err
	}
	after, err := pageToken(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	if req.GetPageToken() != "" {
		q.Before = after.String()
	}
	q.Unread, q.Limit = req.GetUnreadOnly(), size+1 // one more tells whether there is a next page
	list, err := s.domain.Inbox(ctx, p.Tenant, q)
	if err != nil {
		return nil, err
	}
	resp := &signetv1.ListInboxMessagesResponse{}
	if len(list) > size {
		list = list[:size]
		resp.NextPageToken = list[size-1].ID
	}
	for _, m := range list {
		resp.Messages = append(resp.Messages, inboxMessage(m))
	}
	return resp, nil
}

func (s messages) GetInboxMessage(ctx context.Context, req *signetv1.GetInboxMessageRequest) (*signetv1.GetInboxMessageResponse, error) {
	p := principal(ctx)
	q, err := inbox(p, req)
	if err != nil {
		return nil, err
	}
	m, err := s.domain.Message(ctx, p.Tenant, q, req.GetInboxId())
	if err != nil {
		return nil, err
	}
	return &signetv1.GetInboxMessageResponse{Message: inboxMessage(m)}, nil
}

func (s messages) MarkInboxMessageRead(ctx context.Context, req *signetv1.MarkInboxMessageReadRequest) (*signetv1.MarkInboxMessageReadResponse, error) {
	p := principal(ctx)
	q, err := inbox(p, req)
	if err != nil {
		return nil, err
	}
	return &signetv1.MarkInboxMessageReadResponse{}, s.domain.Read(ctx, p.Tenant, q, req.GetInboxId())
}

// granted keeps a caller to its applications.
func granted(p access.Principal, id string) error {
	if !slices.Contains(p.Apps, id) {
		return fmt.Errorf("%w: no grant", app.ErrNotFound)
	}
	return nil
}

// inbox is whose messages a request is about.
func inbox(p access.Principal, req interface {
	GetApplication() string
	GetUserId() string
},
) (push.InboxQuery, error) {
	if err := granted(p, req.GetApplication()); err != nil {
		return push.InboxQuery{}, err
	}
	if !text(req.GetUserId()) {
		return push.InboxQuery{}, bad("user_id", "must have 1 to 255 characters")
	}
	return push.InboxQuery{App: req.GetApplication(), UserID: req.GetUserId()}, nil
}

func inboxMessage(m push.InboxMessage) *signetv1.InboxMessage {
	kind := signetv1.InboxMessageType_INBOX_MESSAGE_TYPE_TEXT
	if m.Type == "html" {
		kind = signetv1.InboxMessageType_INBOX_MESSAGE_TYPE_HTML
	}
	return &signetv1.InboxMessage{
		InboxId: m.ID, Application: m.App, UserId: m.UserID, Subject: m.Subject, Summary: m.Summary, Body: m.Body,
		Type: kind, CreatedAt: timestamppb.New(m.CreatedAt), ReadAt: instant(m.ReadAt),
	}
}

// instant is a time that may not have come yet.
func instant(at time.Time) *timestamppb.Timestamp {
	if at.IsZero() {
		return nil
	}
	return timestamppb.New(at)
}
