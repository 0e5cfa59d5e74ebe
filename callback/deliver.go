package callback

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/internal/egress"
	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/tenant"
)

// Consumer is what a Runner of internal/outbox is given: targets are endpoint
// ids. Twenty attempts with pauses from two seconds to four hours are a day and
// a half; with what the breaker and Retry-After postpone it ends after three.
func (c *Callbacks) Consumer() outbox.Consumer {
	return outbox.Consumer{
		Name:    "callback",
		Kinds:   []outbox.Kind{outbox.RegistrationChanged, outbox.OperationCreated, outbox.OperationFinished},
		Targets: c.targets, Deliver: c.deliver, Dead: c.dead,
		Workers: c.c.Workers, Attempts: 20, MaxAge: 72 * time.Hour, Timeout: c.c.Timeout + 5*time.Second,
		MinPause: 2 * time.Second, MaxPause: 4 * time.Hour,
	}
}

func (c *Callbacks) targets(ctx context.Context, e outbox.Event) ([]string, error) {
	rows, _ := c.c.DB.Query(ctx, sqlTargets, e.Tenant.String(), e.App, string(typeOf(e.Kind)))
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, pg.Unavailable(fmt.Errorf("callback: targets: %w", err))
	}
	return ids, nil
}

func (c *Callbacks) deliver(ctx context.Context, d outbox.Delivery) error {
	body, err := payload(d.Event)
	if err != nil {
		return outbox.Permanent(err)
	}
	key := d.Event.Tenant.String() + "/" + d.Target
	if wait, ok := c.breaker.enter(key); !ok {
		return outbox.Later(wait, errors.New("callback: the endpoint is left alone"))
	}
	well := true // what fails before the endpoint is asked says nothing about it
	defer func() { c.breaker.leave(key, well) }()
	to, keys, err := c.read(ctx, d.Event.Tenant, d.Target)
	if err != nil || to == "" { // removed meanwhile
		return err
	}
	defer func() {
		for _, k := range keys {
			k.Wipe()
		}
	}()
	err = c.call(ctx, to, d.Event.ID.String(), keys, body)
	well = err == nil
	return err
}

// read returns the URL and the signing keys of an endpoint; "" for one that is gone.
func (c *Callbacks) read(ctx context.Context, t tenant.ID, id string) (to string, keys []secret.Bytes, err error) {
	if _, err := uuid.Parse(id); err != nil {
		return "", nil, outbox.Permanent(errors.New("callback: the target is no endpoint"))
	}
	var sealed, previous []byte
	err = c.c.DB.QueryRow(ctx, sqlEndpoint, t.String(), id, c.now()).Scan(&to, &sealed, &previous)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return "", nil, nil
	case err != nil:
		return "", nil, pg.Unavailable(fmt.Errorf("callback: endpoint: %w", err))
	}
	for _, blob := range [][]byte{sealed, previous} {
		if blob == nil {
			continue
		}
		key, err := c.c.Envelope.Open(ctx, secretField(t, id), blob)
		if err != nil {
			return "", nil, fmt.Errorf("callback: secret: %w", err)
		}
		keys = append(keys, key)
	}
	return to, keys, nil
}

// maxAnswer is what is read of an answer, to use its connection again; it is not
// looked at.
const maxAnswer = 64 << 10

func (c *Callbacks) call(ctx context.Context, to, id string, keys []secret.Bytes, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return outbox.Permanent(errors.New("callback: the URL is not one"))
	}
	at := c.c.Now()
	req.Header = egress.Header(keys, id, at, body)
	req.Header.Set("Idempotency-Key", id)
	res, err := c.client.Do(req)
	if err != nil {
		err = fmt.Errorf("callback: %w", egress.Cause(err))
		if errors.Is(err, egress.ErrBlocked) {
			return outbox.Permanent(err)
		}
		return err
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.CopyN(io.Discard, res.Body, maxAnswer)
	switch {
	case res.StatusCode >= 200 && res.StatusCode < 300:
		return nil
	case res.StatusCode == http.StatusGone: // the receiver wants no more of it
		return outbox.Permanent(fmt.Errorf("callback: answer %d", res.StatusCode))
	}
	err = fmt.Errorf("callback: answer %d", res.StatusCode)
	if after := retryAfter(res.Header.Get("Retry-After"), at); after > 0 &&
		(res.StatusCode == http.StatusTooManyRequests || res.StatusCode == http.StatusServiceUnavailable) {
		return outbox.Later(after, err)
	}
	return err
}

// maxRetryAfter bounds what an endpoint may ask for.
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

// dead records a delivery that was given up.
func (c *Callbacks) dead(ctx context.Context, d outbox.Delivery, cause error) error {
	e := d.Event
	subject := e.Registration
	if e.Operation != "" {
		subject = e.Operation
	}
	err := c.c.Audit.RecordTx(ctx, c.c.DB, audit.Event{
		Tenant: e.Tenant, Action: "callback.dead", Actor: "system", Subject: subject, UserID: e.User, AppID: e.App, Outcome: "given_up",
		Detail: map[string]any{"callback": d.Target, "event": e.ID.String(), "kind": string(e.Kind), "attempts": d.Attempt, "cause": cause.Error()},
	})
	if err != nil {
		return pg.Unavailable(fmt.Errorf("callback: dead letter: %w", err))
	}
	return nil
}
