package push_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/push"
)

func TestPUSHX12_Inbox(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	p := w.pusher()
	var ids []string
	for _, s := range []string{"one", "two", "three"} {
		m, err := p.PostInbox(ctx, pgtest.Alpha, push.Letter{App: "APP", UserID: "u", Subject: s, Summary: strings.Repeat("s", 300), Body: "b"})
		require.NoError(t, err)
		ids = append(ids, m.ID)
	}
	q := push.InboxQuery{App: "APP", UserID: "u", Limit: 2}
	list, err := p.Inbox(ctx, pgtest.Alpha, q)
	require.NoError(t, err)
	require.Equal(t, []string{"three", "two"}, []string{list[0].Subject, list[1].Subject})
	q.Before = list[1].ID
	list, err = p.Inbox(ctx, pgtest.Alpha, q)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, ids[0], list[0].ID)
	require.True(t, list[0].ReadAt.IsZero())

	unread := func(q push.InboxQuery) int {
		n, err := p.Unread(ctx, pgtest.Alpha, q)
		require.NoError(t, err)
		return n
	}
	require.Equal(t, 3, unread(q))
	require.Empty(t, list[0].Body, "a list is light")
	m, err := p.Message(ctx, pgtest.Alpha, q, ids[0])
	require.NoError(t, err)
	require.Equal(t, "b", m.Body)
	require.True(t, m.ReadAt.IsZero(), "who looks has not read")
	require.NoError(t, p.Read(ctx, pgtest.Alpha, q, ids[0]))
	require.Equal(t, 2, unread(q))
	open, err := p.Inbox(ctx, pgtest.Alpha, push.InboxQuery{App: "APP", UserID: "u", Unread: true, Skip: 1})
	require.NoError(t, err)
	require.Len(t, open, 1)
	require.Equal(t, ids[1], open[0].ID)
	w.skew.Store(int64(time.Hour))
	require.NoError(t, p.Read(ctx, pgtest.Alpha, q, ids[0]))
	list, err = p.Inbox(ctx, pgtest.Alpha, q)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), list[0].ReadAt, time.Minute, "the first time counts")

	for _, twin := range []push.InboxQuery{{App: "APP", UserID: "v"}, {App: "OTHER", UserID: "u"}} {
		list, err := p.Inbox(ctx, pgtest.Alpha, twin)
		require.NoError(t, err)
		require.Empty(t, list)
		require.ErrorIs(t, p.Read(ctx, pgtest.Alpha, twin, ids[1]), push.ErrInboxNotFound)
		_, err = p.Message(ctx, pgtest.Alpha, twin, ids[1])
		require.ErrorIs(t, err, push.ErrInboxNotFound)
		require.NoError(t, p.ReadAll(ctx, pgtest.Alpha, twin))
		require.Zero(t, unread(twin))
	}
	require.Equal(t, 2, unread(q), "nobody reads another's")
	list, err = p.Inbox(ctx, pgtest.Beta, push.InboxQuery{App: "APP", UserID: "u"})
	require.NoError(t, err)
	require.Empty(t, list)
	require.ErrorIs(t, p.Read(ctx, pgtest.Beta, q, ids[1]), push.ErrInboxNotFound)
	require.ErrorIs(t, p.Read(ctx, pgtest.Alpha, q, "x"), push.ErrInboxNotFound)
	for _, wrong := range []push.InboxQuery{{Before: "x"}, {Skip: -1}, {Skip: push.MaxSkip + 1}} {
		_, err = p.Inbox(ctx, pgtest.Alpha, wrong)
		require.ErrorIs(t, err, push.ErrRequest)
	}
	_, err = p.Message(ctx, pgtest.Alpha, q, "x")
	require.ErrorIs(t, err, push.ErrInboxNotFound)
	require.NoError(t, p.ReadAll(ctx, pgtest.Alpha, q))
	require.Zero(t, unread(q))

	_, err = p.PostInbox(ctx, pgtest.Alpha, push.Letter{App: "APP", Type: "pdf", Body: strings.Repeat("x", 65537)})
	require.ErrorIs(t, err, push.ErrRequest)
	require.Len(t, fault.Of(err).Violations, 5)
	_, err = p.PostInbox(ctx, pgtest.Alpha, push.Letter{App: "NONE", UserID: "u", Subject: "s", Summary: "s"})
	require.ErrorIs(t, err, app.ErrNotFound)
}
