package grpc

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/fault"
)

// What bounds a stream. Its items count against the HSM and the database like
// anybody's, so a bounded number is at work at once; it ends while the credentials
// that opened it are still young, and earlier when they are no longer good.
const (
	streamLife   = 5 * time.Minute
	recheckEvery = 5 * time.Second
	turnEvery    = 2 * time.Millisecond // an item asks again whether its credential may
)

// conversation says what is done with the items of a stream.
type conversation[Req, Resp any] struct {
	atOnce int
	// key: items with one key are answered in their order; nil or "": without one.
	key func(*Req) string
	// answer serves one item. Its context has the time of a call and knows the caller.
	answer func(context.Context, *Req) *Resp
}

// converse reads in one goroutine and works in a few: an item is read when another
// may work, and that is when an answer is on its way, so that gRPC's flow control
// holds back a caller who sends faster than it reads. When it returns, gRPC ends
// whatever still reads or writes.
func converse[Req, Resp any](s *Server, stream grpc.BidiStreamingServer[Req, Resp], c conversation[Req, Resp]) error {
	f := &flow[Req, Resp]{
		conversation: c, server: s, stream: stream,
		slots: make(chan struct{}, c.atOnce), last: map[string]chan struct{}{}, read: make(chan struct{}),
	}
	f.caller = callOf(stream.Context())
	taking, stop := context.WithTimeout(stream.Context(), s.streamLife)
	defer stop()
	defer context.AfterFunc(s.draining, stop)()
	go f.take(taking)
	refused := f.watch(taking)
	if refused != nil {
		stop()
	}
	answered := f.close()
	select {
	case <-answered:
	case <-taking.Done():
		// The items that were taken have their time; a caller who does not read the
		// answers has no more than that.
		rest := time.NewTimer(defaultDeadline)
		defer rest.Stop()
		select {
		case <-answered:
		case <-rest.C:
			return errStreamOver
		}
	}
	eof, err := f.state()
	switch {
	case err != nil:
		return err
	case refused != nil:
		return refused
	case !eof:
		return errStreamOver
	}
	return nil
}

// flow is one stream.
type flow[Req, Resp any] struct {
	conversation[Req, Resp]
	server *Server
	stream grpc.BidiStreamingServer[Req, Resp]
	slots  chan struct{} // an item holds one
	read   chan struct{} // closed when there will be no more items

	sending sync.Mutex // a stream has one sender at a time
	working sync.WaitGroup

	mu     sync.Mutex
	caller *call                    // as it was found last
	last   map[string]chan struct{} // of each key with an item at work: closed when the last one is answered
	over   bool                     // no item begins any more
	eof    bool                     // the caller has sent all
	err    error                    // why the stream is broken
}

// take reads items and lets each work when its turn comes.
func (f *flow[Req, Resp]) take(taking context.Context) {
	defer close(f.read)
	for {
		req, err := f.stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			f.mu.Lock()
			f.eof = true
			f.mu.Unlock()
			return
		case err != nil:
			f.fail(err)
			return
		}
		select {
		case f.slots <- struct{}{}:
		case <-taking.Done():
			return
		}
		pass, ok := f.turn(taking)
		if !ok || !f.begin(req, pass) {
			pass.Leave()
			return
		}
	}
}

// turn waits until the stream's credential may have one more at work: who has its
// bound at work is held back like one who does not read.
func (f *flow[Req, Resp]) turn(taking context.Context) (access.Pass, bool) {
	for {
		pass, err := f.server.c.Limiter.Enter(&f.as().principal, 1)
		if err == nil {
			return pass, true
		}
		select {
		case <-taking.Done():
			return access.Pass{}, false
		case <-time.After(turnEvery):
		}
	}
}

// begin starts the work on an item, behind the one of its key that came before.
func (f *flow[Req, Resp]) begin(req *Req, pass access.Pass) bool {
	key := ""
	if f.key != nil {
		key = f.key(req)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return false
	}
	var before, done chan struct{}
	if key != "" {
		before, done = f.last[key], make(chan struct{})
		f.last[key] = done
	}
	f.working.Go(func() {
		if before != nil {
			<-before // it is at work, and has its time
		}
		f.serve(req)
		pass.Leave()
		if done != nil {
			close(done)
			f.mu.Lock()
			if f.last[key] == done {
				delete(f.last, key)
			}
			f.mu.Unlock()
		}
		<-f.slots
	})
	return true
}

// serve answers one item. It has the time of a call of its own.
func (f *flow[Req, Resp]) serve(req *Req) {
	as := *f.as()
	ctx, cancel := context.WithTimeout(f.stream.Context(), min(defaultDeadline, f.server.c.MaxDeadline))
	defer cancel()
	as.Context = ctx
	resp := f.answer(&as, req)
	f.sending.Lock()
	defer f.sending.Unlock()
	if err := f.stream.Send(resp); err != nil {
		f.fail(err)
	}
}

// watch returns when no more is to be taken: the caller has sent all, the stream's
// time is over, or, with the reason, its credentials are no longer good. An outage
// is no reason: the items will say so.
func (f *flow[Req, Resp]) watch(taking context.Context) error {
	tick := time.NewTicker(f.server.recheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-f.read:
			return nil
		case <-taking.Done():
			return nil
		case <-tick.C:
			now := *f.as()
			err := f.server.admit(&now)
			switch k := fault.KindOf(err); {
			case err == nil:
				f.mu.Lock()
				f.caller = &now
				f.mu.Unlock()
			case k == fault.Unauthenticated || k == fault.Forbidden:
				return err
			}
		}
	}
}

// close lets nothing begin any more; the channel is closed when all that has begun
// is answered.
func (f *flow[Req, Resp]) close() <-chan struct{} {
	f.mu.Lock()
	f.over = true
	f.mu.Unlock()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		f.working.Wait()
	}()
	return answered
}

func (f *flow[Req, Resp]) as() *call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.caller
}

// fail keeps the first reason.
func (f *flow[Req, Resp]) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

func (f *flow[Req, Resp]) state() (eof bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.eof, f.err
}
