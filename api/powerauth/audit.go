package powerauth

import (
	"context"
	"strconv"
	"time"

	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/api/powerauth/internal/spec"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/tenant"
)

// Audit is the part of *audit.Log that the dialect calls.
type Audit interface {
	Query(ctx context.Context, t tenant.ID, q audit.UserQuery) ([]audit.Item, error)
}

// getAuditLog is PA-AUD-01.
func (h *handlers) getAuditLog(ctx context.Context, r *rest.Request) (rest.Response, error) {
	var c rest.Check
	q := audit.UserQuery{Apps: r.Principal.Apps, From: instant(&c, r, "timestampFrom"), To: instant(&c, r, "timestampTo")}
	q.UserID, _ = c.Query(r, "userId")
	c.Length("userId", q.UserID, 1, 255)
	if err := c.Err(); err != nil {
		return rest.Response{}, err
	}
	list, err := h.audit.Query(ctx, r.Principal.Tenant, q)
	if err != nil {
		return rest.Response{}, err
	}
	items := make([]spec.AuditItem, len(list))
	for i, e := range list {
		items[i] = spec.AuditItem{ActivationId: e.ActivationID, EventType: e.EventType, EventData: e.EventData, Timestamp: e.Time.UnixMilli()}
	}
	return rest.OK(spec.AuditLog{Items: items}), nil
}

// instant reads Unix milliseconds; the zero time when they are not given.
func instant(c *rest.Check, r *rest.Request, name string) time.Time {
	s, given := c.Query(r, name)
	if !given {
		return time.Time{}
	}
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		c.Fail(name, nil, "must be Unix milliseconds")
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
