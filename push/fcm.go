package push

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/oauth2"

	"github.com/signet-hsm/signet/internal/outbox"
)

const fcmScope = "https://www.googleapis.com/auth/firebase.messaging"

// fcm sends over Firebase's HTTP v1 interface as a service account.
type fcm struct {
	client *http.Client
	url    string // of messages:send
	login  *login
	now    func() time.Time
}

func (f *fcm) send(ctx context.Context, token string, n Note) error {
	body, err := fcmPayload(token, n, f.now())
	if err != nil {
		return outbox.Permanent(err)
	}
	bearer, err := f.login.token()
	if err != nil {
		return err
	}
	r, err := post(ctx, f.client, f.url, bearerHeader(bearer), body)
	if err != nil || r.status == http.StatusOK {
		return err
	}
	var answer struct {
		Error struct {
			Status  string `json:"status"`
			Details []struct {
				ErrorCode string `json:"errorCode"`
			} `json:"details"`
		} `json:"error"`
	}
	_ = json.Unmarshal(r.body, &answer)
	code := answer.Error.Status
	for _, d := range answer.Error.Details {
		if d.ErrorCode != "" {
			code = d.ErrorCode
		}
	}
	err = fmt.Errorf("fcm: %d %s", r.status, clip(code))
	switch {
	case code == "UNREGISTERED", code == "SENDER_ID_MISMATCH":
		return deadError{cause: err}
	case r.status == http.StatusUnauthorized:
		f.login.drop(bearer)
		return err
	case r.status == http.StatusForbidden, r.status == http.StatusNotFound:
		return err // an operator may mend project or credentials meanwhile
	}
	return r.verdict(err)
}

func fcmPayload(token string, n Note, now time.Time) ([]byte, error) {
	data, err := texts(n.Extras)
	if err != nil {
		return nil, err
	}
	android := map[string]any{"priority": "HIGH"}
	if ttl := timeToLive(n, now); ttl != "" {
		android["ttl"] = ttl
	}
	if n.CollapseKey != "" {
		android["collapse_key"] = n.CollapseKey
	}
	m := map[string]any{"token": token, "data": data, "android": android}
	if !n.Silent {
		m["notification"] = map[string]string{"title": n.Title, "body": n.Body}
		if n.Sound != "" {
			android["notification"] = map[string]string{"sound": n.Sound}
		}
	}
	return marshal(map[string]any{"message": m})
}

// timeToLive is the rest of a push's life as Google and Huawei write it.
func timeToLive(n Note, now time.Time) string {
	if n.Expires.IsZero() {
		return ""
	}
	return fmt.Sprintf("%ds", max(0, int64(n.Expires.Sub(now)/time.Second)))
}

func bearerHeader(t *oauth2.Token) http.Header {
	return http.Header{"Authorization": {"Bearer " + t.AccessToken}, "Content-Type": {"application/json; charset=UTF-8"}}
}
