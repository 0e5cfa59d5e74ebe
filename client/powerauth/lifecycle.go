package powerauth

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/signet-hsm/signet/signature"
)

// Status is what the server says of the activation.
type Status struct {
	State             string // CREATED, PENDING_COMMIT, ACTIVE, BLOCKED or REMOVED
	FailedAttempts    int
	MaxFailedAttempts int
	// Ahead is how many counters the device is ahead of the server: signatures
	// that never arrived. Past the half of the server's look-ahead SignSoon is
	// set: call ValidateSignature, or the activation will be lost.
	Ahead    int
	SignSoon bool
}

var states = [...]string{1: "CREATED", 2: "PENDING_COMMIT", 3: "ACTIVE", 4: "BLOCKED", 5: "REMOVED"}

type (
	statusRequest struct {
		ActivationID string `json:"activationId"`
		Challenge    string `json:"challenge,omitempty"`
	}
	statusResponse struct {
		ActivationID string `json:"activationId"`
		Blob         string `json:"encryptedStatusBlob"`
		Nonce        string `json:"nonce"`
	}
)

// ServerTime asks what time it is at the server: from protocol 3.2 on, encrypted
// messages of a device whose clock is far off are refused.
func (d *Device) ServerTime(ctx context.Context) (time.Time, error) {
	var out objectResponse[struct {
		ServerTime int64 `json:"serverTime"`
	}]
	if err := d.post(ctx, "/pa/v3/status", "", "", struct{}{}, &out); err != nil {
		return time.Time{}, fmt.Errorf("server time: %w", err)
	}
	if out.Object.ServerTime <= 0 {
		return time.Time{}, fmt.Errorf("server time: %w: none", ErrProtocol)
	}
	return time.UnixMilli(out.Object.ServerTime), nil
}

// Status asks the server and, when the server's counter is ahead, follows it.
// With protocol 3.0 there is no counter in the answer. Errors: ErrUnknown,
// ErrCounter.
func (d *Device) Status(ctx context.Context) (Status, error) {
	a := d.current()
	if a == nil {
		return Status{}, ErrNotActive
	}
	in := objectRequest[statusRequest]{statusRequest{ActivationID: a.id}}
	var challenge, nonce *[16]byte
	if d.version >= signature.V31 {
		challenge, nonce = new([16]byte), new([16]byte)
		if _, err := io.ReadFull(d.random, challenge[:]); err != nil {
			return Status{}, err
		}
		in.Object.Challenge = signature.EncodeBase64(challenge[:])
	}
	var out objectResponse[statusResponse]
	if err := d.post(ctx, "/pa/v3/activation/status", "", "", in, &out); err != nil {
		return Status{}, fmt.Errorf("status: %w", err)
	}
	blob, err := signature.ParseBase64(out.Object.Blob)
	if err != nil {
		return Status{}, fmt.Errorf("status: %w: blob", ErrProtocol)
	}
	if nonce != nil {
		if err := fill(nonce[:], out.Object.Nonce); err != nil {
			return Status{}, fmt.Errorf("status: %w: nonce", ErrProtocol)
		}
	}
	s, err := a.keys.DecryptStatus(blob, challenge, nonce)
	if err != nil {
		return Status{}, ErrUnknown
	}
	if s.State == 0 || int(s.State) >= len(states) {
		return Status{}, fmt.Errorf("status: %w: state %d", ErrProtocol, s.State)
	}
	got := Status{
		State: states[s.State], FailedAttempts: int(s.FailedAttempts), MaxFailedAttempts: int(s.MaxFailedAttempts),
	}
	if challenge == nil {
		return got, nil
	}
	return got, d.follow(a, s, &got)
}

// maxLookAhead is what a server may sensibly announce.
const maxLookAhead = 64

