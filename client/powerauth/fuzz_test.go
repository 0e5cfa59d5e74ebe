package powerauth

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/signature"
)

// Nothing that was not signed by the key is believed.
func FuzzTemporaryKeyAnswer(f *testing.F) {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(f, err)
	for _, s := range []string{"", "..", "eyJhbGciOiJFUzI1NiJ9.e30.AAAA", "eyJhbGciOiJub25lIn0.e30.", "a.b.c.d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, jwt string) {
		_, err := readTemporary(jwt, key.PublicKey(), temporaryClaims{})
		require.ErrorIs(t, err, ErrProtocol)
	})
}

// A code that nobody signed is refused whatever it says; once the bank signs it,
// the phone reads the lines that were signed and no others.
func FuzzScanOffline(f *testing.F) {
	scalar := append(make([]byte, 31), 7) // the same in every process, so that a corpus stays of use
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar)
	require.NoError(f, err)
	public, err := key.PublicKey.ECDH()
	require.NoError(f, err)
	d := &Device{master: public, activation: &activation{server: public}}
	sign := func(tb testing.TB, text string) string {
		digest := sha256.Sum256([]byte(text))
		der, err := key.Sign(nil, digest[:], crypto.SHA256) // deterministic, as coverage has to be
		require.NoError(tb, err)
		return text + signature.EncodeBase64(der)
	}
	f.Add("id\ntitle\nmessage\nA2\nB\n7YLYRMvRIX0GZD94/oGPjg==\n1MEQ=")
	f.Add("id\ntitle\nmessage\nA2\nB\n7YLYRMvRIX0GZD94/oGPjg==\n1")
	f.Add("id\nti\\ntle\nme\\\\ssage\nA1*A100CZK\n\n01234567\n7YLYRMvRIX0GZD94/oGPjg==\n0")
	f.Add("id\nt\nm\nA2\nB\n01234567\nnewer\n7YLYRMvRIX0GZD94/oGPjg==\n0")
	f.Add("id\nt\nm\nA2\nB\n7YLYRMvRIX0=\n0")
	f.Add(sign(f, "id\nt\nm\nA2\nB\n7YLYRMvRIX0GZD94/oGPjg==\n1"))
	f.Add("id\n\n\n\n\n\n\n0")
	f.Add("\n")
	f.Fuzz(func(t *testing.T, code string) {
		if s, err := d.ScanOffline(code); err == nil {
			require.NotEmpty(t, s.OperationID) // a seed that is signed
		} else {
			require.ErrorIs(t, err, ErrOfflineQR)
		}
		if len(code) > 4096 {
			return
		}
		s, err := d.ScanOffline(sign(t, code))
		if err != nil {
			require.ErrorIs(t, err, ErrOfflineQR)
			return
		}
		line := strings.Split(code, "\n")
		last := line[len(line)-1]
		require.Len(t, last, 1, "the signature covers all before it")
		require.Equal(t, last == "1", s.Personal)
		require.Equal(t, []string{line[0], line[3], line[4]}, []string{s.OperationID, s.Data, s.Flags})
		nonce, err := signature.ParseBase64(line[len(line)-2])
		require.NoError(t, err)
		require.Equal(t, nonce, s.Nonce[:])
		if len(line) == 7 {
			line[5] = "" // it is the nonce
		}
		require.Equal(t, line[5], s.TOTP)
	})
}
