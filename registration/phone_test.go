package registration_test

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
)

// temporary is a temporary key as a phone keeps it.
type temporary struct {
	id     string
	public *ecdh.PublicKey
}

// jwtFor makes the request for a temporary key, with the MAC computed by hand.
func (d *device) jwtFor(header string, claims map[string]any, key []byte) string {
	payload, err := json.Marshal(claims)
	require.NoError(d.w.tb, err)
	b64 := base64.RawURLEncoding
	text := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString(payload)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return text + "." + b64.EncodeToString(mac.Sum(nil))
}

const hs256Header = `{"alg":"HS256","typ":"JWT"}`

// claims are those of application scope, with activationId of activation scope.
func (d *device) claims(activation bool) (map[string]any, []byte) {
	v := d.w.version[d.tenant]
	secret, err := signature.ParseBase64(string(v.Secret.Reveal()))
	require.NoError(d.w.tb, err)
	c := map[string]any{"applicationKey": signature.EncodeBase64(v.Key[:]), "challenge": "Y2hhbGxlbmdl", "iat": 1}
	if !activation {
		return c, secret
	}
	c["activationId"] = d.id
	transport := d.keys.TransportKey()
	mac := hmac.New(sha256.New, transport[:])
	mac.Write(secret)
	sum := mac.Sum(nil)
	for i := range 16 {
		sum[i] ^= sum[16+i]
	}
	return c, sum[:16]
}

// fetch asks for a temporary key and checks who signed the answer.
func (d *device) fetch(node *registration.Registrar, activation bool) *temporary {
	tb := d.w.tb
	tb.Helper()
	claims, key := d.claims(activation)
	answer, err := node.TemporaryKey(tb.Context(), d.jwtFor(hs256Header, claims, key))
	require.NoError(tb, err)
	signerKey := d.w.master[d.tenant]
	if activation {
		signerKey = d.server.Bytes()
	}
	return d.accepts(answer, signerKey, claims)
}

func (d *device) accepts(answer string, signerKey []byte, claims map[string]any) *temporary {
	tb := d.w.tb
	tb.Helper()
	part := strings.Split(answer, ".")
	require.Len(tb, part, 3)
	b64 := base64.RawURLEncoding
	header, err := b64.DecodeString(part[0])
	require.NoError(tb, err)
	require.Equal(tb, `{"alg":"ES256","typ":"JWT"}`, string(header))
	raw, err := b64.DecodeString(part[2])
	require.NoError(tb, err)
	require.Len(tb, raw, 64)
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), signerKey)
	require.NoError(tb, err)
	digest := sha256.Sum256([]byte(part[0] + "." + part[1]))
	require.True(tb, ecdsa.Verify(pub, digest[:], new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])))
	payload, err := b64.DecodeString(part[1])
	require.NoError(tb, err)
	var got map[string]any
	require.NoError(tb, json.Unmarshal(payload, &got))
	require.Equal(tb, claims["applicationKey"], got["applicationKey"])
	require.Equal(tb, claims["challenge"], got["challenge"])
	require.Equal(tb, claims["activationId"], got["activationId"])
	require.InDelta(tb, d.w.now().UnixMilli(), got["iat_ms"], 60_000)
	require.InDelta(tb, 300_000, got["exp_ms"].(float64)-got["iat_ms"].(float64), 0)
	require.InDelta(tb, 300, got["exp"].(float64)-got["iat"].(float64), 0)
	point, err := signature.ParseBase64(got["publicKey"].(string))
	require.NoError(tb, err)
	t := &temporary{id: got["sub"].(string)}
	t.public, err = signature.ParsePublicKey(point)
	require.NoError(tb, err)
	return t
}

// sealScoped encrypts for the registration; key is nil before 3.3.
func (d *device) sealScoped(v signature.Version, info string, key *temporary, plaintext any) ([]byte, *signature.Requester) {
	tb := d.w.tb
	text, err := json.Marshal(plaintext)
	require.NoError(tb, err)
	ephemeral, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(tb, err)
	app := d.w.version[d.tenant]
	p := signature.EnvelopeParams{
		Version: v, Scope: signature.ActivationScope, SharedInfo1: info, ApplicationKey: app.Key,
		ActivationID: d.id, SharedInfo2: d.keys.ActivationSharedInfo2(app.Secret.Reveal()),
	}
	server := d.server
	if key != nil {
		p.TemporaryKeyID, server = key.id, key.public
	}
	stamp := signature.Stamp{Timestamp: d.now().UnixMilli()}
	_, _ = rand.Read(stamp.Nonce[:])
	m, open, err := signature.SealRequest(ephemeral, server, p, text, stamp)
	require.NoError(tb, err)
	body, err := json.Marshal(m)
	require.NoError(tb, err)
	return body, open
}

// signed signs a request to a protocol endpoint with the next counter.
func (d *device) signed(v signature.Version, f signature.Factor, method, uriID string, body []byte) registration.SignedRequest {
	app := d.w.version[d.tenant]
	h := signature.Header{ActivationID: d.id, ApplicationKey: app.Key, Factors: f, Version: v}
	_, _ = rand.Read(h.Nonce[:])
	h.Signature = d.keys.Sign(v, f, signature.Request{
		Method: method, URIID: uriID, Nonce: h.Nonce[:], Body: body, Secret: app.Secret.Reveal(),
	}, d.ctr)
	d.ctr = d.ctr.Next()
	return registration.SignedRequest{Header: h, Method: method, Body: body}
}

func (d *device) opens(open *signature.Requester, resp signature.EncryptedResponse, out any) {
	d.w.tb.Helper()
	text, err := open.Open(resp)
	require.NoError(d.w.tb, err)
	require.NoError(d.w.tb, json.Unmarshal(text, out))
}

// keyFor is the temporary key that a version needs.
func (d *device) keyFor(v signature.Version) *temporary {
	if v < signature.V33 {
		return nil
	}
	return d.fetch(d.w.node, true)
}

var versions = []signature.Version{signature.V30, signature.V31, signature.V32, signature.V33}
