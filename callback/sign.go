package callback

import (
	"crypto/rand"

	"github.com/signet-hsm/signet/internal/secret"
)

// secretLen is within the 24..64 bytes that standard-webhooks wants.
const secretLen = 32

// newSecret makes a signing key.
func newSecret() secret.Bytes {
	raw := make([]byte, secretLen)
	_, _ = rand.Read(raw) // never fails since Go 1.24
	return secret.New(raw)
}
