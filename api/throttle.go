package api

import (
	"errors"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/signet-hsm/signet/api/internal/rest"
)

// The paths that anybody may call: phones have no credentials that could be
// checked before work is done for them. Each dialect refuses in its own words.
const (
	refusedPhone   = `{"responseObject":{"code":"ERROR_TOO_MANY_REQUESTS","message":"Too many requests"},"status":"ERROR"}`
	refusedRenewal = `{"code":"429","subsystem":599,"message":"too many requests"}`

	renewals = "/certificates/renew" // by a client certificate, which anybody can make up until it is looked up
)

// ThrottleConfig bounds what one client may ask of the public endpoints. Rate is
// needed.
type ThrottleConfig struct {
	Rate    float64 // requests a second, on average
	Burst   int     // requests at once after a pause; 0: what Rate allows in 10 s
	Clients int     // that are remembered; 0: 100,000 (about 30 MB)
	// Proxies are trusted to tell whom they speak for (X-Forwarded-For). Without
	// them all clients behind a proxy are one.
	Proxies []netip.Prefix
	Now     func() time.Time
	Metrics prometheus.Registerer
}

// Throttle is a token bucket for each client: an IPv4 address, or the /64 of an
// IPv6 address, since that is what one customer of a network has to choose from.
// It knows of this process only. A client that is forgotten for others, of which
// there are too many, starts anew; memory has a bound, a flood from many networks
// has none here.
type Throttle struct {
	c       ThrottleConfig
	clients *otter.Cache[netip.Prefix, *rate.Limiter]
	refused prometheus.Counter
	after   string // seconds until one more request is allowed
}

// NewThrottle makes a Throttle.
func NewThrottle(c ThrottleConfig) (*Throttle, error) {
	if !(c.Rate > 0) || math.IsInf(c.Rate, 1) || c.Burst < 0 || c.Clients < 0 {
		return nil, errors.New("api: the rate must be positive, burst and clients not negative")
	}
	if c.Burst == 0 {
		c.Burst = max(1, int(min(c.Rate*10, 1e6)))
	}
	if c.Clients == 0 {
		c.Clients = 100_000
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	t := &Throttle{
		c: c, clients: otter.Must(&otter.Options[netip.Prefix, *rate.Limiter]{MaximumSize: c.Clients}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signet_api_throttled_total", Help: "Requests of devices refused because their address asked too often.",
		}),
		after: strconv.Itoa(int(math.Ceil(min(1/c.Rate, 3600)))),
	}
	if c.Metrics != nil {
		if err := c.Metrics.Register(t.refused); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Wrap puts the throttle before next. What is refused is 429 with Retry-After, in
// the envelope of the endpoint.
func (t *Throttle) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body := refusal(r.URL.Path); body != "" && !t.allow(rest.ClientAddress(r, t.c.Proxies)) {
			t.refused.Inc()
			w.Header().Set("Retry-After", t.after)
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "no-store")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = w.Write([]byte(body))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refusal is what is answered on a path when it was asked for too often; "" on
// those that are not bounded here.
func refusal(path string) string {
	switch {
	case strings.HasPrefix(path, "/pa/"), strings.HasPrefix(path, "/api/"):
		return refusedPhone
	case strings.HasSuffix(path, renewals):
		return refusedRenewal
	}
	return ""
}

// allow takes a token of the client. A connection without an address (a socket in
// the file system) is this host's own.
func (t *Throttle) allow(a netip.Addr) bool {
	if !a.IsValid() {
		return true
	}
	bits := 64
	if a.Is4() {
		bits = 32
	}
	client, _ := a.Prefix(bits) // it has as many
	l, ok := t.clients.GetIfPresent(client)
	if !ok {
		l, _ = t.clients.SetIfAbsent(client, rate.NewLimiter(rate.Limit(t.c.Rate), t.c.Burst))
	}
	return l.AllowN(t.c.Now(), 1)
}
