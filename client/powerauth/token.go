package powerauth

import (
	"context"
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
	secret, err := t.secret()
	clear(secret)
	if err != nil || t.ID == "" {
		return Token{}, fmt.Errorf("create token: %w: token", ErrProtocol)
	}
	return t, nil
}

// RemoveToken ends a token of this device.
func (d *Device) RemoveToken(ctx context.Context, t Token, f signature.Factor) error {
	var out objectResponse[struct {
		TokenID string `json:"tokenId"`
	}]
	err := d.signedPost(ctx, endpoint{
		path: "/pa/v3/token/remove", uriID: "/pa/token/remove",
	}, f, map[string]string{"tokenId": t.ID}, &out)
	if err != nil {
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
	defer clear(secret)
	h := signature.TokenHeader{TokenID: t.ID, Timestamp: d.now().UnixMilli(), Version: d.version}
	if _, err := io.ReadFull(d.random, h.Nonce[:]); err != nil {
		return "", err
	}
	h.Digest = signature.TokenDigest(secret, h.Nonce, h.Timestamp, h.Version)
	return h.String(), nil
}

// byToken asks an endpoint of the mobile token API; what is left out as nil is an
// empty object.
func (d *Device) byToken(ctx context.Context, t Token, path string, what, out any) error {
	header, err := d.TokenHeader(t)
	if err != nil {
		return err
	}
	if what == nil {
		what = struct{}{}
	}
	return d.post(ctx, path, signature.TokenHeaderName, header, objectRequest[any]{what}, out)
}

// secret decodes it; the caller wipes it.
func (t Token) secret() ([]byte, error) {
	secret := make([]byte, 16)
	return secret, fill(secret, t.Secret)
}
