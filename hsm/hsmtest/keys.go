package hsmtest

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/hsm"
)

// sign signs text the plainest way the key has.
func sign(s crypto.Signer, text []byte) ([]byte, error) {
	if _, ok := s.Public().(ed25519.PublicKey); ok {
		return s.Sign(nil, text, crypto.Hash(0))
	}
	d := sha256.Sum256(text)
	return s.Sign(nil, d[:], crypto.SHA256)
}

// verify is the software's judgement of what sign made.
func verify(pub crypto.PublicKey, text, sig []byte) bool {
	d := sha256.Sum256(text)
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(pub, d[:], sig)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(pub, crypto.SHA256, d[:], sig) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(pub, text, sig)
	}
	return false
}

func digest(h crypto.Hash, text []byte) []byte {
	w := h.New()
	w.Write(text)
	return w.Sum(nil)
}

func testSignatures(t *testing.T, tok *hsm.Token, caps Caps) {
	text := []byte("the text")
	for _, a := range signing(caps) {
		r := ref(hsm.RoleSigner, string(a))
		info := generate(t, tok, r, a)
		s, err := tok.Signer(t.Context(), r)
		require.NoError(t, err)
		require.Equal(t, info.Public, s.Public())
		sig, err := sign(s, text)
		require.NoError(t, err, a)
		require.True(t, verify(s.Public(), text, sig), a)
		require.False(t, verify(s.Public(), []byte("another text"), sig), a)

		for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			d := digest(h, text)
			switch pub := s.Public().(type) {
			case *ecdsa.PublicKey:
				for range 20 { // r and s with and without a leading zero bit
					sig, err := s.SignContext(t.Context(), d, h)
					require.NoError(t, err)
					require.True(t, ecdsa.VerifyASN1(pub, d, sig), "%s %v", a, h)
				}
			case *rsa.PublicKey:
				sig, err := s.SignContext(t.Context(), d, h)
				require.NoError(t, err)
				require.NoError(t, rsa.VerifyPKCS1v15(pub, h, d, sig))
				for _, salt := range []int{rsa.PSSSaltLengthEqualsHash, rsa.PSSSaltLengthAuto, 20} {
					o := &rsa.PSSOptions{SaltLength: salt, Hash: h}
					sig, err := s.SignContext(t.Context(), d, o)
					require.NoError(t, err, "%v salt %d", h, salt)
					require.NoError(t, rsa.VerifyPSS(pub, h, d, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}))
				}
			}
		}
	}
}

// testCertificates uses the key as the standard library does.
func testCertificates(t *testing.T, tok *hsm.Token, caps Caps) {
	for _, a := range signing(caps) {
		r := ref(hsm.RoleSigner, string(a))
		generate(t, tok, r, a)
		s, err := tok.Signer(t.Context(), r)
		require.NoError(t, err)
		tpl := &x509.Certificate{
			SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "contract"}, IsCA: true, BasicConstraintsValid: true,
			NotBefore: time.Unix(1_700_000_000, 0), NotAfter: time.Unix(1_800_000_000, 0), KeyUsage: x509.KeyUsageCertSign,
		}
		der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, s.Public(), s)
		require.NoError(t, err, a)
		cert, err := x509.ParseCertificate(der)
		require.NoError(t, err, a)
		require.NoError(t, cert.CheckSignatureFrom(cert), a)
	}
}

func testRefusedInput(t *testing.T, tok *hsm.Token, caps Caps) {
	text := []byte("the text")
	d256, d1 := sha256.Sum256(text), make([]byte, 20)
	d512 := sha512.Sum512(text)
	for _, a := range signing(caps) {
		r := ref(hsm.RoleSigner, string(a))
		generate(t, tok, r, a)
		s, err := tok.Signer(t.Context(), r)
		require.NoError(t, err)
		refused := map[string]func() ([]byte, error){
			"no options": func() ([]byte, error) { return s.Sign(nil, d256[:], nil) },
			"SHA-1":      func() ([]byte, error) { return s.Sign(nil, d1, crypto.SHA1) },
		}
		if a == hsm.Ed25519 {
			refused["a digest"] = func() ([]byte, error) { return s.Sign(nil, d512[:], crypto.SHA512) }
			refused["a context"] = func() ([]byte, error) { return s.Sign(nil, text, &ed25519.Options{Context: "x"}) }
		} else {
			refused["a wrong length"] = func() ([]byte, error) { return s.Sign(nil, d256[:31], crypto.SHA256) }
			refused["no hash"] = func() ([]byte, error) { return s.Sign(nil, d256[:], crypto.Hash(0)) }
		}
		if a == hsm.RSA2048 {
			refused["a long salt"] = func() ([]byte, error) {
				return s.Sign(nil, d256[:], &rsa.PSSOptions{SaltLength: 1000, Hash: crypto.SHA256})
			}
		}
		for what, f := range refused {
			_, err := f()
			require.ErrorIs(t, err, hsm.ErrUnsupported, "%s: %s", a, what)
		}
		sig, err := sign(s, text) // and nothing of it hurt the key
		require.NoError(t, err)
		require.True(t, verify(s.Public(), text, sig))
	}
}

