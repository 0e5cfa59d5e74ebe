package broker

import (
	"context"
	"fmt"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/broker/wire"
)

// Lengths that an answer must have; a worker that gives another lies.
const (
	macLen  = 32
	pointZ  = 32
	sealing = 12 + 16 // what Seal adds
	anyLen  = -1
)

// bytes runs the call and appends its answer, which has n bytes.
func (b *Broker) bytes(ctx context.Context, c *call, dst []byte, n int) ([]byte, error) {
	op := c.request.Op
	if err := b.do(ctx, c); err != nil {
		return nil, err
	}
	defer c.free()
	if n != anyLen && len(c.answer) != n || len(c.answer) == 0 && n == anyLen {
		return nil, fmt.Errorf("hsm: %w: the worker's answer to %s has %d bytes", hsm.ErrRefused, op, len(c.answer))
	}
	return append(dst, c.answer...), nil
}

// Sign implements hsm.Engine.
func (b *Broker) Sign(ctx context.Context, k hsm.Key, m hsm.Mechanism, dst, in []byte) ([]byte, error) {
	c := newCall(hsm.OpSign)
	c.key(k)
	c.request.Mechanism, c.request.Data = m, in
	return b.bytes(ctx, c, dst, anyLen)
}

// MAC implements hsm.Engine.
func (b *Broker) MAC(ctx context.Context, k hsm.Key, dst, msg []byte) ([]byte, error) {
	c := newCall(hsm.OpMAC)
	c.key(k)
	c.request.Data = msg
	return b.bytes(ctx, c, dst, macLen)
}

// Seal implements hsm.Engine.
func (b *Broker) Seal(ctx context.Context, k hsm.Key, dst, plaintext, aad []byte) ([]byte, error) {
	c := newCall(hsm.OpSeal)
	c.key(k)
	c.request.Data, c.request.AAD = plaintext, aad
	return b.bytes(ctx, c, dst, len(plaintext)+sealing)
}

// Unseal implements hsm.Engine.
func (b *Broker) Unseal(ctx context.Context, k hsm.Key, dst, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < sealing {
		return nil, fmt.Errorf("hsm: %w: sealed value of %d bytes", hsm.ErrTag, len(sealed))
	}
	c := newCall(hsm.OpUnseal)
	c.key(k)
	c.request.Data, c.request.AAD = sealed, aad
	return b.bytes(ctx, c, dst, len(sealed)-sealing)
}

// Agree implements hsm.Engine.
func (b *Broker) Agree(ctx context.Context, k hsm.Key, dst, point []byte) ([]byte, error) {
	c := newCall(hsm.OpAgree)
	c.key(k)
	c.request.Data = point
	return b.bytes(ctx, c, dst, pointZ)
}

// Random implements hsm.Engine.
func (b *Broker) Random(ctx context.Context, p []byte) error {
	c := newCall(hsm.OpRandom)
	c.request.Size = len(p)
	out, err := b.bytes(ctx, c, p[:0], len(p))
	if err == nil && len(p) > 0 && &out[0] != &p[0] {
		copy(p, out)
	}
	return err
}

// Find implements hsm.Engine.
func (b *Broker) Find(ctx context.Context, ref hsm.Ref) (hsm.KeyInfo, error) {
	if err := ref.Validate(); err != nil {
		return hsm.KeyInfo{}, err
	}
	c := newCall(hsm.OpFind)
	c.ref(ref)
	return b.info(ctx, c, ref, b.do)
}

// info runs a call whose answer describes the key ref.
func (b *Broker) info(ctx context.Context, c *call, ref hsm.Ref, do func(context.Context, *call) error) (hsm.KeyInfo, error) {
	if err := do(ctx, c); err != nil {
		return hsm.KeyInfo{}, err
	}
	defer c.free()
	k, err := wire.ParseKeyInfo(c.answer)
	if err == nil && k.Ref != ref {
		err = fmt.Errorf("the answer is about another key")
	}
	if err != nil {
		return hsm.KeyInfo{}, fmt.Errorf("hsm: %w: the worker: %w", hsm.ErrRefused, err)
	}
	return k, nil
}

// Keys implements hsm.Engine.
func (b *Broker) Keys(ctx context.Context) ([]hsm.Found, error) {
	c := newCall(hsm.OpKeys)
	if err := b.do(ctx, c); err != nil {
		return nil, err
	}
	defer c.free()
	list, err := wire.ParseKeys(c.answer)
	if err != nil {
		return nil, fmt.Errorf("hsm: %w: the worker: %w", hsm.ErrRefused, err)
	}
	return list, nil
}

// Generate implements hsm.Engine.
func (b *Broker) Generate(ctx context.Context, ref hsm.Ref, alg hsm.Algorithm, id [16]byte) (hsm.KeyInfo, error) {
	if err := ref.Validate(); err != nil {
		return hsm.KeyInfo{}, err
	}
	c := newCall(hsm.OpGenerate)
	c.ref(ref)
	c.request.Algorithm, c.request.KeyID = string(alg), id
	return b.info(ctx, c, ref, b.manage)
}

// Destroy implements hsm.Engine.
func (b *Broker) Destroy(ctx context.Context, ref hsm.Ref) error {
	if err := ref.Validate(); err != nil {
		return err
	}
	c := newCall(hsm.OpDestroy)
	c.ref(ref)
	if err := b.manage(ctx, c); err != nil {
		return err
	}
	c.free()
	return nil
}

// Check implements hsm.Engine.
func (b *Broker) Check(ctx context.Context) error {
	c := newCall(hsm.OpCheck)
	if err := b.do(ctx, c); err != nil {
		return err
	}
	c.free()
	return nil
}

// Info implements hsm.Engine.
func (b *Broker) Info(ctx context.Context) (hsm.TokenInfo, error) {
	c := newCall(hsm.OpInfo)
	if err := b.do(ctx, c); err != nil {
		return hsm.TokenInfo{}, err
	}
	defer c.free()
	var info hsm.TokenInfo
	if err := wire.ParseJSON(c.answer, &info); err != nil {
		return info, fmt.Errorf("hsm: %w: the worker: %w", hsm.ErrRefused, err)
	}
	return info, nil
}
