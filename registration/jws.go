package registration

import (
	"context"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"math/big"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
)

// maxJWT bounds the request for a temporary key, in characters.
const maxJWT = 4096

// hs256 is a JWT that is not verified yet.
type hs256 struct{ jws *jose.JSONWebSignature }

// parseTemporaryRequest reads a compact JWT; no algorithm but HS256 is taken. The
// claims are needed to find the key and mean nothing before verify.
func parseTemporaryRequest(compact string) (*hs256, temporaryRequest, error) {
	var claims temporaryRequest
	if len(compact) > maxJWT {
		return nil, claims, fmt.Errorf("%w: JWT too long", ErrRequest)
	}
	jws, err := jose.ParseSignedCompact(compact, []jose.SignatureAlgorithm{jose.HS256})
	if err != nil {
		return nil, claims, fmt.Errorf("%w: no JWT with HS256", ErrRequest) // the cause may quote it
	}
	if err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &claims); err != nil {
		return nil, claims, fmt.Errorf("%w: JWT without claims", ErrRequest)
	}
	if !ValidText(claims.Challenge) || !optionalText(claims.ActivationID) {
		return nil, claims, fmt.Errorf("%w: claims", ErrRequest)
	}
	return &hs256{jws}, claims, nil
}

// verify checks the MAC. The protocol's keys have 16 bytes, which the library
// calls too short; HMAC fills a key up with zeros to its block, so a key that was
// filled before is the same key.
func (t *hs256) verify(key []byte) bool {
	filled := make([]byte, 32)
	copy(filled, key)
	defer clear(filled)
	_, err := t.jws.Verify(filled)
	return err == nil
}

// signES256 makes a compact JWT. The key may live in an HSM and answers DER,
// which a JWS does not want.
func signES256(ctx context.Context, payload []byte, sign signer) (string, error) {
	b64 := base64.RawURLEncoding
	text := b64.AppendEncode(nil, []byte(`{"alg":"ES256","typ":"JWT"}`))
	text = append(text, '.')
	text = b64.AppendEncode(text, payload)
	der, err := sign(ctx, text)
	if err != nil {
		return "", err
	}
	var point struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &point); err != nil || len(rest) != 0 || point.R.BitLen() > 256 || point.S.BitLen() > 256 {
		return "", fmt.Errorf("%w: no ECDSA signature", errStored)
	}
	var raw [64]byte
	point.R.FillBytes(raw[:32])
	point.S.FillBytes(raw[32:])
	text = append(text, '.')
	return string(b64.AppendEncode(text, raw[:])), nil
}
