package powerauth

import (
	"context"
	"fmt"

	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/push"
	"github.com/signet-hsm/signet/registration"
)

// maxMobilePage is how many messages a phone may ask for at a time.
const maxMobilePage = 500

// mobileMessage is an inbox message as the mobile token SDKs read it; a list has
// no bodies.
type mobileMessage struct {
	ID      string  `json:"id"`
	Subject string  `json:"subject"`
	Summary string  `json:"summary"`
	Body    *string `json:"body,omitzero"`
	Type    string  `json:"type"`
	Read    bool    `json:"read"`
	Created string  `json:"timestampCreated"`
}

func mobileMessageOf(m push.InboxMessage) mobileMessage {
	return mobileMessage{
		ID: m.ID, Subject: m.Subject, Summary: m.Summary, Type: m.Type, Read: !m.ReadAt.IsZero(), Created: m.CreatedAt.Format(mobileTime),
	}
}

// countInbox is POST /api/inbox/count: how much is unread.
func (h *handlers) countInbox(ctx context.Context, r *rest.Request) (rest.Response, error) {
	c, err := h.byToken(ctx, r)
	if err != nil {
		return rest.Response{}, err
	}
	n, err := h.push.Unread(ctx, c.Tenant, inboxOf(c))
	return answered(struct {
		Unread int `json:"countUnread"`
	}{n}), err
}

// listMobileInbox is POST /api/inbox/message/list, by pages from 0.
func (h *handlers) listMobileInbox(ctx context.Context, r *rest.Request) (rest.Response, error) {
	c, err := h.byToken(ctx, r)
	if err != nil {
		return rest.Response{}, err
	}
	body, err := rest.DecodeKnown[object[struct {
		Page   int  `json:"page"`
		Size   int  `json:"size"`
		Unread bool `json:"onlyUnread"`
	}]](r)
	if err != nil {
		return rest.Response{}, err
	}
	page, size := body.Object.Page, body.Object.Size
	var check rest.Check
	if size < 1 || size > maxMobilePage {
		check.Fail("size", nil, fmt.Sprintf("must be between 1 and %d", maxMobilePage))
	}
	if page < 0 || page > push.MaxSkip/max(1, size) {
		check.Fail("page", nil, fmt.Sprintf("must not lead beyond %d messages", push.MaxSkip))
	}
	if err := check.Err(); err != nil {
		return rest.Response{}, err
	}
	q := inboxOf(c)
	q.Skip, q.Limit, q.Unread = page*size, size, body.Object.Unread
	list, err := h.push.Inbox(ctx, c.Tenant, q)
	out := make([]mobileMessage, len(list))
	for i, m := range list {
		out[i] = mobileMessageOf(m)
	}
	return answered(out), err
}

// detailMobileInbox is POST /api/inbox/message/detail; it marks nothing as read.
func (h *handlers) detailMobileInbox(ctx context.Context, r *rest.Request) (rest.Response, error) {
	c, id, err := h.inboxMessage(ctx, r)
	if err != nil {
		return rest.Response{}, err
	}
	m, err := h.push.Message(ctx, c.Tenant, inboxOf(c), id)
	out := mobileMessageOf(m)
	out.Body = &m.Body
	return answered(out), err
}

// readMobileInbox is POST /api/inbox/message/read.
func (h *handlers) readMobileInbox(ctx context.Context, r *rest.Request) (rest.Response, error) {
	c, id, err := h.inboxMessage(ctx, r)
	if err != nil {
		return rest.Response{}, err
	}
	return done, h.push.Read(ctx, c.Tenant, inboxOf(c), id)
}

// readAllMobileInbox is POST /api/inbox/message/read-all.
func (h *handlers) readAllMobileInbox(ctx context.Context, r *rest.Request) (rest.Response, error) {
	c, err := h.byToken(ctx, r)
	if err != nil {
		return rest.Response{}, err
	}
	return done, h.push.ReadAll(ctx, c.Tenant, inboxOf(c))
}

// inboxMessage is who asks, and the message that is asked for.
func (h *handlers) inboxMessage(ctx context.Context, r *rest.Request) (registration.Caller, string, error) {
	c, err := h.byToken(ctx, r)
	if err != nil {
		return c, "", err
	}
	body, err := rest.DecodeKnown[object[struct {
		ID string `json:"id"`
	}]](r)
	return c, body.Object.ID, err
}

// inboxOf is the user's inbox in the phone's application: all their phones share it.
func inboxOf(c registration.Caller) push.InboxQuery {
	return push.InboxQuery{App: c.App, UserID: c.UserID}
}
