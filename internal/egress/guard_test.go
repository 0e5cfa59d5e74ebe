package egress

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPublicAddresses(t *testing.T) {
	t.Parallel()
	g := Guard{Allow: prefixes("10.1.0.0/16")}
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
		require.Equal(t, want, g.Control(t.Context(), "tcp", address, nil) == nil, address)
	}
	require.False(t, public(netip.Addr{}))
}

func TestClientKeepsToThePromises(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-r.Context().Done()
		}
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	}))
	t.Cleanup(srv.Close)
	_, err := get(t, NewClient(Config{}), srv.URL)
	require.ErrorIs(t, err, ErrBlocked)
	c := NewClient(Config{Guard: Guard{Allow: prefixes("127.0.0.0/8")}, Timeout: 200 * time.Millisecond})
	status, err := get(t, c, srv.URL)
	require.NoError(t, err)
	require.Equal(t, http.StatusFound, status, "redirects are not followed")
	_, err = get(t, c, srv.URL+"/slow")
	require.Error(t, err)
}

func get(t *testing.T, c *http.Client, url string) (int, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}
