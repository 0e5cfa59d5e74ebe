package egress

import (
	"encoding/base64"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/secret"
)

// The example that the standard-webhooks libraries test themselves with.
func TestSignatureVector(t *testing.T) {
	t.Parallel()
	key, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	require.NoError(t, err)
	got := Sign([]secret.Bytes{secret.New(key)}, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	require.Equal(t, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", got)
	require.Equal(t, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", string(ShowSecret(secret.New(key)).Reveal()))
}

func TestParseSecret(t *testing.T) {
	t.Parallel()
	key := secret.New(make([]byte, 24))
	got, err := ParseSecret(ShowSecret(key))
	require.NoError(t, err)
	require.True(t, got.Equal(key.Reveal()))
	got, err = ParseSecret(secret.New(append(ShowSecret(key).Reveal(), '\n')))
	require.NoError(t, err, "as a file has it")
	require.True(t, got.Equal(key.Reveal()))
	for _, bad := range []string{"", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!", string(ShowSecret(secret.New(make([]byte, 65))).Reveal())} {
		_, err := ParseSecret(secret.New([]byte(bad)))
		require.Error(t, err, bad)
	}
}
