package registration

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/go-json-experiment/json"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// The resource ids that devices sign for; no path has them.
const (
	URIRemove   = "/pa/activation/remove"
	URIRename   = "/pa/activation/rename"
	URIVault    = "/pa/vault/unlock"
	URIValidate = "/pa/signature/validate"
)

// SignedRequest is a request that a device signed for itself, as it came.
type SignedRequest struct {
	Header signature.Header
	Method string            // GET, POST, PUT or DELETE; "" is POST
	Body   []byte            // raw
	Query  map[string]string // decoded parameters of GET
}

// Caller is the device behind a good signature.
type Caller struct {
	Tenant  tenant.ID
	ID      string // of the registration
	App     string
	UserID  string
	Flags   []string
	Factors signature.Factor
	Header  signature.Header
}

// VerifyDevice is Verify for a device's own request, in the tenant of its
// application key; app.ErrNotFound without one.
func (r *Registrar) VerifyDevice(ctx context.Context, req SignedRequest, uriID string) (tenant.ID, Verdict, error) {
	version, err := r.apps.ByKey(ctx, req.Header.ApplicationKey)
	if err != nil {
		return tenant.ID{}, Verdict{}, err
	}
	v, err := r.Verify(ctx, version.Tenant, VerifyRequest{
		Apps: []string{version.App}, Header: req.Header, Method: cmp.Or(req.Method, "POST"), URIID: uriID,
		Body: req.Body, Query: req.Query, Actor: actorDevice,
	})
	return version.Tenant, v, err
}

// Authenticate verifies a device's own signature, for the endpoints that the
// device calls: the application key of the header leads to the tenant. allowed
// are the types that the endpoint takes, none means all; another type is
// ErrSignatureType and counts nothing. Every bad signature, also of an unknown
// registration, is ErrSignature; it counts and blocks as in Verify.
func (r *Registrar) Authenticate(ctx context.Context, req SignedRequest, uriID string, allowed ...signature.Factor) (Caller, error) {
	if len(allowed) > 0 && !slices.Contains(allowed, req.Header.Factors) {
		return Caller{}, ErrSignatureType
	}
	t, v, err := r.VerifyDevice(ctx, req, uriID)
	switch {
	case errors.Is(err, app.ErrNotFound): // leads to no tenant, so there is nothing to count
		return Caller{}, ErrSignature
	case err != nil:
		return Caller{}, err
	case !v.Valid:
		return Caller{}, ErrSignature
	}
	return Caller{
		Tenant: t, ID: v.ID, App: v.App, UserID: v.UserID, Flags: v.Flags, Factors: v.Factors, Header: req.Header,
	}, nil
}

// scope is the header of a message that the caller encrypted: a signed request
// has no other.
func (c Caller) scope() signature.EncryptionHeader { return scopeOf(c.Header) }

func scopeOf(h signature.Header) signature.EncryptionHeader {
	return signature.EncryptionHeader{ApplicationKey: h.ApplicationKey, ActivationID: h.ActivationID, Version: h.Version}
}

// OpenSigned decrypts the body of a request that is signed as it was sent.
func (r *Registrar) OpenSigned(ctx context.Context, c Caller, info string, body []byte) (*Opened, error) {
	return r.Open(ctx, c.scope(), info, body)
}

// ValidateSignature serves a device that wants its counter moved (POST and other
// methods of /pa/v3/signature/validate).
func (r *Registrar) ValidateSignature(ctx context.Context, req SignedRequest) error {
	_, err := r.Authenticate(ctx, req, URIValidate,
		signature.Possession, signature.PossessionKnowledge, signature.PossessionBiometry, signature.PossessionKnowledgeBiometry)
	if err != nil {
		return fmt.Errorf("registration: validate signature: %w", err)
	}
	return nil
}

// RemoveDevice removes the registration that signs the request, with more than
// possession (POST /pa/v3/activation/remove). It returns the registration's id.
func (r *Registrar) RemoveDevice(ctx context.Context, req SignedRequest) (id string, err error) {
	req.Method = "POST"
	c, err := r.Authenticate(ctx, req, URIRemove,
		signature.PossessionKnowledge, signature.PossessionBiometry, signature.PossessionKnowledgeBiometry)
	if err == nil {
		err = r.Change(ctx, c.Tenant, ChangeParams{Apps: []string{c.App}, ID: c.ID, Change: Remove, Actor: actorDevice})
		if errors.Is(err, ErrNotFound) { // someone else was first
			err = nil
		}
	}
	if err != nil {
		return "", fmt.Errorf("registration: remove device: %w", err)
	}
	return c.ID, nil
}

