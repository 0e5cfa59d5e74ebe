package egress

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/signet-hsm/signet/internal/secret"
)

// secretPrefix marks a symmetric secret of standard-webhooks.
const secretPrefix = "whsec_"

// ShowSecret writes a key as standard-webhooks libraries take it: "whsec_" and
// Base64.
func ShowSecret(key secret.Bytes) secret.Bytes {
	return secret.New(base64.StdEncoding.AppendEncode([]byte(secretPrefix), key.Reveal()))
}

// ParseSecret reads what ShowSecret writes: a key of 24 to 64 bytes.
func ParseSecret(text secret.Bytes) (secret.Bytes, error) {
	b64, ok := strings.CutPrefix(strings.TrimSpace(string(text.Reveal())), secretPrefix)
	key, err := base64.StdEncoding.DecodeString(b64)
	if !ok || err != nil || len(key) < 24 || len(key) > 64 {
		return secret.Bytes{}, errors.New(`egress: a secret must be "whsec_" and the Base64 of 24 to 64 bytes`)
	}
	return secret.New(key), nil
}

// Sign returns the value of webhook-signature as standard-webhooks has it: one
// "v1,<Base64>" for each key, over id.time.body, so that a receiver may still have
// the previous secret.
func Sign(keys []secret.Bytes, id string, at time.Time, body []byte) string {
	out := make([]string, len(keys))
	for i, key := range keys {
		mac := hmac.New(sha256.New, key.Reveal())
		mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
		mac.Write(body)
		out[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(out, " ")
}
