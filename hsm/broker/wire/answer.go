package wire

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"

	"github.com/signet-hsm/signet/hsm"
)

// AppendFailure appends what hsm.FailureOf made of an error.
func AppendFailure(dst []byte, f hsm.Failure) []byte {
	n := min(len(f.Reasons), 255)
	dst = append(dst, byte(n))
	for _, r := range f.Reasons[:n] {
		dst = appendShort(dst, r)
	}
	dst = binary.BigEndian.AppendUint64(dst, uint64(f.CKR))
	return appendText(append(dst, byte(f.Context)), f.Text)
}

func (c *cursor) failure() hsm.Failure {
	var f hsm.Failure
	for range c.u8() {
		f.Reasons = append(f.Reasons, string(c.short()))
		if c.bad {
			return hsm.Failure{}
		}
	}
	f.CKR = uint(c.u64())
	if f.Context = hsm.Interrupt(c.u8()); f.Context > hsm.DeadlinePassed {
		c.bad = true
	}
	f.Text = c.text()
	return f
}

// ParseFailure is the inverse of AppendFailure.
func ParseFailure(body []byte) (hsm.Failure, error) {
	c := cursor{b: body}
	f := c.failure()
	return f, c.done("failure")
}

// AppendFailed appends a KindFailed frame.
func AppendFailed(dst []byte, id uint64, err error) []byte {
	start := len(dst)
	return End(AppendFailure(Begin(dst, KindFailed, id), hsm.FailureOf(err)), start)
}

// AppendKeyInfo appends the description of a key.
func AppendKeyInfo(dst []byte, k hsm.KeyInfo) ([]byte, error) {
	label := AppendLabel(nil, k.Ref)
	dst = append(append(dst, byte(len(label))), label...)
	dst = append(dst, k.ID[:]...)
	dst = appendShort(dst, string(k.Algorithm))
	var spki []byte
	if k.Public != nil {
		var err error
		if spki, err = x509.MarshalPKIXPublicKey(k.Public); err != nil {
			return nil, err
		}
	}
	return appendBytes(dst, spki), nil
}

func (c *cursor) keyInfo() hsm.KeyInfo {
	var k hsm.KeyInfo
	label := c.short()
	copy(k.ID[:], c.take(len(k.ID)))
	k.Algorithm = hsm.Algorithm(c.short())
	spki := c.bytes()
	if c.bad {
		return hsm.KeyInfo{}
	}
	var err error
	if k.Ref, err = hsm.ParseRef(string(label)); err != nil {
		c.bad = true
	}
	if len(spki) > 0 {
		// A key may alias what it is parsed from, which is overwritten soon.
		if k.Public, err = x509.ParsePKIXPublicKey(bytes.Clone(spki)); err != nil {
			c.bad = true
			return hsm.KeyInfo{}
		}
		again, err := x509.MarshalPKIXPublicKey(k.Public)
		c.bad = c.bad || err != nil || !bytes.Equal(again, spki) // a second spelling
	}
	return k
}

// ParseKeyInfo is the inverse of AppendKeyInfo.
func ParseKeyInfo(body []byte) (hsm.KeyInfo, error) {
	c := cursor{b: body}
	k := c.keyInfo()
	return k, c.done("key info")
}

// AppendKeys appends an enumeration.
func AppendKeys(dst []byte, list []hsm.Found) ([]byte, error) {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(list)))
	for _, f := range list {
		var err error
		if dst, err = AppendKeyInfo(dst, f.KeyInfo); err != nil {
			return nil, err
		}
		dst = AppendFailure(dst, hsm.FailureOf(f.Bad))
	}
	return dst, nil
}

// ParseKeys is the inverse of AppendKeys.
func ParseKeys(body []byte) ([]hsm.Found, error) {
	c := cursor{b: body}
	n := c.u32()
	var list []hsm.Found
	for range n {
		k := c.keyInfo()
		f := c.failure()
		if c.bad {
			break
		}
		list = append(list, hsm.Found{KeyInfo: k, Bad: f.Err()})
	}
	return list, c.done("keys")
}
