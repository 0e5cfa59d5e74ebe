package push

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/signet-hsm/signet/internal/outbox"
)

// hms sends over Huawei's Push Kit with client credentials.
type hms struct {
	client *http.Client
	url    string // of messages:send
	login  *login
	now    func() time.Time
}

// Push Kit answers 200 to almost everything; what counts is the code inside.
const (
	hmsOK           = "80000000"
	hmsSomeTokens   = "80100000" // with one token: it is bad
	hmsTokenInvalid = "80300007"
	hmsAuth         = "80200001"
	hmsAuthExpired  = "80200003"
	hmsSystem       = "81000001"
	hmsTooLarge     = "80300008"
	hmsBadRequest   = "80100003"
)

func (h *hms) send(ctx context.Context, token string, n Note) error {
	body, err := hmsPayload(token, n, h.now())
	if err != nil {
		return outbox.Permanent(err)
	}
	bearer, err := h.login.token()
	if err != nil {
		return err
	}
	r, err := post(ctx, h.client, h.url, bearerHeader(bearer), body)
	if err != nil {
		return err
	}
	var answer struct {
		Code string `json:"code"`
	}
	_ = json.Unmarshal(r.body, &answer)
	if r.status == http.StatusOK && answer.Code == hmsOK {
		return nil
	}
	err = fmt.Errorf("hms: %d %s", r.status, clip(answer.Code))
	switch answer.Code {
	case hmsTokenInvalid, hmsSomeTokens:
		return deadError{cause: err}
	case hmsAuth, hmsAuthExpired:
		h.login.drop(bearer)
		return err
	case hmsTooLarge, hmsBadRequest:
		return outbox.Permanent(err)
	case hmsSystem:
		return err
	}
	if r.status == http.StatusOK {
		return err // a code of which we know nothing: try again, then give up
	}
	return r.verdict(err)
}

func hmsPayload(token string, n Note, now time.Time) ([]byte, error) {
	extras, err := texts(n.Extras)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(extras) // a text that holds JSON, unlike FCM's map
	if err != nil {
		return nil, fmt.Errorf("push: extras: %w", err)
	}
	android := map[string]any{"urgency": "HIGH"}
	if ttl := timeToLive(n, now); ttl != "" {
		android["ttl"] = ttl
	}
	m := map[string]any{"token": []string{token}, "data": string(data), "android": android}
	if !n.Silent {
		m["notification"] = map[string]string{"title": n.Title, "body": n.Body}
		shown := map[string]any{"click_action": map[string]int{"type": 3}} // opens the app
		switch n.Sound {
		case "", "default":
			shown["default_sound"] = true
		default:
			shown["sound"] = n.Sound
		}
		android["notification"] = shown
	}
	return marshal(map[string]any{"validate_only": false, "message": m})
}
