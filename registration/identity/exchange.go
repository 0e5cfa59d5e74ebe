package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/signet-hsm/signet/internal/egress"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/registration"
)

const maxAnswer = 64 << 10 // bytes

type question struct {
	Tenant   string         `json:"tenant"`
	App      string         `json:"appId"`
	Identity map[string]any `json:"identityAttributes"`
	Custom   map[string]any `json:"customAttributes"`
}

type answer struct {
	UserID string   `json:"userId"`
	Flags  []string `json:"flags"`
}

func (p *Provider) ask(ctx context.Context, c *caller, a registration.CustomActivation) (*registration.CustomUser, error) {
	body, err := json.Marshal(question{a.Tenant.String(), a.App, a.Identity, a.Custom})
	if err != nil {
		return nil, errors.New("the attributes do not encode")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the URL does not parse")
	}
	at, id := p.now(), uuid.NewString()
	req.Header = http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json"}, "User-Agent": {"signet"},
		"Webhook-Id": {id}, "Webhook-Timestamp": {strconv.FormatInt(at.Unix(), 10)},
		"Webhook-Signature": {egress.Sign([]secret.Bytes{c.secret}, id, at, body)},
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, unwrapURL(err)
	}
	defer func() { _ = resp.Body.Close() }()
	switch resp.StatusCode {
	case http.StatusNoContent:
		return nil, nil
	case http.StatusOK:
		return read(resp, c.commit)
	}
	return nil, fmt.Errorf("status %d", resp.StatusCode)
}

// unwrapURL leaves the URL out: a query may hold a key.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// read takes nothing that package registration would refuse: its refusal would tell
// the phone that it has done something wrong.
func read(resp *http.Response, commit bool) (*registration.CustomUser, error) {
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, errors.New("the answer is not JSON")
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxAnswer {
		return nil, fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
	}
	var a answer
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, errors.New("the answer does not parse") // json's text could repeat it
	}
	if !text(a.UserID) {
		return nil, fmt.Errorf("the answer names no user of 1 to %d characters", registration.MaxText)
	}
	if len(a.Flags) > registration.MaxFlags {
		return nil, fmt.Errorf("the answer has more than %d flags", registration.MaxFlags)
	}
	for _, f := range a.Flags {
		if !text(f) {
			return nil, fmt.Errorf("the answer has a flag that is not 1 to %d characters", registration.MaxText)
		}
	}
	return &registration.CustomUser{UserID: a.UserID, Flags: a.Flags, Commit: commit}, nil
}

func text(s string) bool {
	return s != "" && utf8.ValidString(s) && utf8.RuneCountInString(s) <= registration.MaxText && !strings.ContainsRune(s, 0)
}
