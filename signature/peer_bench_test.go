package signature

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/argon2"
)

// BenchmarkPeer measures the cases for which figures of the reference
// implementation are known (benchmarks/RESULTS.md), with the same 276 bytes of
// data. cpu-ns/op is CPU time of the process, garbage collection included: on a
// shared machine the neighbours change it far less than the time on the clock.
func BenchmarkPeer(b *testing.B) {
	c := newBenchCase(b)
	master := MasterSecret(must(c.server.ECDH(must(ecdh.P256().NewPublicKey(c.device)))))
	sent := c.header.Signature.String()
	wrong := c.header
	wrong.Signature.raw[0] ^= 1
	wrongSent := wrong.Signature.String()
	cpu(b, "verify, keys ready", func() bool {
		_, ok := c.keys.Verify(&c.header, c.req, c.ctr, DefaultLookAhead)
		return ok
	})
	cpu(b, "verify, keys derived", func() bool {
		_, ok := DeriveKeys(master).Verify(&c.header, c.req, c.ctr, DefaultLookAhead)
		return ok
	})
	cpu(b, "verify, server flow", func() bool { return naiveVerify(b, c, sent, 1) })
	cpu(b, "wrong over 20, keys ready", func() bool {
		_, ok := c.keys.Verify(&wrong, c.req, c.ctr, DefaultLookAhead)
		return !ok
	})
	cpu(b, "wrong over 20, server flow", func() bool { return !naiveVerify(b, c, wrongSent, DefaultLookAhead) })

	offline := c.req
	offline.Secret = []byte(OfflineSecret)
	digits, err := c.keys.SignOffline(8, PossessionKnowledge, offline, c.ctr)
	require.NoError(b, err)
	cpu(b, "offline 8+8", func() bool {
		_, ok := c.keys.VerifyOffline(&digits, offline, c.ctr, DefaultLookAhead, false)
		return ok
	})

	secret := make([]byte, 16)
	h := TokenHeader{Timestamp: 1700000000000, Version: V33}
	h.Digest = TokenDigest(secret, h.Nonce, h.Timestamp, h.Version)
	cpu(b, "token digest 3.3", func() bool { return h.Verify(secret) })

	var challenge, nonce [16]byte
	random := StatusRandom{}
	cpu(b, "status blob", func() bool {
		c.keys.EncryptStatus(Status{}, &challenge, &nonce, &random)
		return true
	})

	peer := must(ecdh.P256().NewPublicKey(c.device))
	cpu(b, "ECDH and fold", func() bool {
		MasterSecret(must(c.server.ECDH(peer)))
		return true
	})
	signer := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	digest := sha256.Sum256([]byte("data"))
	der := must(ecdsa.SignASN1(rand.Reader, signer, digest[:]))
	cpu(b, "ECDSA sign", func() bool { return must(ecdsa.SignASN1(rand.Reader, signer, digest[:])) != nil })
	cpu(b, "ECDSA verify", func() bool { return ecdsa.VerifyASN1(&signer.PublicKey, digest[:], der) })
	cpu(b, "P-256 key pair", func() bool { return must(ecdh.P256().GenerateKey(rand.Reader)) != nil })

	p := EnvelopeParams{
		Version: V33, Scope: ActivationScope, SharedInfo1: InfoCreateToken, ActivationID: c.header.ActivationID,
		TemporaryKeyID: "2d6bf693-3928-4c01-a8d5-7c4a9671261e", SharedInfo2: c.keys.ActivationSharedInfo2(c.req.Secret),
	}
	plain := bytes.Repeat([]byte{'x'}, 276)
	wire, _, err := SealRequest(must(ecdh.P256().GenerateKey(rand.Reader)), c.server.PublicKey(), p, plain, Stamp{Timestamp: 1700000000000})
	require.NoError(b, err)
	cpu(b, "ECIES 3.3, decrypt and answer", func() bool {
		m := must(ParseEncryptedRequest(V33, wire))
		_, r, err := OpenRequest(must(c.server.ECDH(m.EphemeralKey)), p, m)
		require.NoError(b, err)
		_, err = r.Seal(plain, Stamp{})
		return err == nil
	})
	cpu(b, "Argon2i as the reference", func() bool {
		return len(argon2.Key([]byte("1234567890"), make([]byte, 16), 3, 32<<10, 16, 32)) == 32
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func cpu(b *testing.B, name string, f func() bool) {
	b.Run(name, func(b *testing.B) {
		b.ReportAllocs()
		from := processTime()
		for b.Loop() {
			if !f() {
				b.Fatal("the wrong answer")
			}
		}
		b.ReportMetric(float64(processTime()-from)/float64(b.N), "cpu-ns/op")
	})
}

func processTime() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