func testSealing(t *testing.T, tok *hsm.Token, caps Caps) {
	if !caps.has(hsm.AES256) {
		return // testRoles proves the refusal
	}
	ctx, r := t.Context(), ref(hsm.RoleKEK, "k")
	generate(t, tok, r, hsm.AES256)
	generate(t, tok, ref(hsm.RoleKEK, "other"), hsm.AES256)
	kek, err := tok.AEAD(ctx, r)
	require.NoError(t, err)
	other, err := tok.AEAD(ctx, ref(hsm.RoleKEK, "other"))
	require.NoError(t, err)
	aad := []byte("tenant|table|row")
	for _, n := range []int{0, 1, 15, 16, 17, 32, 4096} {
		plain := make([]byte, n)
		_, _ = rand.Read(plain)
		blob, err := kek.Seal(ctx, plain, aad)
		require.NoError(t, err)
		require.Len(t, blob, 12+n+16)
		again, err := kek.Seal(ctx, plain, aad)
		require.NoError(t, err)
		require.NotEqual(t, blob[:12], again[:12], "a nonce must not come twice")
		back, err := kek.Open(ctx, blob, aad)
		require.NoError(t, err)
		require.Equal(t, string(plain), string(back))
	}
	blob, err := kek.Seal(ctx, []byte("secret"), aad)
	require.NoError(t, err)
	for i := range blob {
		bad := append([]byte(nil), blob...)
		bad[i] ^= 1
		_, err := kek.Open(ctx, bad, aad)
		require.ErrorIs(t, err, hsm.ErrTag, "byte %d", i)
	}
	for n := range blob {
		_, err := kek.Open(ctx, blob[:n], aad)
		require.ErrorIs(t, err, hsm.ErrTag, "first %d bytes", n)
	}
	_, err = kek.Open(ctx, blob, []byte("tenant|table|row2"))
	require.ErrorIs(t, err, hsm.ErrTag)
	_, err = other.Open(ctx, blob, aad)
	require.ErrorIs(t, err, hsm.ErrTag)
	_, err = kek.Seal(ctx, []byte("x"), nil)
	require.ErrorIs(t, err, hsm.ErrUnsupported)
	_, err = kek.Open(ctx, blob, nil)
	require.ErrorIs(t, err, hsm.ErrUnsupported)
}

func testMAC(t *testing.T, tok *hsm.Token, caps Caps) {
	if !caps.has(hsm.HMACSHA256) {
		return // testRoles proves the refusal
	}
	ctx := t.Context()
	seen := map[string]bool{}
	for _, name := range []string{"a", "b"} {
		generate(t, tok, ref(hsm.RoleMAC, name), hsm.HMACSHA256)
		m, err := tok.MAC(ctx, ref(hsm.RoleMAC, name))
		require.NoError(t, err)
		for _, msg := range [][]byte{nil, []byte("x"), make([]byte, 64), make([]byte, 65), make([]byte, 10_000)} {
			one, err := m.MAC(ctx, msg)
			require.NoError(t, err)
			two, err := m.MAC(ctx, msg)
			require.NoError(t, err)
			require.Len(t, one, 32)
			require.Equal(t, one, two)
			require.False(t, seen[string(one)])
			seen[string(one)] = true
		}
	}
}

func testAgreement(t *testing.T, tok *hsm.Token, caps Caps) {
	if caps.NoAgreement {
		_, err := tok.Generate(t.Context(), ref(hsm.RoleMaster, "m"), hsm.P256, [16]byte{})
		require.ErrorIs(t, err, hsm.ErrUnsupported)
		return
	}
	ctx, r := t.Context(), ref(hsm.RoleMaster, "m")
	info := generate(t, tok, r, hsm.P256)
	a, err := tok.Agreement(ctx, r)
	require.NoError(t, err)
	pub, err := info.Public.(*ecdsa.PublicKey).ECDH()
	require.NoError(t, err)
	short := 0
	for range 600 { // about two shared secrets begin with a zero byte
		peer, err := ecdh.P256().GenerateKey(rand.Reader)
		require.NoError(t, err)
		want, err := peer.ECDH(pub)
		require.NoError(t, err)
		got, err := a.ECDH(ctx, peer.PublicKey())
		require.NoError(t, err)
		require.Equal(t, want, got)
		if want[0] == 0 {
			short++
		}
	}
	t.Logf("%d shared secrets began with a zero byte", short)
	x, err := ecdh.X25519().GenerateKey(rand.Reader)
	require.NoError(t, err)
	_, err = a.ECDH(ctx, x.PublicKey())
	require.ErrorIs(t, err, hsm.ErrUnsupported)
	_, err = a.ECDH(ctx, nil)
	require.ErrorIs(t, err, hsm.ErrUnsupported)
	s, err := tok.Signer(ctx, r) // the same key signs
	require.NoError(t, err)
	sig, err := sign(s, []byte("x"))
	require.NoError(t, err)
	require.True(t, verify(info.Public, []byte("x"), sig))
}

// testLoad mixes operations of many goroutines over few lanes.
func testLoad(t *testing.T, tok *hsm.Token, caps Caps) {
	r := ref(hsm.RoleSigner, "l")
	generate(t, tok, r, signing(caps)[0])
	s, err := tok.Signer(t.Context(), r)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	failed := make(chan error, 1000)
	for g := range 32 {
		wg.Go(func() {
			for i := range 20 {
				text := []byte{byte(g), byte(i)}
				sig, err := sign(s, text)
				if err == nil && !verify(s.Public(), text, sig) {
					err = errors.New("a signature that does not verify")
				}
				if err == nil {
					err = tok.Random(ctx, make([]byte, 16))
				}
				if err != nil {
					failed <- err
				}
			}
		})
	}
	wg.Wait()
	close(failed)
	for err := range failed {
		require.NoError(t, err)
	}
}