// Rename gives the registration the name that its owner chose (POST
// /pa/v3/activation/rename). The request is encrypted in activation scope, and
// the signature covers the plaintext {"activationName": "..."}; the answer says
// {"status": "OK", "responseObject": {"activationId", "activationName"}}.
func (r *Registrar) Rename(ctx context.Context, req SignedRequest) (signature.EncryptedResponse, error) {
	resp, err := r.rename(ctx, req)
	if err != nil {
		return signature.EncryptedResponse{}, fmt.Errorf("registration: rename: %w", err)
	}
	return resp, nil
}

func (r *Registrar) rename(ctx context.Context, req SignedRequest) (signature.EncryptedResponse, error) {
	var none signature.EncryptedResponse
	opened, err := r.Open(ctx, scopeOf(req.Header), signature.InfoActivation, req.Body)
	if err != nil {
		return none, err
	}
	req.Method, req.Body = "POST", opened.Plaintext
	c, err := r.Authenticate(ctx, req, URIRename, signature.PossessionKnowledge, signature.PossessionBiometry)
	if err != nil {
		return none, err
	}
	var wish struct {
		Name string `json:"activationName"`
	}
	if err := json.Unmarshal(opened.Plaintext, &wish); err != nil {
		return none, ErrFormat
	}
	if !ValidText(wish.Name) {
		return none, ErrRequest.With(fault.Violation{Field: "activationName", Value: wish.Name, Hint: hintText})
	}
	for {
		row, err := r.living(ctx, c.Tenant, []string{c.App}, c.ID)
		switch {
		case errors.Is(err, ErrNotFound), err == nil && row.state != StateActive:
			return none, ErrActivation
		case err != nil:
			return none, err
		}
		won, err := r.apply(ctx, sqlRename, []any{row.tenant.String(), row.id, row.revision, wish.Name},
			row.event(r.clock(), "registration.rename", actorDevice, "ok"))
		if err != nil {
			return none, err
		}
		if won {
			break
		}
		r.metrics.retries.Inc()
	}
	type detail struct {
		ID   string `json:"activationId"`
		Name string `json:"activationName"`
	}
	return opened.Seal(struct {
		Status string `json:"status"`
		Object detail `json:"responseObject"`
	}{"OK", detail{c.ID, wish.Name}})
}

var vaultReason = regexp.MustCompile(`^[A-Za-z0-9_\-.]{3,255}$`)

// VaultUnlock hands out the key that opens the device's own private key (POST
// /pa/v3/vault/unlock), for a signature of possession with knowledge, or with
// biometry when Config.VaultBiometry says so. The body is signed as it was sent
// and encrypted in activation scope: {"reason": "..."}, the reason optional; the
// answer is {"encryptedVaultEncryptionKey": Base64 of 32 bytes}.
func (r *Registrar) VaultUnlock(ctx context.Context, req SignedRequest) (signature.EncryptedResponse, error) {
	resp, err := r.vaultUnlock(ctx, req)
	if err != nil {
		return signature.EncryptedResponse{}, fmt.Errorf("registration: vault unlock: %w", err)
	}
	return resp, nil
}

func (r *Registrar) vaultUnlock(ctx context.Context, req SignedRequest) (signature.EncryptedResponse, error) {
	var none signature.EncryptedResponse
	allowed := []signature.Factor{signature.PossessionKnowledge}
	if r.vaultBio {
		allowed = append(allowed, signature.PossessionBiometry)
	}
	req.Method = "POST"
	c, err := r.Authenticate(ctx, req, URIVault, allowed...)
	if err != nil {
		return none, err
	}
	opened, err := r.OpenSigned(ctx, c, signature.InfoVaultUnlock, req.Body)
	if err != nil {
		return none, err
	}
	var why struct {
		Reason *string `json:"reason"`
	}
	if err := json.Unmarshal(opened.Plaintext, &why); err != nil {
		return none, ErrFormat
	}
	if why.Reason != nil && !vaultReason.MatchString(*why.Reason) {
		return none, ErrRequest.With(fault.Violation{Field: "reason", Value: *why.Reason, Hint: "must be 3 to 255 letters, digits, _, - or ."})
	}
	id, _ := parseID(c.ID) // Verify gave it
	e := (&record{tenant: c.Tenant, id: id, app: c.App, user: c.UserID}).event(r.clock(), "registration.vault_unlock", actorDevice, "ok")
	if why.Reason != nil {
		e.Detail = map[string]any{"reason": *why.Reason}
	}
	if err := r.audit.RecordTx(ctx, r.db, e); err != nil {
		return none, err
	}
	return opened.Seal(struct {
		Key string `json:"encryptedVaultEncryptionKey"`
	}{signature.EncodeBase64(opened.keys.EncryptedVaultKey())})
}
