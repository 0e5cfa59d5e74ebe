package hsm

import (
	"context"
	"fmt"

	p11 "github.com/miekg/pkcs11"
)

// MAC is an HMAC-SHA256 key in the token.
type MAC struct {
	token *Token
	key   *entry
}

// MAC returns a handle for a key of RoleMAC.
func (t *Token) MAC(ctx context.Context, ref Ref) (*MAC, error) {
	e, err := t.entry(ctx, ref)
	if err != nil {
		return nil, err
	}
	if e.info.Algorithm != HMACSHA256 {
		return nil, wrongRole(ref, "HMAC")
	}
	return &MAC{t, e}, nil
}

// Info describes the key.
func (m *MAC) Info() KeyInfo { return m.key.info }

var hmacMechanism = []*p11.Mechanism{p11.NewMechanism(p11.CKM_SHA256_HMAC, nil)}

// MAC returns the 32-byte HMAC-SHA256 of msg.
func (m *MAC) MAC(ctx context.Context, msg []byte) ([]byte, error) {
	var mac []byte
	err := m.token.do(ctx, call{mechanism: "hmac", key: m.key, run: func(s p11.SessionHandle, at located) (err error) {
		mac, err = m.token.sign(s, hmacMechanism, at.private, msg)
		return err
	}})
	if err != nil {
		return nil, err
	}
	if len(mac) != 32 {
		return nil, fmt.Errorf("hsm: %w: HMAC of %d bytes", ErrRefused, len(mac))
	}
	return mac, nil
}
