package powerauth_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/signature"
)

// A message from the application tier to the phone, and what the phone does with it.
func TestPAX10_PAX11_PUSHX12_Inbox(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	jane, joe := w.mobile("jane"), w.mobile("joe")
	type message struct {
		ID               string `json:"id"`
		Subject          string `json:"subject"`
		Body             string `json:"body"`
		Read             bool   `json:"read"`
		TimestampCreated int64  `json:"timestampCreated"`
	}
	var first, second message
	w.call("PA-X-10", w.shop, `{"userId":"jane","subject":"One","summary":"First","body":"<b>1</b>","type":"html","silent":true}`).into(t, &first)
	w.call("PA-X-10", w.shop, `{"userId":"jane","subject":"Two","summary":"Second","body":`+text(t, strings.Repeat("\u0001", 65536))+`}`).into(t, &second)
	require.NotZero(t, first.TimestampCreated)
	require.Equal(t, "ERROR_REQUEST body", w.call("PA-X-10", w.shop, `{"userId":"jane","subject":"S","summary":"S","body":"`+strings.Repeat("x", 65537)+`"}`).code(t))
	require.Equal(t, "ERROR_REQUEST appId", w.call("PA-X-10", w.shop, `{"userId":"jane","appId":"","subject":"S","summary":"S"}`).code(t))
	require.Equal(t, "ERROR_REQUEST type", w.call("PA-X-10", w.shop, `{"userId":"jane","subject":"S","summary":"S","type":""}`).code(t))
	require.Equal(t, "ERROR_REQUEST userId subject summary", w.call("PA-X-10", w.shop, `{}`).code(t))
	require.Equal(t, "ERROR_ADMIN", w.call("PA-X-10", w.shop, `{"userId":"jane","appId":"OTHER","subject":"S","summary":"S"}`).code(t))

	// The phone.
	ask := func(p phone, path, object string) answer {
		return p.ask("/api/inbox/"+path, `{"requestObject":`+object+`}`)
	}
	unread := func(p phone) string { return string(ask(p, "count", `{}`).body) }
	require.JSONEq(t, `{"status":"OK","responseObject":{"countUnread":2}}`, unread(jane))
	require.JSONEq(t, `{"status":"OK","responseObject":{"countUnread":0}}`, unread(joe))
	var list struct {
		Object []map[string]any `json:"responseObject"`
	}
	ask(jane, "message/list", `{"page":0,"size":1,"onlyUnread":false}`).into(t, &list)
	require.Len(t, list.Object, 1)
	require.Equal(t, "Two", list.Object[0]["subject"])
	require.NotContains(t, list.Object[0], "body")
	require.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+0000$`, list.Object[0]["timestampCreated"])
	ask(jane, "message/list", `{"page":1,"size":1}`).into(t, &list)
	require.Equal(t, map[string]any{
		"id": first.ID, "subject": "One", "summary": "First", "type": "html", "read": false, "timestampCreated": list.Object[0]["timestampCreated"],
	}, list.Object[0])
	ask(joe, "message/list", `{"page":0,"size":500}`).into(t, &list)
	require.Empty(t, list.Object)
	for _, wrong := range []string{`{}`, `{"size":501}`, `{"page":-1,"size":1}`, `{"page":21,"size":500}`, `{"page":9223372036854775807,"size":500}`, `{"page":"0","size":1}`} {
		require.Equal(t, "INVALID_REQUEST", ask(jane, "message/list", wrong).code(t), wrong)
	}

	id := `{"id":"` + first.ID + `"}`
	var detail struct {
		Object opened `json:"responseObject"`
	}
	ask(jane, "message/detail", id).into(t, &detail)
	require.Equal(t, opened{ID: first.ID, Body: "<b>1</b>"}, detail.Object)
	for _, path := range []string{"message/detail", "message/read"} {
		require.Equal(t, "INBOX_NOT_FOUND", ask(joe, path, id).code(t), "another's")
		require.Equal(t, "INBOX_NOT_FOUND", ask(jane, path, `{"id":"`+uuid.NewString()+`"}`).code(t))
		require.Equal(t, "INBOX_NOT_FOUND", ask(jane, path, `{}`).code(t))
	}
	require.JSONEq(t, `{"status":"OK"}`, string(ask(jane, "message/read", id).body))
	require.JSONEq(t, `{"status":"OK","responseObject":{"countUnread":1}}`, unread(jane))
	require.JSONEq(t, `{"status":"OK"}`, string(ask(joe, "message/read-all", `{}`).body))
	require.JSONEq(t, `{"status":"OK","responseObject":{"countUnread":1}}`, unread(jane))
	require.JSONEq(t, `{"status":"OK"}`, string(ask(jane, "message/read-all", `{}`).body))
	require.JSONEq(t, `{"status":"OK","responseObject":{"countUnread":0}}`, unread(jane))
	for _, path := range []string{"count", "message/list", "message/detail", "message/read", "message/read-all"} {
		a := w.post("/api/inbox/"+path, signature.TokenHeaderName, "PowerAuth x", `{}`)
		require.Equal(t, 401, a.status)
		require.Equal(t, "POWERAUTH_AUTH_FAIL", a.code(t))
	}

	// The application tier sees what was read.
	var page struct {
		Messages []message `json:"messages"`
	}
	w.call("PA-X-11", w.shop, "", "?userId=jane&limit=1").into(t, &page)
	require.Len(t, page.Messages, 1)
	require.True(t, page.Messages[0].Read)
	w.call("PA-X-11", w.shop, "", "?userId=jane&appId=APP&before="+second.ID).into(t, &page)
	require.Len(t, page.Messages, 1)
	require.Equal(t, first.ID, page.Messages[0].ID)
	w.call("PA-X-11", w.shop, "", "?userId=jane&onlyUnread=true").into(t, &page)
	require.Empty(t, page.Messages)
	for query, code := range map[string]string{
		"?appId=APP":                     "ERROR_REQUEST userId",
		"?userId=jane&limit=0":           "ERROR_REQUEST limit",
		"?userId=jane&before=x":          "ERROR_REQUEST before",
		"?userId=jane&onlyUnread=yes":    "ERROR_REQUEST onlyUnread",
		"?userId=jane&appId=OTHER":       "ERROR_ADMIN",
		"?userId=jane&appId=":            "ERROR_REQUEST appId",
		"?userId=jane&appId=A&appId=APP": "ERROR_REQUEST appId",
	} {
		require.Equal(t, code, w.call("PA-X-11", w.shop, "", query).code(t), query)
	}
}

type opened struct {
	ID   string `json:"id"`
	Body string `json:"body"`
	Read bool   `json:"read"`
}
