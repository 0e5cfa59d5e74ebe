package hsm

import (
	"context"
	"time"
)

// macLen is the length of an HMAC-SHA256.
const macLen = 32

// MAC is an HMAC-SHA256 key in the token.
type MAC struct {
	token *Token
	key   *known
}

// MAC returns a handle for a key of RoleMAC.
func (t *Token) MAC(ctx context.Context, ref Ref) (*MAC, error) {
	k, err := t.known(ctx, ref)
	if err != nil {
		return nil, err
	}
	if k.info.Algorithm != HMACSHA256 {
		return nil, wrongRole(ref, "HMAC")
	}
	return &MAC{t, k}, nil
}

// Info describes the key.
func (m *MAC) Info() KeyInfo { return m.key.info }

// MAC returns the 32-byte HMAC-SHA256 of msg.
func (m *MAC) MAC(ctx context.Context, msg []byte) ([]byte, error) {
	return m.AppendMAC(ctx, make([]byte, 0, macLen), msg)
}

// AppendMAC is MAC that appends to dst; with room there it allocates nothing.
func (m *MAC) AppendMAC(ctx context.Context, dst, msg []byte) ([]byte, error) {
	start := time.Now()
	out, err := m.token.engine.MAC(ctx, m.key.key, dst, msg)
	m.token.used(m.key, OpMAC, 0, start, err)
	return out, err
}
