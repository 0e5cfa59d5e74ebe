package wire

import (
	"errors"
	"net"
	"sync"
	"syscall"
)

// maxQueue bounds what waits to be written when the other side does not read.
const maxQueue = 64 << 20

// ErrQueueFull: the other side does not read, and too much waits for it.
var ErrQueueFull = errors.New("wire: the peer does not read")

// Writer puts frames on a socket. Who finds it idle writes, with one system call
// that does not block, and takes along what others append meanwhile: so frames of
// many callers share a call, one alone waits for nobody, and nobody waits for a
// peer that does not read. What such a peer leaves over is written by a goroutine
// that ends with the socket. Safe for concurrent use.
type Writer struct {
	conn *net.UnixConn
	raw  syscall.RawConn

	mu    sync.Mutex
	buf   []byte // waits
	spare []byte // the other of the two buffers, when nobody writes it
	busy  bool   // somebody writes
	err   error  // final

	// Of the one who writes:
	out     []byte
	written int
	failure error
	try     func(fd uintptr) bool

	helper sync.WaitGroup
}

// NewWriter writes to conn.
func NewWriter(conn *net.UnixConn) (*Writer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	w := &Writer{conn: conn, raw: raw}
	w.try = func(fd uintptr) bool {
		for {
			n, err := syscall.Write(int(fd), w.out[w.written:])
			if n > 0 {
				w.written += n
			}
			switch {
			case err == syscall.EINTR:
				continue
			case err != nil && err != syscall.EAGAIN:
				w.failure = err
			case err == nil && w.written < len(w.out):
				continue
			}
			return true // done, or not ready: the runtime shall not wait
		}
	}
	return w, nil
}

// Send queues whole frames and writes what the socket takes at once. The bytes
// are the caller's again when it returns. An error is final: the socket is dead.
func (w *Writer) Send(frames []byte) error {
	w.mu.Lock()
	if w.err == nil && len(w.buf)+len(frames) > maxQueue {
		w.mu.Unlock()
		return ErrQueueFull
	}
	if w.err != nil || w.busy {
		defer w.mu.Unlock()
		if w.err == nil {
			w.buf = append(w.buf, frames...)
		}
		return w.err
	}
	w.buf = append(w.buf, frames...)
	w.busy = true
	return w.flush(false)
}

// flush writes until nothing waits; it is entered with mu held and leaves without.
func (w *Writer) flush(wait bool) error {
	for w.err == nil && len(w.buf) > 0 {
		w.out, w.written = w.buf, 0
		w.buf, w.spare = w.spare, nil
		w.mu.Unlock()
		if err := w.raw.Write(w.try); err != nil && w.failure == nil {
			w.failure = err
		}
		if w.failure == nil && w.written < len(w.out) {
			if !wait {
				w.helper.Go(func() { w.rest() })
				return nil
			}
			_, w.failure = w.conn.Write(w.out[w.written:])
		}
		w.mu.Lock()
		w.taken()
	}
	w.busy = false
	err := w.err
	w.mu.Unlock()
	return err
}

// rest goes on where a socket was full.
func (w *Writer) rest() {
	_, w.failure = w.conn.Write(w.out[w.written:])
	w.mu.Lock()
	w.taken()
	_ = w.flush(true)
}

// taken gives the written buffer back, overwritten.
func (w *Writer) taken() {
	clear(w.out)
	if cap(w.out) <= 4*readBuffer {
		w.spare = w.out[:0]
	}
	w.out = nil
	if w.failure != nil && w.err == nil {
		w.err = w.failure
		clear(w.buf)
		w.buf = nil
	}
}

// Wait returns when nobody writes any more; close the socket first.
func (w *Writer) Wait() { w.helper.Wait() }
