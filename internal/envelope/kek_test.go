package envelope_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// errTag stands for hsm.ErrTag, the HSM's verdict on a blob.
var errTag = fault.New(fault.Internal, "TEST_TAG", "damaged")

// memKEK is a KEK in memory that can be out of order.
type memKEK struct {
	aead  cipher.AEAD
	down  atomic.Pointer[error]
	opens atomic.Int64
	gate  chan struct{}   // Open waits for it to close
	seals *sync.WaitGroup // Seal waits for all to come
}

func newKEK(tb testing.TB, key []byte) *memKEK {
	tb.Helper()
	block, err := aes.NewCipher(key)
	require.NoError(tb, err)
	aead, err := cipher.NewGCM(block)
	require.NoError(tb, err)
	return &memKEK{aead: aead}
}

func randomKEK(tb testing.TB) *memKEK {
	tb.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	return newKEK(tb, key)
}

func (k *memKEK) fail(err error) { k.down.Store(&err) }
func (k *memKEK) heal()          { k.down.Store(nil) }

func (k *memKEK) Seal(_ context.Context, plaintext, aad []byte) ([]byte, error) {
	if err := k.down.Load(); err != nil {
		return nil, *err
	}
	if k.seals != nil {
		k.seals.Done()
		k.seals.Wait()
	}
	nonce := make([]byte, 12)
	_, _ = rand.Read(nonce)
	return k.aead.Seal(nonce, nonce, plaintext, aad), nil
}

func (k *memKEK) Open(ctx context.Context, blob, aad []byte) ([]byte, error) {
	k.opens.Add(1)
	if k.gate != nil {
		select {
		case <-k.gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if err := k.down.Load(); err != nil {
		return nil, *err
	}
	if len(blob) < 12 {
		return nil, errTag
	}
	plain, err := k.aead.Open(nil, blob[:12], blob[12:], aad)
	if err != nil {
		return nil, errors.Join(errTag, err)
	}
	return plain, nil
}
