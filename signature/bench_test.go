package signature

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/require"
)

// One two-factor 3.1 request over 276 bytes of data, the size of a typical
// approval. BenchmarkVerifyNaive is the way of a server that keeps the device's
// public key and its own private key and derives everything for every request;
// the ratio of the two is what cached Keys are for.
type benchCase struct {
	keys   *Keys
	server *ecdh.PrivateKey
	device []byte // public key
	header Header
	req    Request
	ctr    Counter
}

func newBenchCase(tb testing.TB) benchCase {
	tb.Helper()
	server, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(tb, err)
	device, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(tb, err)
	z, err := server.ECDH(device.PublicKey())
	require.NoError(tb, err)
	c := benchCase{
		keys: DeriveKeys(MasterSecret(z)), server: server, device: device.PublicKey().Bytes(),
		req: Request{
			Method: "POST", URIID: "/operation/authorize", Nonce: make([]byte, 16),
			Body:   bytes.Repeat([]byte{'x'}, 144),
			Secret: []byte("6Sit4w2Otz95GSql2d1hZw=="),
		},
	}
	require.Equal(tb, 276, len(AppendBaseString(nil, c.req)))
	c.header = Header{
		ActivationID: "162f44aa-c9db-46bb-908d-049b3126c6ea", Factors: PossessionKnowledge, Version: V31,
		Signature: c.keys.Sign(V31, PossessionKnowledge, c.req, c.ctr),
	}
	return c
}

func BenchmarkVerify(b *testing.B) {
	c := newBenchCase(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := c.keys.Verify(&c.header, c.req, c.ctr, DefaultLookAhead); !ok {
			b.Fatal("no match")
		}
	}
}

func BenchmarkVerifyParallel(b *testing.B) {
	c := newBenchCase(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, ok := c.keys.Verify(&c.header, c.req, c.ctr, DefaultLookAhead); !ok {
				b.Error("no match")
			}
		}
	})
}

func BenchmarkVerifyWrong20(b *testing.B) {
	c := newBenchCase(b)
	c.header.Signature.raw[0] ^= 1
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := c.keys.Verify(&c.header, c.req, c.ctr, DefaultLookAhead); ok {
			b.Fatal("match")
		}
	}
}

func BenchmarkVerifyNaive(b *testing.B) {
	c := newBenchCase(b)
	sent := c.header.Signature.String()
	b.ReportAllocs()
	for b.Loop() {
		if !naiveVerify(b, c, sent, 1) {
			b.Fatal("no match")
		}
	}
}

func BenchmarkVerifyNaiveWrong20(b *testing.B) {
	c := newBenchCase(b)
	c.header.Signature.raw[0] ^= 1
	sent := c.header.Signature.String()
	b.ReportAllocs()
	for b.Loop() {
		if naiveVerify(b, c, sent, DefaultLookAhead) {
			b.Fatal("match")
		}
	}
}

// naiveVerify is written from the protocol's text with hmac.New and shares no
// code with the kernel but the key derivation.
func naiveVerify(tb testing.TB, c benchCase, sent string, lookAhead int) bool {
	mac := func(key, data []byte) []byte {
		h := hmac.New(sha256.New, key)
		h.Write(data)
		return h.Sum(nil)
	}
	device, err := ecdh.P256().NewPublicKey(c.device)
	require.NoError(tb, err)
	z, err := c.server.ECDH(device)
	require.NoError(tb, err)
	master := MasterSecret(z)
	possession, knowledge := kdf(&master, 1), kdf(&master, 2)
	b64 := base64.StdEncoding.EncodeToString
	data := []byte(c.req.Method + "&" + b64([]byte(c.req.URIID)) + "&" + b64(c.req.Nonce) + "&" +
		b64(c.req.Body) + "&" + string(c.req.Secret))
	ctr := c.ctr
	for range lookAhead {
		c0 := mac(mac(possession[:], ctr[:]), data)
		c1 := mac(mac(mac(knowledge[:], ctr[:]), mac(knowledge[:], ctr[:])), data)
		if b64(append(c0[16:], c1[16:]...)) == sent {
			return true
		}
		sum := sha256.Sum256(ctr[:])
		subtle.XORBytes(ctr[:], sum[:16], sum[16:])
	}
	return false
}

func TestNaiveVerifyAgrees(t *testing.T) {
	t.Parallel()
	c := newBenchCase(t)
	require.True(t, naiveVerify(t, c, c.header.Signature.String(), 1))
	c.header.Signature.raw[0] ^= 1
	require.False(t, naiveVerify(t, c, c.header.Signature.String(), 20))
}

func BenchmarkVerifyOffline(b *testing.B) {
	c := newBenchCase(b)
	c.req.Secret = []byte(OfflineSecret)
	sig, err := c.keys.SignOffline(8, PossessionKnowledge, c.req, c.ctr)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := c.keys.VerifyOffline(&sig, c.req, c.ctr, DefaultLookAhead, true); !ok {
			b.Fatal("no match")
		}
	}
}

func BenchmarkDeriveKeys(b *testing.B) {
	var master [16]byte
	b.ReportAllocs()
	for b.Loop() {
		DeriveKeys(master)
	}
}

func BenchmarkParseHeader(b *testing.B) {
	s := newBenchCase(b).header.String()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseHeader(s); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTokenVerify(b *testing.B) {
	secret := make([]byte, 16)
	h := TokenHeader{Timestamp: 1700000000000, Version: V33}
	h.Digest = TokenDigest(secret, h.Nonce, h.Timestamp, h.Version)
	b.ReportAllocs()
	for b.Loop() {
		if !h.Verify(secret) {
			b.Fatal("no match")
		}
	}
}

// The ECDH is not in it: that is the key holder's, an HSM's perhaps.
func BenchmarkEnvelope(b *testing.B) {
	server, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(b, err)
	ephemeral, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(b, err)
	p := EnvelopeParams{
		Version: V33, Scope: ApplicationScope, SharedInfo1: InfoApplication,
		TemporaryKeyID: "2d6bf693-3928-4c01-a8d5-7c4a9671261e",
	}
	plain := make([]byte, 300)
	wire, _, err := SealRequest(ephemeral, server.PublicKey(), p, plain, Stamp{Timestamp: 1700000000000})
	require.NoError(b, err)
	c, err := ParseEncryptedRequest(V33, wire)
	require.NoError(b, err)
	z, err := server.ECDH(c.EphemeralKey)
	require.NoError(b, err)
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = ParseEncryptedRequest(V33, wire)
		}
	})
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := OpenRequest(z, p, c); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("open and seal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, r, err := OpenRequest(z, p, c)
			if err != nil {
				b.Fatal(err)
			}
			if _, err = r.Seal(plain, Stamp{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
