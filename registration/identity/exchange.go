package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

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
	req.Header = egress.Header([]secret.Bytes{c.secret}, id, at, body)
	req.Header.Set("Accept", "application/json")
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, egress.Cause(err)
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
	if !registration.ValidText(a.UserID) {
		return nil, fmt.Errorf("the answer names no user of 1 to %d characters", registration.MaxText)
	}
	if len(a.Flags) > registration.MaxFlags {
		return nil, fmt.Errorf("the answer has more than %d flags", registration.MaxFlags)
	}
	for _, f := range a.Flags {
		if !registration.ValidText(f) {
			return nil, fmt.Errorf("the answer has a flag that is not 1 to %d characters", registration.MaxText)
		}
	}
	return &registration.CustomUser{UserID: a.UserID, Flags: a.Flags, Commit: commit}, nil
}
