package broker

import (
	"encoding/binary"
	"sync"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/broker/wire"
)

// call is one request and its answer, with all the memory they need; calls are
// pooled, so that a signature allocates nothing.
type call struct {
	request wire.Request
	label   []byte
	frame   []byte // as it is sent; kept for a repeat
	id      uint64

	done   chan struct{} // one value when the rest is set
	kind   wire.Kind
	answer []byte
	lost   error // the worker ended before it answered

	// Guarded by the link that it is sent on:
	older, newer *call
	abandoned    bool // the caller has left; the link gives the call back
}

var calls = sync.Pool{New: func() any { return &call{done: make(chan struct{}, 1)} }}

func newCall(op hsm.Op) *call {
	c := calls.Get().(*call)
	c.request = wire.Request{Op: op}
	return c
}

// free gives the call back; keys and plaintexts are overwritten.
func (c *call) free() {
	clear(c.frame)
	clear(c.answer)
	c.request = wire.Request{}
	c.frame, c.answer, c.lost, c.abandoned = c.frame[:0], c.answer[:0], nil, false
	if cap(c.frame)+cap(c.answer) <= 64<<10 {
		calls.Put(c)
	}
}

func (c *call) ref(r hsm.Ref) {
	c.label = wire.AppendLabel(c.label[:0], r)
	c.request.Label = c.label
}

func (c *call) key(k hsm.Key) {
	c.ref(k.Ref)
	c.request.KeyID, c.request.Print = k.ID, k.Print
}

// encode writes the frame; the caller's buffers are not needed afterwards.
func (c *call) encode() {
	c.frame = wire.AppendRequest(c.frame[:0], &c.request)
	c.request.Data, c.request.AAD = nil, nil
}

// number puts the id of this sending into the frame.
func (c *call) number(id uint64) {
	c.id = id
	binary.BigEndian.PutUint64(c.frame[wire.HeaderLen-8:], id)
}
