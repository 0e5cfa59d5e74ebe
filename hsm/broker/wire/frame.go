package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Preamble is what both sides send first. A new version of the language has a new
// preamble; parent and worker are one binary, so nothing is negotiated.
const Preamble = "signet-hsm/1\n"

const (
	// MaxFrame bounds what follows the length. The longest honest frame is the
	// to-be-signed text of a large CRL, for Ed25519.
	MaxFrame = 16 << 20
	// MaxData bounds one byte string of a request, so that a frame always fits.
	MaxData = MaxFrame - 4096

	// MaxInFlight bounds the requests that wait for their answers on one connection.
	MaxInFlight = 512

	prefixLen = 4
	headLen   = 1 + 8
	// HeaderLen is what stands before a body.
	HeaderLen = prefixLen + headLen

	readBuffer = 64 << 10
)

// Kind says what a frame is.
type Kind uint8

// Kinds below are requests: the numbers of hsm.Op.
const (
	KindHello  Kind = 0x20
	KindPIN    Kind = 0x21
	KindStats  Kind = 0x22
	KindReady  Kind = 0x40
	KindOK     Kind = 0x41
	KindFailed Kind = 0x42
	KindAskPIN Kind = 0x43
	KindLogin  Kind = 0x44
)

// ErrProtocol: the peer broke a rule of this package. The connection is over.
var ErrProtocol = errors.New("wire: protocol violation")

func violation(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, a...))
}

// Frame is one message. Body belongs to the Reader and holds until its next call.
type Frame struct {
	Kind Kind
	ID   uint64
	Body []byte
}

// Begin appends the header of a frame whose length End will fill in.
func Begin(dst []byte, k Kind, id uint64) []byte {
	dst = append(dst, 0, 0, 0, 0, byte(k))
	return binary.BigEndian.AppendUint64(dst, id)
}

// End fills in the length of the frame that begins at start.
func End(dst []byte, start int) []byte {
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-prefixLen))
	return dst
}

// Append appends a frame with the given body.
func Append(dst []byte, f Frame) []byte {
	start := len(dst)
	return End(append(Begin(dst, f.Kind, f.ID), f.Body...), start)
}

// Reader takes frames from a stream, many with one read. Not for concurrent use.
type Reader struct {
	r        io.Reader
	buf      []byte
	from, to int // what was read and not yet taken
	last     int // where the frame that was handed out begins
}

// NewReader reads from r.
func NewReader(r io.Reader) *Reader { return &Reader{r: r, buf: make([]byte, readBuffer)} }

// Preamble reads the other side's preamble.
func (r *Reader) Preamble() error {
	if err := r.need(len(Preamble)); err != nil {
		return err
	}
	if got := r.buf[r.from : r.from+len(Preamble)]; string(got) != Preamble {
		return violation("preamble %q", got)
	}
	r.from += len(Preamble)
	return nil
}

// Next returns the next frame. io.EOF means that the stream ended between two.
// What the frame before it held is overwritten.
func (r *Reader) Next() (Frame, error) {
	clear(r.buf[r.last:r.from])
	r.last = r.from
	if err := r.need(prefixLen); err != nil {
		return Frame{}, err
	}
	n := binary.BigEndian.Uint32(r.buf[r.from:])
	if n < headLen || n > MaxFrame {
		return Frame{}, violation("frame of %d bytes", n)
	}
	if err := r.need(prefixLen + int(n)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	b := r.buf[r.from+prefixLen : r.from+prefixLen+int(n)]
	r.last = r.from
	r.from += prefixLen + int(n)
	return Frame{Kind: Kind(b[0]), ID: binary.BigEndian.Uint64(b[1:]), Body: b[headLen:len(b):len(b)]}, nil
}

// need makes n bytes available at r.from. The buffer grows with what arrives, not
// with what a length claims.
func (r *Reader) need(n int) error {
	for r.to-r.from < n {
		if r.from > 0 && (r.from == r.to || r.from+n > len(r.buf)) {
			old := r.to
			copy(r.buf, r.buf[r.from:r.to])
			r.from, r.to = 0, r.to-r.from
			r.last = 0
			clear(r.buf[r.to:old])
		}
		switch {
		case r.to == len(r.buf):
			grown := make([]byte, 2*len(r.buf))
			copy(grown, r.buf[:r.to])
			clear(r.buf)
			r.buf = grown
		case r.to == 0 && len(r.buf) > readBuffer && n <= readBuffer:
			r.buf = make([]byte, readBuffer) // the long frame is gone, and so is its buffer
		}
		m, err := r.r.Read(r.buf[r.to:])
		r.to += m
		if r.to-r.from >= n {
			return nil
		}
		switch {
		case err == io.EOF && r.to > r.from: //nolint:errorlint // readers return it bare
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		case m == 0:
			return io.ErrNoProgress
		}
	}
	return nil
}
