package token

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
)

// The resource ids that devices sign for.
const (
	URICreate = "/pa/token/create"
	URIRemove = "/pa/token/remove"
)

const secretSize = 16

// DefaultMaxTokens is the bound of the tokens of one registration.
const DefaultMaxTokens = 100

// factors that may ask for a token, or for its end.
var factors = []signature.Factor{
	signature.Possession, signature.PossessionKnowledge, signature.PossessionBiometry, signature.PossessionKnowledgeBiometry,
}

// Create makes a token for the registration that signs the request (device, POST
// /pa/v3/token/create). The body is signed as it was sent and encrypted in
// activation scope; the answer is {"tokenId": UUID, "tokenSecret": Base64 of 16
// bytes}. Errors: registration.ErrSignature and its like for the signature,
// registration.ErrRequest, ErrTemporaryKey and ErrDecrypt for the message;
// registration.ErrRequest as well when the registration has MaxTokens tokens
// already: it has to remove one first. (Requests that come at once may pass
// the bound by their number.)
func (k *Keeper) Create(ctx context.Context, req registration.SignedRequest) (signature.EncryptedResponse, error) {
	resp, err := k.create(ctx, req)
	if err != nil {
		return signature.EncryptedResponse{}, fmt.Errorf("token: create: %w", err)
	}
	return resp, nil
}

func (k *Keeper) create(ctx context.Context, req registration.SignedRequest) (signature.EncryptedResponse, error) {
	var none signature.EncryptedResponse
	req.Method = "POST"
	caller, err := k.registrations.Authenticate(ctx, req, URICreate, factors...)
	if err != nil {
		return none, err
	}
	opened, err := k.registrations.OpenSigned(ctx, caller, signature.InfoCreateToken, req.Body)
	if err != nil {
		return none, err
	}
	owner, err := uuid.Parse(caller.ID)
	if err != nil {
		return none, err
	}
	id := key{caller.Tenant, uuid.New()} // version 4: the header of a device allows no 7
	secret := make([]byte, secretSize)
	_, _ = rand.Read(secret)
	defer clear(secret)
	sealed, err := k.envelope.Seal(ctx, field(id, owner), secret)
	if err != nil {
		return none, err
	}
	now := k.clock()
	event, err := k.audit.Args(audit.Event{
		Tenant: id.tenant, At: now, Action: "token.create", Actor: "device", Subject: caller.ID,
		UserID: caller.UserID, AppID: caller.App, Outcome: "ok",
		Detail: map[string]any{"token": id.id.String(), "type": strings.ToUpper(caller.Factors.String())},
	})
	if err != nil {
		return none, err
	}
	tag, err := k.db.Exec(ctx, sqlCreate, append([]any{
		id.tenant.String(), id.id, owner, caller.App, caller.UserID, caller.Factors.String(), sealed, now, k.most,
	}, event...)...)
	switch {
	case err != nil:
		return none, pg.Unavailable(err)
	case tag.RowsAffected() == 0:
		return none, registration.ErrRequest.With(fault.Violation{
			Field: "tokens", Hint: fmt.Sprintf("a registration must have at most %d", k.most),
		})
	}
	return opened.Seal(struct {
		ID     string `json:"tokenId"`
		Secret string `json:"tokenSecret"`
	}{id.id.String(), signature.EncodeBase64(secret)})
}

// Remove ends a token of the registration that signs the request (device, POST
// /pa/v3/token/remove) and returns its id. The body is {"requestObject":
// {"tokenId": UUID}}; what is no such body is registration.ErrRequest and counts
// nothing. A token that is gone already, or another registration's, is no error:
// nothing is told of those.
func (k *Keeper) Remove(ctx context.Context, req registration.SignedRequest) (tokenID string, err error) {
	tokenID, err = k.remove(ctx, req)
	if err != nil {
		return "", fmt.Errorf("token: remove: %w", err)
	}
	return tokenID, nil
}

func (k *Keeper) remove(ctx context.Context, req registration.SignedRequest) (string, error) {
	named, err := parseRemove(req.Body)
	if err != nil {
		return "", err
	}
	req.Method = "POST"
	caller, err := k.registrations.Authenticate(ctx, req, URIRemove, factors...)
	if err != nil {
		return "", err
	}
	event, err := k.audit.Args(audit.Event{
		Tenant: caller.Tenant, At: k.clock(), Action: "token.remove", Actor: "device", Subject: caller.ID,
		UserID: caller.UserID, AppID: caller.App, Outcome: "ok", Detail: map[string]any{"token": named.String()},
	})
	if err != nil {
		return "", err
	}
	if _, err := k.db.Exec(ctx, sqlRemove, append([]any{caller.Tenant.String(), named, caller.ID}, event...)...); err != nil {
		return "", pg.Unavailable(err)
	}
	k.cache.Invalidate(key{caller.Tenant, named})
	return named.String(), nil
}

func parseRemove(body []byte) (uuid.UUID, error) {
	var m struct {
		Object struct {
			TokenID string `json:"tokenId"`
		} `json:"requestObject"`
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return uuid.UUID{}, fmt.Errorf("%w: not the JSON of the request", registration.ErrRequest)
	}
	id, ok := parseID(m.Object.TokenID)
	if !ok {
		return uuid.UUID{}, registration.ErrRequest.With(fault.Violation{Field: "tokenId", Value: m.Object.TokenID, Hint: "must be a UUID"})
	}
	return id, nil
}
