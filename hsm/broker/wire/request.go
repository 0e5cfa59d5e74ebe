package wire

import (
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"strconv"
	"time"

	"github.com/signet-hsm/signet/hsm"
)

// Request is one operation. Which fields it has is said by shapes; the others are
// zero.
type Request struct {
	Op      hsm.Op
	ID      uint64
	Timeout time.Duration // what is left of the caller's time, in whole microseconds; 0 = no end

	Label     []byte // of the key, see AppendLabel
	KeyID     [16]byte
	Print     [sha256.Size]byte
	Mechanism hsm.Mechanism
	Algorithm string
	AAD       []byte
	Data      []byte
	Size      int
}

// shape lists the parts of a request, in the order of the wire.
type shape struct{ label, key, mechanism, aad, data, size, generate bool }

var shapes = [...]shape{
	hsm.OpSign:     {key: true, mechanism: true, data: true},
	hsm.OpMAC:      {key: true, data: true},
	hsm.OpSeal:     {key: true, aad: true, data: true},
	hsm.OpUnseal:   {key: true, aad: true, data: true},
	hsm.OpAgree:    {key: true, data: true},
	hsm.OpRandom:   {size: true},
	hsm.OpFind:     {label: true},
	hsm.OpKeys:     {},
	hsm.OpGenerate: {label: true, generate: true},
	hsm.OpDestroy:  {label: true},
	hsm.OpCheck:    {},
	hsm.OpInfo:     {},
}

// maxSize bounds one request for random bytes.
const maxSize = 1 << 20

// AppendLabel appends the label of a key without making a string of it.
func AppendLabel(dst []byte, r hsm.Ref) []byte {
	dst = append(dst, "signet/1/"...)
	dst = append(append(dst, r.Tenant...), '/')
	dst = append(append(dst, r.Role...), '/')
	dst = append(append(dst, r.Name...), '/')
	return strconv.AppendInt(dst, int64(r.Generation), 10)
}

// Fits reports whether the request can be written: labels and data have limits.
func (r *Request) Fits() bool {
	return len(r.Label) <= math.MaxUint8 && len(r.Algorithm) <= math.MaxUint8 && len(r.Data)+len(r.AAD) <= MaxData &&
		r.Mechanism.Salt >= 0 && r.Mechanism.Salt <= math.MaxUint16 && r.Mechanism.Hash <= math.MaxUint8 && r.Size >= 0 && r.Size <= maxSize
}

// AppendRequest appends the frame of a request that Fits.
func AppendRequest(dst []byte, r *Request) []byte {
	start := len(dst)
	dst = Begin(dst, Kind(r.Op), r.ID)
	dst = binary.BigEndian.AppendUint32(dst, uint32(min(r.Timeout.Microseconds(), math.MaxUint32)))
	s := shapes[r.Op]
	if s.label || s.key {
		dst = append(append(dst, byte(len(r.Label))), r.Label...)
	}
	if s.key {
		dst = append(append(dst, r.KeyID[:]...), r.Print[:]...)
	}
	if s.mechanism {
		dst = append(dst, byte(r.Mechanism.Scheme), byte(r.Mechanism.Hash))
		dst = binary.BigEndian.AppendUint16(dst, uint16(r.Mechanism.Salt))
	}
	if s.aad {
		dst = appendBytes(dst, r.AAD)
	}
	if s.data {
		dst = appendBytes(dst, r.Data)
	}
	if s.size {
		dst = binary.BigEndian.AppendUint32(dst, uint32(r.Size))
	}
	if s.generate {
		dst = append(appendShort(dst, r.Algorithm), r.KeyID[:]...)
	}
	return End(dst, start)
}

// IsRequest reports whether the frame's kind is an operation.
func (f Frame) IsRequest() bool { return f.Kind >= 1 && int(f.Kind) < len(shapes) }

// ParseRequest is the inverse of AppendRequest.
func ParseRequest(f Frame, r *Request) error {
	if !f.IsRequest() {
		return violation("kind 0x%02x is not a request", uint8(f.Kind))
	}
	*r = Request{Op: hsm.Op(f.Kind), ID: f.ID}
	c := cursor{b: f.Body}
	r.Timeout = time.Duration(c.u32()) * time.Microsecond
	s := shapes[r.Op]
	if s.label || s.key {
		r.Label = c.short()
	}
	if s.key {
		copy(r.KeyID[:], c.take(len(r.KeyID)))
		copy(r.Print[:], c.take(len(r.Print)))
	}
	if s.mechanism {
		r.Mechanism = hsm.Mechanism{Scheme: hsm.Scheme(c.u8()), Hash: crypto.Hash(c.u8()), Salt: int(c.u16())}
	}
	if s.aad {
		r.AAD = c.bytes()
	}
	if s.data {
		r.Data = c.bytes()
	}
	if s.size {
		if r.Size = int(c.u32()); r.Size > maxSize {
			c.bad = true
		}
	}
	if s.generate {
		r.Algorithm = string(c.short())
		copy(r.KeyID[:], c.take(len(r.KeyID)))
	}
	return c.done(r.Op.String())
}
