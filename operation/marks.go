package operation

import (
	"bytes"
	"crypto/sha256"
)

// marks are those of offline OTPs whose checks have no known outcome, one after
// the other. A right OTP is used up by its check, so as long as nobody knows what
// came of it, it must not be checked again and called wrong.
type marks []byte

// maxMarks bounds the checks of one operation that are open at a time. They stay
// open only while they are made, and when a process dies in one.
const maxMarks = 8

func (m marks) index(mark []byte) int {
	for i := 0; i+sha256.Size <= len(m); i += sha256.Size {
		if bytes.Equal(m[i:i+sha256.Size], mark) {
			return i
		}
	}
	return -1
}

func (m marks) has(mark []byte) bool { return m.index(mark) >= 0 }
func (m marks) full() bool           { return len(m) >= maxMarks*sha256.Size }

// with returns m and one more.
func (m marks) with(mark []byte) marks {
	return append(append(make(marks, 0, len(m)+len(mark)), m...), mark...)
}

// without returns m less one; nil when none is left, as the column has it.
func (m marks) without(mark []byte) marks {
	i := m.index(mark)
	if i < 0 {
		return m
	}
	out := append(append(marks(nil), m[:i]...), m[i+sha256.Size:]...)
	if len(out) == 0 {
		return nil
	}
	return out
}
