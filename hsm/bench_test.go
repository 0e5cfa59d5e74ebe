package hsm_test

import (
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/ThalesGroup/crypto11"
	p11 "github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/softhsm"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

// goroutines runs f from n goroutines, b.N times in all.
func goroutines(b *testing.B, n int, f func() error) {
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan error, n)
	for range n {
		go func() {
			for left.Add(-1) >= 0 {
				if err := f(); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range n {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

// benchToken is a token with one P-256 signer, and the digest to sign.
func benchToken(b *testing.B) (*softhsm.Token, []byte) {
	b.Helper()
	st := softhsmtest.Create(b)
	tok, err := hsm.Open(b.Context(), st.HSM())
	require.NoError(b, err)
	_, err = tok.Generate(b.Context(), signerRef, hsm.P256, [16]byte{1})
	require.NoError(b, err)
	require.NoError(b, tok.Close())
	d := sha256.Sum256([]byte("x"))
	return st, d[:]
}

func BenchmarkSignP256(b *testing.B) {
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprintf("signet/g=%d", n), func(b *testing.B) {
			st, d := benchToken(b)
			tok := softhsmtest.Open(b, st.HSM())
			s, err := tok.Signer(b.Context(), signerRef)
			require.NoError(b, err)
			goroutines(b, n, func() error {
				_, err := s.SignContext(context.Background(), d, crypto.SHA256)
				return err
			})
		})
		// The floor: C_SignInit and C_Sign through miekg/pkcs11, as many
		// sessions as signet has lanes, raw r||s.
		b.Run(fmt.Sprintf("bare/g=%d", n), func(b *testing.B) {
			st, d := benchToken(b)
			c, sessions, key := bare(b, st)
			m := []*p11.Mechanism{p11.NewMechanism(p11.CKM_ECDSA, nil)}
			goroutines(b, n, func() error {
				s := <-sessions
				defer func() { sessions <- s }()
				if err := c.SignInit(s, m, key); err != nil {
					return err
				}
				_, err := c.Sign(s, d)
				return err
			})
		})
		b.Run(fmt.Sprintf("crypto11/g=%d", n), func(b *testing.B) {
			st, d := benchToken(b)
			b.Setenv("SOFTHSM2_CONF", st.Conf)
			c, err := crypto11.Configure(&crypto11.Config{
				Path: st.Module, TokenLabel: st.Label, Pin: string(st.PIN.Reveal()), MaxSessions: 5, // one is kept for the login
			})
			require.NoError(b, err)
			defer func() { _ = c.Close() }()
			s, err := c.FindKeyPair(nil, []byte(signerRef.String()))
			require.NoError(b, err)
			require.NotNil(b, s)
			goroutines(b, n, func() error {
				_, err := s.Sign(nil, d, crypto.SHA256)
				return err
			})
		})
	}
}

// bare opens a module without package hsm.
func bare(b *testing.B, st *softhsm.Token) (*p11.Ctx, chan p11.SessionHandle, p11.ObjectHandle) {
	b.Helper()
	b.Setenv("SOFTHSM2_CONF", st.Conf)
	c := p11.New(st.Module)
	require.NotNil(b, c)
	require.NoError(b, c.Initialize())
	b.Cleanup(func() {
		_ = c.Finalize()
		c.Destroy()
	})
	slots, err := c.GetSlotList(true)
	require.NoError(b, err)
	sessions := make(chan p11.SessionHandle, 4)
	for i := range cap(sessions) {
		s, err := c.OpenSession(slots[0], p11.CKF_SERIAL_SESSION)
		require.NoError(b, err)
		if i == 0 {
			require.NoError(b, c.Login(s, p11.CKU_USER, string(st.PIN.Reveal())))
		}
		sessions <- s
	}
	s := <-sessions
	defer func() { sessions <- s }()
	require.NoError(b, c.FindObjectsInit(s, []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY), p11.NewAttribute(p11.CKA_LABEL, signerRef.String()),
	}))
	keys, _, err := c.FindObjects(s, 2)
	require.NoError(b, err)
	require.NoError(b, c.FindObjectsFinal(s))
	require.Len(b, keys, 1)
	return c, sessions, keys[0]
}

func BenchmarkMAC(b *testing.B) {
	tok := softhsmtest.New(b)
	ref := hsm.Ref{Tenant: "alpha", Role: hsm.RoleMAC, Name: "m"}
	_, err := tok.Generate(b.Context(), ref, hsm.HMACSHA256, [16]byte{})
	require.NoError(b, err)
	m, err := tok.MAC(b.Context(), ref)
	require.NoError(b, err)
	msg := make([]byte, 64)
	goroutines(b, 1, func() error {
		_, err := m.MAC(context.Background(), msg)
		return err
	})
}

func BenchmarkSeal(b *testing.B) {
	tok := softhsmtest.New(b)
	ref := hsm.Ref{Tenant: "alpha", Role: hsm.RoleKEK, Name: "k"}
	_, err := tok.Generate(b.Context(), ref, hsm.AES256, [16]byte{})
	require.NoError(b, err)
	k, err := tok.AEAD(b.Context(), ref)
	require.NoError(b, err)
	plain, aad := make([]byte, 32), []byte("alpha|1")
	goroutines(b, 1, func() error {
		_, err := k.Seal(context.Background(), plain, aad)
		return err
	})
}

func BenchmarkLookup(b *testing.B) {
	tok := softhsmtest.New(b)
	_, err := tok.Generate(b.Context(), signerRef, hsm.P256, [16]byte{})
	require.NoError(b, err)
	goroutines(b, 1, func() error {
		_, err := tok.Lookup(context.Background(), signerRef)
		return err
	})
}
