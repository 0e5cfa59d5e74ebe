package callback

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"github.com/signet-hsm/signet/internal/secret"
)

// secretPrefix marks a symmetric secret of standard-webhooks.
const secretPrefix = "whsec_"

// secretLen is within the 24..64 bytes that the scheme wants.
const secretLen = 32

// newSecret makes a signing key.
func newSecret() secret.Bytes {
	raw := make([]byte, secretLen)
	_, _ = rand.Read(raw) // never fails since Go 1.24
	return secret.New(raw)
}

// shown is a key as its receiver configures it.
func shown(key secret.Bytes) secret.Bytes {
	return secret.New(base64.StdEncoding.AppendEncode([]byte(secretPrefix), key.Reveal()))
}

// signature is the value of webhook-signature: one "v1,<Base64>" for each key,
// over id.time.body, so that a receiver may still have the previous secret.
func signature(keys []secret.Bytes, id string, at time.Time, body []byte) string {
	out := make([]string, len(keys))
	for i, key := range keys {
		mac := hmac.New(sha256.New, key.Reveal())
		mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
		mac.Write(body)
		out[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(out, " ")
}
