package signature

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"hash"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkKernel sets each operation of the hot path beside the sum of the
// primitive operations that the protocol demands of it ("primitives"): the same
// hashes, ciphers and agreements of the standard library over messages of the
// same length, keys ready where the protocol allows it, and nothing else. Verify
// stands also beside the way that agrees on keys for every request ("naive").
// The runner of package benchmarks reads the names.
func BenchmarkKernel(b *testing.B) {
	c := newBenchCase(b)
	var p primitives
	p.init()
	size := len(AppendBaseString(nil, c.req))

	sent := c.header.Signature.String()
	pair(b, "verify", func() bool {
		_, ok := c.keys.Verify(&c.header, c.req, c.ctr, DefaultLookAhead)
		return ok
	}, func() bool { return p.signature(size) })
	cpu(b, "verify/naive", func() bool { return naiveVerify(b, c, sent, 1) })

	wrong := c.header
	wrong.Signature.raw[0] ^= 1
	pair(b, "wrong over 20", func() bool {
		_, ok := c.keys.Verify(&wrong, c.req, c.ctr, DefaultLookAhead)
		return !ok
	}, func() bool {
		for range DefaultLookAhead {
			if !p.signature(size) {
				return false
			}
		}
		return true
	})

	secret := make([]byte, 16)
	h := TokenHeader{Timestamp: 1700000000000, Version: V33}
	h.Digest = TokenDigest(secret, h.Nonce, h.Timestamp, h.Version)
	pair(b, "token digest", func() bool { return h.Verify(secret) }, func() bool {
		d := p.hmac(16 + 1 + 13 + 1 + 3)
		return subtle.ConstantTimeCompare(d[:], d[:]) == 1
	})

	offline := c.req
	offline.Secret = []byte(OfflineSecret)
	digits, err := c.keys.SignOffline(8, PossessionKnowledge, offline, c.ctr)
	require.NoError(b, err)
	offlineSize := len(AppendBaseString(nil, offline))
	pair(b, "offline OTP", func() bool {
		_, ok := c.keys.VerifyOffline(&digits, offline, c.ctr, DefaultLookAhead, false)
		return ok
	}, func() bool { return p.signature(offlineSize) })

	master := MasterSecret(must(c.server.ECDH(must(ecdh.P256().NewPublicKey(c.device)))))
	pair(b, "key tree", func() bool { return DeriveKeys(master) != nil }, func() bool {
		var out [16]byte
		for range 5 { // three factors, transport, vault
			must(aes.NewCipher(master[:])).Encrypt(out[:], out[:])
		}
		for range 3 { // the pads of a factor key
			sha256.Sum256(p.buf[:blockSize])
			sha256.Sum256(p.buf[:blockSize])
		}
		return out != master
	})

	params := EnvelopeParams{
		Version: V33, Scope: ActivationScope, SharedInfo1: InfoCreateToken, ActivationID: c.header.ActivationID,
		TemporaryKeyID: "2d6bf693-3928-4c01-a8d5-7c4a9671261e", SharedInfo2: c.keys.ActivationSharedInfo2(c.req.Secret),
	}
	plain := bytes.Repeat([]byte{'x'}, 276)
	wire, _, err := SealRequest(must(ecdh.P256().GenerateKey(rand.Reader)), c.server.PublicKey(), params, plain, Stamp{Timestamp: 1700000000000})
	require.NoError(b, err)
	pair(b, "ECIES", func() bool {
		m := must(ParseEncryptedRequest(V33, wire))
		_, r, err := OpenRequest(must(c.server.ECDH(m.EphemeralKey)), params, m)
		require.NoError(b, err)
		_, err = r.Seal(plain, Stamp{})
		return err == nil
	}, func() bool { return p.envelope(c.server, c.device, len(plain)) })
}

func pair(b *testing.B, name string, ours, sum func() bool) {
	cpu(b, name+"/ours", ours)
	cpu(b, name+"/primitives", sum)
}

// primitives does the arithmetic of the protocol on dead data.
type primitives struct {
	buf   [2048]byte
	ready [2]hash.Hash // factor keys, used again
	sum   [32]byte
}

func (p *primitives) init() {
	for i := range p.ready {
		p.ready[i] = hmac.New(sha256.New, p.buf[:16])
	}
}

// hmac is HMAC-SHA256 over n bytes with a key that is new each time: two hashes,
// without the object of crypto/hmac.
func (p *primitives) hmac(n int) [32]byte {
	inner := sha256.Sum256(p.buf[:64+n])
	copy(p.buf[64:], inner[:])
	return sha256.Sum256(p.buf[:64+32])
}

// signature is two factors over n bytes: both keys over the counter, one mixed
// with itself, both over the data, a comparison, the next counter.
func (p *primitives) signature(n int) bool {
	for _, h := range p.ready {
		h.Reset()
		h.Write(p.buf[:16])
		h.Sum(p.sum[:0])
	}
	p.hmac(32)
	p.hmac(n)
	d := p.hmac(n)
	sha256.Sum256(p.buf[:16])
	return subtle.ConstantTimeCompare(d[:], d[:]) == 1
}

// envelope is one request of n bytes opened and one answer sealed: the point
// checked, the agreement, the KDF, and a cipher, an IV and a MAC for each way.
func (p *primitives) envelope(server *ecdh.PrivateKey, ephemeral []byte, n int) bool {
	z := must(server.ECDH(must(ecdh.P256().NewPublicKey(ephemeral))))
	for range 2 { // 48 bytes of keys
		sha256.Sum256(p.buf[:len(z)+4+65])
	}
	text := p.buf[512 : 512+(n/16+1)*16]
	for i := range 2 {
		p.hmac(32)
		block := must(aes.NewCipher(p.buf[:16]))
		if i == 0 {
			cipher.NewCBCDecrypter(block, p.buf[:16]).CryptBlocks(text, text)
		} else {
			cipher.NewCBCEncrypter(block, p.buf[:16]).CryptBlocks(text, text)
		}
		p.hmac(len(text) + 180) // with its associated data
	}
	return true
}
