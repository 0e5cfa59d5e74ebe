package callback

import (
	"encoding/base64"
	"net/netip"
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
	got := signature([]secret.Bytes{secret.New(key)}, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	require.Equal(t, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", got)
	require.Equal(t, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", string(shown(secret.New(key)).Reveal()))
}

func TestPublicAddresses(t *testing.T) {
	t.Parallel()
	g := guard{allow: prefixes("10.1.0.0/16")}
	for address, want := range map[string]bool{
		"1.1.1.1:443": true, "93.184.216.34:443": true, "[2606:4700::1111]:443": true, "10.1.2.3:443": true, "[::ffff:1.1.1.1]:443": true,

		"127.0.0.1:443": false, "127.9.9.9:80": false, "[::1]:443": false, "[::]:443": false, "0.0.0.0:443": false,
		"10.0.0.1:443": false, "172.16.0.1:443": false, "172.31.255.255:443": false, "192.168.1.1:443": false,
		"100.64.0.1:443": false, "169.254.169.254:80": false, "198.18.0.1:443": false, "224.0.0.1:443": false,
		"255.255.255.255:443": false, "240.0.0.1:443": false, "192.0.2.1:443": false,
		"[fe80::1%eth0]:443": false, "[fc00::1]:443": false, "[fd12::1]:443": false, "[ff02::1]:443": false,
		"[::ffff:127.0.0.1]:443": false, "[::ffff:169.254.169.254]:443": false, "[::127.0.0.1]:443": false,
		"[64:ff9b::7f00:1]:443": false, "[2002:7f00:1::]:443": false, "[2001:0:1::1]:443": false, "[2001:db8::1]:443": false,
		"no address": false, "localhost:443": false, "": false,
	} {
		require.Equal(t, want, g.control(t.Context(), "tcp", address, nil) == nil, address)
	}
	require.False(t, public(netip.Addr{}))
}

func TestBreakerOpensHalfOpensAndCloses(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	b := newBreakers(Breaker{Failures: 2, Open: time.Second, MaxOpen: 3 * time.Second}, 2, func() time.Time { return now })
	try := func(well bool) {
		t.Helper()
		_, ok := b.enter("e")
		require.True(t, ok)
		b.leave("e", well)
	}
	refused := func(want time.Duration) {
		t.Helper()
		wait, ok := b.enter("e")
		require.False(t, ok)
		require.Equal(t, want, wait)
	}
	try(false)
	try(true)
	require.Empty(t, b.at, "one that is well takes no memory")
	try(false)
	try(false)
	for _, open := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second} {
		refused(open)
		now = now.Add(open)
		_, ok := b.enter("e")
		require.True(t, ok)
		refused(busy) // one probe at a time
		b.leave("e", false)
	}
	now = now.Add(3 * time.Second)
	try(true)
	require.Empty(t, b.at)

	// A straggler from before it opened does not open it for longer.
	for range 2 {
		_, ok := b.enter("e")
		require.True(t, ok)
	}
	refused(busy) // not more than half of the workers
	b.leave("e", false)
	b.leave("e", false)
	refused(time.Second)
	_, ok := b.enter("another")
	require.True(t, ok)
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"": 0, "5": 5 * time.Second, " 5 ": 5 * time.Second, "-5": 0, "x": 0, "99999999": maxRetryAfter, "99999999999999999999": 0,
		"Sun, 01 Mar 2026 12:00:30 GMT": 30 * time.Second, "Sun, 01 Mar 2026 11:00:00 GMT": 0, "Sun, 01 Mar 2027 12:00:00 GMT": maxRetryAfter,
	} {
		require.Equal(t, want, retryAfter(s, now), s)
	}
}
