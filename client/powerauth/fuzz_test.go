package powerauth

import (
	"crypto/ecdh"
	"crypto/rand"
	"testing"

	"github.com/stretchr/testify/require"
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

func FuzzScanOffline(f *testing.F) {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(f, err)
	d := &Device{master: key.PublicKey(), activation: &activation{server: key.PublicKey()}}
	f.Add("id\ntitle\nmessage\nA2\nB\n7YLYRMvRIX0GZD94/oGPjg==\n1MEQ=")
	f.Add("id\n\n\n\n\n\n\n0")
	f.Add("\n")
	f.Fuzz(func(t *testing.T, code string) {
		_, err := d.ScanOffline(code)
		require.ErrorIs(t, err, ErrOfflineQR)
	})
}
