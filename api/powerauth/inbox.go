package powerauth

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/api/powerauth/internal/spec"
	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/push"
)

// maxLetter leaves room for a body of 65,536 characters, escaped.
const maxLetter = 512 << 10

// postInbox is PA-X-10.
func (h *handlers) postInbox(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := rest.Decode[spec.InboxLetter](r)
	if err != nil {
		return rest.Response{}, err
	}
	var c rest.Check
	if body.Type != nil {
		rest.OneOf(&c, "type", *body.Type, "text", "html")
	}
	id := application(&c, r, body.AppId)
	if err := c.Err(); err != nil {
		return rest.Response{}, err
	}
	if !slices.Contains(r.Principal.Apps, id) {
		return rest.Response{}, app.ErrNotFound
	}
	m, err := h.push.PostInbox(ctx, r.Principal.Tenant, push.Letter{
		App: id, UserID: body.UserId, Subject: body.Subject, Summary: body.Summary, Body: value(body.Body, ""),
		Type: string(value(body.Type, "")), Silent: value(body.Silent, false), Actor: r.Principal.Name,
	})
	if err != nil {
		return rest.Response{}, err
	}
	return rest.OK(spec.InboxMessage{
		Id: m.ID, UserId: m.UserID, AppId: m.App, Subject: m.Subject, Summary: m.Summary, Body: m.Body,
		Type: spec.InboxMessageType(m.Type), Read: !m.ReadAt.IsZero(), TimestampCreated: m.CreatedAt.UnixMilli(),
	}), nil
}

// listInbox is PA-X-11.
func (h *handlers) listInbox(ctx context.Context, r *rest.Request) (rest.Response, error) {
	var c rest.Check
	q := push.InboxQuery{Limit: c.QueryInt(r, "limit", 100, 1, push.MaxPage)}
	q.UserID, _ = c.Query(r, "userId")
	c.Length("userId", q.UserID, 1, 255)
	if before, given := c.Query(r, "before"); given {
		if _, err := uuid.Parse(before); err != nil || len(before) != 36 {
			c.Fail("before", nil, "must be the id of a message")
		}
		q.Before = before
	}
	if s, given := c.Query(r, "onlyUnread"); given {
		rest.OneOf(&c, "onlyUnread", s, "true", "false")
		q.Unread = s == "true"
	}
	var asked *string
	if s, given := c.Query(r, "appId"); given {
		asked = &s
	}
	q.App = application(&c, r, asked)
	if err := c.Err(); err != nil {
		return rest.Response{}, err
	}
	if !slices.Contains(r.Principal.Apps, q.App) {
		return rest.Response{}, app.ErrNotFound
	}
	list, err := h.push.Inbox(ctx, r.Principal.Tenant, q)
	if err != nil {
		return rest.Response{}, err
	}
	out := make([]spec.InboxItem, len(list))
	for i, m := range list {
		out[i] = spec.InboxItem{
			Id: m.ID, Subject: m.Subject, Summary: m.Summary, Type: spec.InboxItemType(m.Type),
			Read: !m.ReadAt.IsZero(), TimestampCreated: m.CreatedAt.UnixMilli(),
		}
		if out[i].Read {
			at := m.ReadAt.UnixMilli()
			out[i].TimestampRead = &at
		}
	}
	return rest.OK(spec.InboxMessageList{Messages: out}), nil
}

// application is the one that the caller names, or the only one that it has.
func application(c *rest.Check, r *rest.Request, named *string) string {
	switch {
	case named != nil:
		c.Length("appId", *named, 1, app.MaxText)
		return *named
	case len(r.Principal.Apps) == 1:
		return r.Principal.Apps[0]
	}
	c.Fail("appId", nil, "must be present: the credentials do not have just one application")
	return ""
}
