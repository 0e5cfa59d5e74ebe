package envelope_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
)

// The bytes on disk, put together here by hand from the package comment: neither
// a sealed DEK nor a blob may ever change its form, for old rows must open.
func TestGoldenFormat(t *testing.T) {
	t.Parallel()
	kekKey := bytes.Repeat([]byte{0x11}, 32)
	dek := bytes.Repeat([]byte{0x22}, 32)
	nonce := bytes.Repeat([]byte{0x33}, 12)
	gcm := func(key []byte) cipher.AEAD {
		block, err := aes.NewCipher(key)
		require.NoError(t, err)
		aead, err := cipher.NewGCM(block)
		require.NoError(t, err)
		return aead
	}
	part := func(s string) string { return string([]byte{0, 0, 0, byte(len(s))}) + s }

	sealedDEK := gcm(kekKey).Seal(bytes.Clone(nonce), nonce, dek, []byte("signet/dek/1"+"\x00\x00\x00\x01"+part("alpha")))
	encoded := "\x01" + "\x00\x00\x00\x01" + part("alpha") + part("app") + part("secret") + part("mobile/1")
	rowKey, err := hkdf.Key(sha256.New, dek, nil, encoded, 32)
	require.NoError(t, err)
	blob := append([]byte("\x01\x00\x00\x00\x01"), nonce...)
	blob = gcm(rowKey).Seal(blob, nonce, []byte("golden"), []byte(encoded))

	want, err := os.ReadFile("testdata/golden.txt")
	require.NoError(t, err)
	require.Equal(t, string(want), strings.Join([]string{
		"dek  " + hex.EncodeToString(sealedDEK), "blob " + hex.EncodeToString(blob), "",
	}, "\n"))

	pool := pgtest.New(t)
	_, err = pool.Exec(t.Context(), `insert into dek (tenant_id, version, kek, sealed, created_at) values ('alpha', 1, 'kek', $1, now())`, sealedDEK)
	require.NoError(t, err)
	ring := envelope.New(pool, newKEK(t, kekKey), envelope.Options{})
	got, err := ring.Open(t.Context(), place, blob)
	require.NoError(t, err)
	require.Equal(t, "golden", string(got.Reveal()))

	// And what the package itself seals is the same but for its nonce.
	own, err := ring.Seal(t.Context(), place, []byte("golden"))
	require.NoError(t, err)
	require.Equal(t, blob[:5], own[:5])
	require.Equal(t, gcm(rowKey).Seal(nil, own[5:17], []byte("golden"), []byte(encoded)), own[17:])
}
