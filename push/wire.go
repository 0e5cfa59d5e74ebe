package push

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"github.com/signet-hsm/signet/internal/outbox"
)

// maxAnswer is what we read of a provider's answer.
const maxAnswer = 16 << 10

// answer is a provider's answer.
type answer struct {
	status int
	body   []byte
	after  time.Duration // Retry-After; 0 when there was none
}

// post sends body. An error is a broken connection, without the URL: Apple's has
// the device token in it.
func post(ctx context.Context, client *http.Client, to string, h http.Header, body []byte) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return answer{}, outbox.Permanent(errors.New("push: the provider's URL is not one"))
	}
	req.Header = h
	res, err := client.Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("push: %w", withoutURL(err))
	}
	defer func() { _ = res.Body.Close() }()
	a := answer{status: res.StatusCode, after: retryAfter(res.Header.Get("Retry-After"), time.Now())}
	if a.body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer)); err != nil {
		return answer{}, fmt.Errorf("push: read answer: %w", err)
	}
	return a, nil
}

func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// verdict says what follows from a refusal: overload and outages are tried
// again, when the provider says so or soon; what it found wrong stays wrong.
func (a answer) verdict(err error) error {
	switch {
	case a.after > 0 && (a.status == http.StatusTooManyRequests || a.status >= 500):
		return outbox.Later(a.after, err)
	case a.status == http.StatusTooManyRequests, a.status >= 500, a.status == http.StatusUnauthorized, a.status == http.StatusRequestTimeout:
		return err
	}
	return outbox.Permanent(err)
}

// maxRetryAfter bounds what a provider may ask for.
const maxRetryAfter = time.Hour

// retryAfter reads seconds or a date (RFC 9110 section 10.2.3).
func retryAfter(s string, now time.Time) time.Duration {
	s = strings.TrimSpace(s)
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return min(time.Duration(n)*time.Second, maxRetryAfter)
	}
	if t, err := http.ParseTime(s); err == nil && t.After(now) {
		return min(t.Sub(now), maxRetryAfter)
	}
	return 0
}

// deadError is errDead with the time since when, in milliseconds; 0 is unknown.
type deadError struct {
	since int64
	cause error
}

func (e deadError) Error() string   { return errDead.Error() + ": " + e.cause.Error() }
func (e deadError) Unwrap() []error { return []error{errDead, e.cause} }

// marshal does not escape <, > and &: a payload has no room to waste.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("push: payload: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// clip keeps a provider's word short enough for a log.
func clip(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) > 64 {
		s = s[:64]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// login keeps the OAuth 2.0 access token of one credential.
type login struct {
	fresh oauth2.TokenSource // without a cache

	mu       sync.Mutex // held while a token is fetched: one fetch serves all who wait
	current  *oauth2.Token
	failed   error // of the last fetch
	failedAt time.Time
}

// loginPause is how long a failed login stands for those who ask after it: all
// workers wait for one attempt, not for one each.
const loginPause = 2 * time.Second

func (l *login) token() (*oauth2.Token, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current.Valid() {
		return l.current, nil
	}
	if l.failed != nil && time.Since(l.failedAt) < loginPause {
		return nil, l.failed
	}
	t, err := l.fresh.Token()
	if err != nil {
		// The library's error repeats the answer, which may repeat what we sent.
		var refused *oauth2.RetrieveError
		if errors.As(err, &refused) && refused.Response != nil {
			err = fmt.Errorf("%d %s", refused.Response.StatusCode, clip(refused.ErrorCode))
		}
		l.failed, l.failedAt = fmt.Errorf("push: login: %w", withoutURL(err)), time.Now()
		return nil, l.failed
	}
	l.current, l.failed = t, nil
	return t, nil
}

// drop forgets a token that the provider refused.
func (l *login) drop(t *oauth2.Token) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current == t {
		l.current = nil
	}
}
