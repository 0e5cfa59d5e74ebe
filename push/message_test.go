package push_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/push"
)

func ptr(s string) *string { return &s }

func TestPAPUSH01_Send(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	p := w.pusher()
	w.credentials(p)
	id := w.device(p, "u", push.FCM, "one")
	w.device(p, "u", push.FCM, "two")
	hold := make(chan struct{})
	w.providers.answer = func(int, http.ResponseWriter, request) bool {
		<-hold
		return false
	}
	w.run(p)
	begun := time.Now()
	require.NoError(t, p.Send(ctx, pgtest.Alpha, push.Message{
		Apps: []string{"APP"}, UserID: "u", Registration: strings.ToUpper(id), Title: ptr("Hello"), Body: ptr("Text"),
		Extras: map[string]any{"key": "value", "n": 7, "none": nil, "nested": map[string]any{"a": true, "b": nil}}, Actor: "backend",
	}))
	require.Less(t, time.Since(begun), 3*time.Second, "asynchronous")
	close(hold)
	m := w.providers.wait(1)[0].body["message"].(map[string]any)
	require.Equal(t, "one", m["token"])
	require.Equal(t, map[string]any{"key": "value", "n": "7", "nested": `{"a":true,"b":null}`}, m["data"])
	require.Equal(t, map[string]any{"title": "Hello", "body": "Text"}, m["notification"])

	require.NoError(t, p.Send(ctx, pgtest.Alpha, push.Message{Apps: []string{"APP"}, UserID: "u", Silent: true}))
	for _, r := range w.providers.wait(3)[1:] {
		require.NotContains(t, r.body["message"], "notification")
	}
	require.NoError(t, p.Send(ctx, pgtest.Alpha, push.Message{Apps: []string{"APP"}, UserID: "nobody", Silent: true}))
	require.Equal(t, 3, w.count(`select count(*) from audit_event where action = 'push.send'`))
}

func TestPAPUSH01_Refusals(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	p := w.pusher()
	id := w.device(p, "u", push.FCM, "one")
	for name, c := range map[string]struct {
		change func(*push.Message)
		fields []string // of violations; none: ErrMessage with
		text   string
	}{
		"no user":      {func(m *push.Message) { m.UserID = "" }, []string{"userId"}, ""},
		"long user":    {func(m *push.Message) { m.UserID = strings.Repeat("ž", 256) }, []string{"userId"}, ""},
		"empty title":  {func(m *push.Message) { m.Title = ptr("") }, []string{"title"}, ""},
		"long title":   {func(m *push.Message) { m.Title = ptr(strings.Repeat("x", 256)) }, []string{"title"}, ""},
		"empty both":   {func(m *push.Message) { m.Title, m.Body = ptr(""), ptr("") }, []string{"title", "message"}, ""},
		"no UUID":      {func(m *push.Message) { m.Registration = "7" }, []string{"registrationId"}, ""},
		"their keys":   {func(m *push.Message) { m.Extras = map[string]any{"google.x": 1, "aps": 1} }, []string{"extras.aps", "extras.google.x"}, ""},
		"no title":     {func(m *push.Message) { m.Title = nil }, nil, "Unable to send push message. Title must not be blank."},
		"blank title":  {func(m *push.Message) { m.Title = ptr(" ") }, nil, "Unable to send push message. Title must not be blank."},
		"no message":   {func(m *push.Message) { m.Body = nil }, nil, "Unable to send push message. Message must not be blank."},
		"too large":    {func(m *push.Message) { m.Extras = map[string]any{"k": strings.Repeat("x", 4000)} }, nil, "4000 bytes"},
		"another user": {func(m *push.Message) { m.UserID, m.Registration = "v", id }, nil, "no such active registration"},
		"another app":  {func(m *push.Message) { m.Apps, m.Registration = []string{"OTHER"}, id }, nil, "no such active registration"},
	} {
		m := push.Message{Apps: []string{"APP"}, UserID: "u", Title: ptr("Hello"), Body: ptr("Text")}
		c.change(&m)
		err := p.Send(ctx, pgtest.Alpha, m)
		if c.fields == nil {
			require.ErrorIs(t, err, push.ErrMessage, name)
			require.Contains(t, fault.Of(err).Message, c.text, name)
			continue
		}
		require.ErrorIs(t, err, push.ErrRequest, name)
		var fields []string
		for _, v := range fault.Of(err).Violations {
			fields = append(fields, v.Field)
			require.NotEmpty(t, v.Hint)
		}
		require.Equal(t, c.fields, fields, name)
	}
	require.Zero(t, w.count(`select count(*) from river_job`), "nothing is written for what is refused")
	require.Zero(t, w.count(`select count(*) from audit_event where action = 'push.send'`))

	over, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, p.Send(over, pgtest.Alpha, push.Message{Apps: []string{"APP"}, UserID: "u", Silent: true}), fault.ErrUnavailable)
}
