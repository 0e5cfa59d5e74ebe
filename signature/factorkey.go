package signature

import (
	"crypto/sha256"
	"encoding"
	"hash"
)

// factorKey is a factor's key as the two SHA-256 states of its HMAC, after the
// padded key: half of the work of an HMAC over a counter is done once. The key
// itself is not kept.
type factorKey struct{ inner, outer [sha256.Size]byte }

func newFactorKey(key *[16]byte) factorKey {
	return factorKey{inner: stateAfter(key[:], &ipadBlock), outer: stateAfter(key[:], &opadBlock)}
}

// A serialised SHA-256 is 4 bytes of magic, the chaining value, an input block
// (stale here) and the length. Only the chaining value differs between two
// hashes that have both taken in one block, so it is all we keep. Should a Go
// release serialise differently, every vector of signatures fails.
const (
	stateSize  = 4 + sha256.Size + blockSize + 8
	stateStart = 4
)

func stateAfter(key []byte, pad *[blockSize]byte) (out [sha256.Size]byte) {
	var block [blockSize]byte
	fillPad(block[:], key, pad)
	copy(out[:], marshalState(block[:])[stateStart:])
	return out
}

func marshalState(block []byte) []byte {
	h := sha256.New()
	h.Write(block)
	state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil || len(state) != stateSize {
		panic("signature: crypto/sha256 serialises in an unknown form")
	}
	return state
}

// resumable is a SHA-256 that starts from a kept state. The buffers are here
// because what passes through the hash.Hash interface escapes to the heap.
type resumable struct {
	hash  hash.Hash
	load  encoding.BinaryUnmarshaler
	state [stateSize]byte
	io    [sha256.Size]byte
}

func newResumable() resumable {
	h := sha256.New()
	r := resumable{hash: h, load: h.(encoding.BinaryUnmarshaler)}
	copy(r.state[:], marshalState(make([]byte, blockSize)))
	return r
}

// sum hashes io[:n] from the state into io.
func (r *resumable) sum(state *[sha256.Size]byte, n int) {
	copy(r.state[stateStart:], state[:])
	if err := r.load.UnmarshalBinary(r.state[:]); err != nil {
		panic(err) // the form was checked when the state was made
	}
	r.hash.Write(r.io[:n])
	r.hash.Sum(r.io[:0])
}

// mac is HMAC(key, counter).
func (k *factorKey) mac(r *resumable, c *Counter) [sha256.Size]byte {
	copy(r.io[:], c[:])
	r.sum(&k.inner, len(c))
	r.sum(&k.outer, sha256.Size)
	return r.io
}

// wipe leaves no chaining value behind.
func (r *resumable) wipe() {
	clear(r.state[stateStart : stateStart+sha256.Size])
	clear(r.io[:])
	r.hash.Reset()
}