// follow brings the counters together, as far as the protocol can.
func (d *Device) follow(a *activation, s signature.Status, got *Status) error {
	window := int(s.LookAhead)
	if window == 0 || window > maxLookAhead {
		return fmt.Errorf("status: %w: look-ahead %d", ErrProtocol, window)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	// The hash tells how far the server is ahead, the low byte of the number how
	// far it is behind: a hash chain can not be walked back.
	if steps, ok := a.keys.CounterDistance(a.counter, s.CounterHash, maxLookAhead); ok {
		for range steps {
			a.counter = a.counter.Next()
			a.used++
		}
		return nil
	}
	ahead := int(int8(byte(a.used) - s.CounterByte))
	if ahead <= 0 || ahead > window {
		return ErrCounter
	}
	got.Ahead, got.SignSoon = ahead, ahead > window/2
	return nil
}

// ValidateSignature makes a signature only to move the server's counter.
func (d *Device) ValidateSignature(ctx context.Context, f signature.Factor) error {
	return d.Validate(ctx, http.MethodPost, []byte("{}"), f)
}

// Where signatures are tried, and the resource id that they are made for.
const (
	pathValidate = "/pa/v3/signature/validate"
	uriValidate  = "/pa/signature/validate"
)

// ValidateGET tries a signature of query parameters, as Validate does for a body.
func (d *Device) ValidateGET(ctx context.Context, query map[string]string, f signature.Factor) error {
	header, err := d.SignGET(uriValidate, query, f)
	if err != nil {
		return err
	}
	target := pathValidate
	if len(query) > 0 {
		target += "?" + string(signature.NormalizeGET(query))
	}
	return d.validate(ctx, http.MethodGet, target, header, nil)
}

// Validate tries a signature of a POST, PUT or DELETE at the server; nothing else
// happens there. Apps that are being built want to know whether theirs match.
func (d *Device) Validate(ctx context.Context, method string, body []byte, f signature.Factor) error {
	header, err := d.Sign(method, uriValidate, body, f)
	if err != nil {
		return err
	}
	return d.validate(ctx, method, pathValidate, header, body)
}

func (d *Device) validate(ctx context.Context, method, target, header string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, method, d.baseURL+target, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set(signature.HeaderName, header)
	var out objectResponse[struct{}]
	if err := d.do(req, &out); err != nil {
		return fmt.Errorf("validate signature: %w", err)
	}
	return nil
}

// RemoveActivation removes the activation at the server and then here; it takes
// more than possession.
func (d *Device) RemoveActivation(ctx context.Context, f signature.Factor) error {
	body := []byte("{}")
	header, err := d.Sign("POST", "/pa/activation/remove", body, f)
	if err != nil {
		return err
	}
	var out objectResponse[struct {
		ActivationID string `json:"activationId"`
	}]
	if err := d.send(ctx, "/pa/v3/activation/remove", signature.HeaderName, header, body, &out); err != nil {
		return fmt.Errorf("remove activation: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.activation = nil
	delete(d.temporary, signature.ActivationScope)
	return nil
}

// Rename changes the name that the server shows for this device.
func (d *Device) Rename(ctx context.Context, name string, f signature.Factor) error {
	var out objectResponse[struct {
		Name string `json:"activationName"`
	}]
	err := d.signedExchange(ctx, endpoint{
		path: "/pa/v3/activation/rename", uriID: "/pa/activation/rename", purpose: signature.InfoActivation, signsPlaintext: true,
	}, f, map[string]string{"activationName": name}, &out)
	if err != nil {
		return fmt.Errorf("rename: %w", err)
	}
	if out.Object.Name != name {
		return fmt.Errorf("rename: %w: another name came back", ErrProtocol)
	}
	return nil
}

// UnlockVault fetches the key that a real device wraps its private key with.
// reason may be empty.
func (d *Device) UnlockVault(ctx context.Context, reason string, f signature.Factor) (key [16]byte, err error) {
	message := map[string]string{}
	if reason != "" {
		message["reason"] = reason
	}
	var out struct {
		Key string `json:"encryptedVaultEncryptionKey"`
	}
	err = d.signedExchange(ctx, endpoint{
		path: "/pa/v3/vault/unlock", uriID: "/pa/vault/unlock", purpose: signature.InfoVaultUnlock,
	}, f, message, &out)
	if err != nil {
		return key, fmt.Errorf("unlock vault: %w", err)
	}
	encrypted, err := signature.ParseBase64(out.Key)
	if err != nil {
		return key, fmt.Errorf("unlock vault: %w: %w", ErrProtocol, err)
	}
	a := d.current()
	if a == nil {
		return key, ErrNotActive
	}
	if key, err = a.keys.DecryptVaultKey(encrypted); err != nil {
		return key, fmt.Errorf("unlock vault: %w: %w", ErrProtocol, err)
	}
	return key, nil
}
