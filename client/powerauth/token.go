package powerauth

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/signet-hsm/signet/signature"
)

// Token answers for the device without moving the counter. Keep it like the
// state of the device: Secret is all that it takes.
type Token struct {
	ID     string `json:"tokenId"`
	Secret string `json:"tokenSecret"` // Base64 of 16 bytes
}

// CreateToken asks for a token; it will have the factors of f.
func (d *Device) CreateToken(ctx context.Context, f signature.Factor) (Token, error) {
	var t Token
	err := d.signedExchange(ctx, endpoint{
		path: "/pa/v3/token/create", uriID: "/pa/token/create", purpose: signature.InfoCreateToken,
	}, f, struct{}{}, &t)
	if err != nil {
		return Token{}, fmt.Errorf("create token: %w", err)
	}
	if _, err := t.secret(); err != nil || t.ID == "" {
		return Token{}, fmt.Errorf("create token: %w: token", ErrProtocol)
	}
	return t, nil
}

// RemoveToken ends a token of this device.
func (d *Device) RemoveToken(ctx context.Context, t Token, f signature.Factor) error {
	body, err := json.Marshal(objectRequest[map[string]string]{map[string]string{"tokenId": t.ID}})
	if err != nil {
		return err
	}
	header, err := d.Sign("POST", "/pa/token/remove", body, f)
	if err != nil {
		return err
	}
	var out objectResponse[struct {
		TokenID string `json:"tokenId"`
	}]
	if err := d.send(ctx, "/pa/v3/token/remove", signature.HeaderName, header, body, &out); err != nil {
		return fmt.Errorf("remove token: %w", err)
	}
	return nil
}

// TokenHeader returns the value of the header signature.TokenHeaderName for one
// request: it is good once, for some minutes.
func (d *Device) TokenHeader(t Token) (string, error) {
	secret, err := t.secret()
	if err != nil {
		return "", err
	}
	h := signature.TokenHeader{TokenID: t.ID, Timestamp: d.now().UnixMilli(), Version: d.version}
	if _, err := io.ReadFull(d.random, h.Nonce[:]); err != nil {
		return "", err
	}
	h.Digest = signature.TokenDigest(secret, h.Nonce, h.Timestamp, h.Version)
	return h.String(), nil
}

func (t Token) secret() ([]byte, error) {
	secret := make([]byte, 16)
	return secret, fill(secret, t.Secret)
}
