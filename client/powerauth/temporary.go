package powerauth

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"strings"
	"time"

	"github.com/signet-hsm/signet/signature"
)

// temporaryKey is a server's key that lives for minutes (protocol 3.3).
type temporaryKey struct {
	id      string
	public  *ecdh.PublicKey
	expires time.Time
}

// renewBefore keeps a message from arriving after its key has expired.
const renewBefore = 30 * time.Second

type temporaryClaims struct {
	Subject        string `json:"sub,omitempty"`
	ApplicationKey string `json:"applicationKey"`
	ActivationID   string `json:"activationId,omitempty"`
	Challenge      string `json:"challenge"`
	PublicKey      string `json:"publicKey,omitempty"`
	ExpiresMs      int64  `json:"exp_ms,omitempty"`
}

type jwtObject struct {
	JWT string `json:"jwt"`
}

// temporaryKey returns the key in use, or fetches one; a is nil in application
// scope.
func (d *Device) temporaryKey(ctx context.Context, s signature.Scope, a *activation) (temporaryKey, error) {
	d.mu.Lock()
	key, ok := d.temporary[s]
	d.mu.Unlock()
	if ok && d.now().Add(renewBefore).Before(key.expires) {
		return key, nil
	}
	key, err := d.fetchTemporary(ctx, a)
	if err != nil {
		return temporaryKey{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.temporary == nil {
		d.temporary = map[signature.Scope]temporaryKey{}
	}
	d.temporary[s] = key
	return key, nil
}

func (d *Device) fetchTemporary(ctx context.Context, a *activation) (temporaryKey, error) {
	var challenge [18]byte
	if _, err := io.ReadFull(d.random, challenge[:]); err != nil {
		return temporaryKey{}, err
	}
	// The only place where the secret is its bytes and not their text.
	secret, err := signature.ParseBase64(string(d.secret))
	if err != nil {
		return temporaryKey{}, err
	}
	server := d.master
	asked := temporaryClaims{
		ApplicationKey: signature.EncodeBase64(d.appKey[:]), Challenge: signature.EncodeBase64(challenge[:]),
	}
	if a != nil {
		key := a.keys.TemporaryKeySecret(secret)
		secret, server, asked.ActivationID = key[:], a.server, a.id
	}
	payload, err := json.Marshal(asked)
	if err != nil {
		return temporaryKey{}, err
	}
	in := objectRequest[jwtObject]{jwtObject{signHS256(payload, secret)}}
	var out objectResponse[jwtObject]
	if err := d.post(ctx, "/pa/v3/keystore/create", "", "", in, &out); err != nil {
		return temporaryKey{}, err
	}
	return readTemporary(out.Object.JWT, server, asked)
}

// readTemporary believes nothing that the server's key has not signed for this
// very challenge.
func readTemporary(jwt string, server *ecdh.PublicKey, asked temporaryClaims) (temporaryKey, error) {
	payload, ok := verifyES256(jwt, server)
	if !ok {
		return temporaryKey{}, fmt.Errorf("%w: temporary key is not signed by the server", ErrProtocol)
	}
	var got temporaryClaims
	if err := json.Unmarshal(payload, &got); err != nil {
		return temporaryKey{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if got.Subject == "" || got.Challenge != asked.Challenge || got.ApplicationKey != asked.ApplicationKey || got.ActivationID != asked.ActivationID {
		return temporaryKey{}, fmt.Errorf("%w: temporary key is for someone else", ErrProtocol)
	}
	public, err := parsePublic(got.PublicKey)
	if err != nil {
		return temporaryKey{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return temporaryKey{got.Subject, public, time.UnixMilli(got.ExpiresMs)}, nil
}

func signHS256(payload, key []byte) string {
	b64 := base64.RawURLEncoding
	text := b64.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + b64.EncodeToString(payload)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return text + "." + b64.EncodeToString(mac.Sum(nil))
}

// verifyES256 takes a compact JWS of exactly this algorithm.
func verifyES256(jws string, key *ecdh.PublicKey) (payload []byte, ok bool) {
	part := strings.Split(jws, ".")
	if len(part) != 3 {
		return nil, false
	}
	var decoded [3][]byte
	for i, p := range part {
		var err error
		if decoded[i], err = base64.RawURLEncoding.DecodeString(p); err != nil {
			return nil, false
		}
	}
	var header struct {
		Algorithm string `json:"alg"`
	}
	if json.Unmarshal(decoded[0], &header) != nil || header.Algorithm != "ES256" || len(decoded[2]) != 64 {
		return nil, false
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), key.Bytes())
	if err != nil {
		return nil, false
	}
	digest := sha256.Sum256([]byte(part[0] + "." + part[1]))
	r, s := new(big.Int).SetBytes(decoded[2][:32]), new(big.Int).SetBytes(decoded[2][32:])
	return decoded[1], ecdsa.Verify(public, digest[:], r, s)
}
