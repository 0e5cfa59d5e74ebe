package wire

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"
)

// cursor takes a body apart. After the first failure every take gives zeros, and
// done tells.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if c.bad || n < 0 || n > len(c.b) {
		c.bad = true
		return nil
	}
	out := c.b[:n:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) u8() uint8 {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if b := c.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if b := c.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if b := c.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (c *cursor) short() []byte { return c.take(int(c.u8())) }

func (c *cursor) bytes() []byte {
	n := c.u32()
	if uint64(n) > uint64(len(c.b)) {
		c.bad = true
		return nil
	}
	return c.take(int(n))
}

func (c *cursor) text() string {
	b := c.take(int(c.u16()))
	if !utf8.Valid(b) {
		c.bad = true
	}
	return string(b)
}

func (c *cursor) done(what string) error {
	if c.bad || len(c.b) != 0 {
		return violation("%s does not parse", what)
	}
	return nil
}

func appendShort(dst []byte, s string) []byte {
	s = s[:min(len(s), 255)]
	return append(append(dst, byte(len(s))), s...)
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(b))), b...)
}

// appendText cuts what is too long: texts are for logs.
func appendText(dst []byte, s string) []byte {
	const limit = 4096
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}
