package push

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/signet-hsm/signet/internal/outbox"
)

// apns sends over Apple's HTTP/2 interface with a provider token.
type apns struct {
	client        *http.Client
	base, topic   string
	keyID, teamID string
	key           *ecdsa.PrivateKey
	now           func() time.Time

	mu       sync.Mutex // guards the two below
	bearer   string
	signedAt time.Time
}

// Apple refuses tokens older than an hour and more than one new one in twenty
// minutes.
const bearerLife = 40 * time.Minute

func (a *apns) send(ctx context.Context, token string, n Note) error {
	body, err := apnsPayload(n)
	if err != nil {
		return outbox.Permanent(err)
	}
	bearer, err := a.provider()
	if err != nil {
		return outbox.Permanent(err)
	}
	kind, priority := "alert", "10"
	if n.Silent {
		kind, priority = "background", "5" // Apple refuses 10 for background
	}
	h := http.Header{
		"Authorization":  {"bearer " + bearer},
		"Content-Type":   {"application/json"},
		"Apns-Id":        {n.ID.String()},
		"Apns-Topic":     {a.topic},
		"Apns-Push-Type": {kind},
		"Apns-Priority":  {priority},
	}
	if !n.Expires.IsZero() {
		h.Set("Apns-Expiration", strconv.FormatInt(n.Expires.Unix(), 10))
	}
	r, err := post(ctx, a.client, a.base+"/3/device/"+token, h, body)
	if err != nil || r.status == http.StatusOK {
		return err
	}
	var reason struct {
		Reason    string `json:"reason"`
		Timestamp int64  `json:"timestamp"` // milliseconds; since when the token is dead
	}
	_ = json.Unmarshal(r.body, &reason)
	err = fmt.Errorf("apns: %d %s", r.status, clip(reason.Reason))
	switch {
	case r.status == http.StatusGone:
		return deadError{since: reason.Timestamp, cause: err}
	case reason.Reason == "BadDeviceToken", reason.Reason == "DeviceTokenNotForTopic":
		return deadError{cause: err}
	case reason.Reason == "ExpiredProviderToken", reason.Reason == "InvalidProviderToken":
		a.drop(bearer)
		return err
	case r.status == http.StatusForbidden:
		return err // an operator may mend the credentials meanwhile
	}
	return r.verdict(err)
}

// apnsPayload: extras are keys beside "aps".
func apnsPayload(n Note) ([]byte, error) {
	aps := map[string]any{}
	if n.Silent {
		aps["content-available"] = 1
	} else {
		aps["alert"] = map[string]string{"title": n.Title, "body": n.Body}
		if n.Sound != "" {
			aps["sound"] = n.Sound
		}
	}
	if n.CollapseKey != "" {
		aps["thread-id"] = n.CollapseKey
	}
	payload := maps.Clone(n.Extras)
	if payload == nil {
		payload = map[string]any{}
	}
	payload["aps"] = aps
	return marshal(payload)
}

// provider returns the token of RFC 7515 that names us to Apple.
func (a *apns) provider() (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if age := now.Sub(a.signedAt); a.bearer != "" && age >= 0 && age < bearerLife {
		return a.bearer, nil
	}
	header, err := json.Marshal(map[string]string{"alg": "ES256", "kid": a.keyID})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{"iss": a.teamID, "iat": now.Unix()})
	if err != nil {
		return "", err
	}
	enc := base64.RawURLEncoding
	text := enc.EncodeToString(header) + "." + enc.EncodeToString(claims)
	digest := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, a.key, digest[:])
	if err != nil {
		return "", fmt.Errorf("apns: provider token: %w", err)
	}
	var sig [64]byte
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	a.bearer, a.signedAt = text+"."+enc.EncodeToString(sig[:]), now
	return a.bearer, nil
}

// drop forgets a provider token that Apple refused, unless it was renewed.
func (a *apns) drop(bearer string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.bearer == bearer {
		a.bearer = ""
	}
}

// apnsToken reports whether s can be a device token: hexadecimal, which also
// keeps it from changing the path it becomes part of.
func apnsToken(s string) bool {
	return len(s) >= 64 && len(s) <= 200 && len(s)%2 == 0 && strings.Trim(s, "0123456789abcdefABCDEF") == ""
}
