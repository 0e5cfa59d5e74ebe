package grpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/ca"
)

// What bounds a stream. Its orders count against the HSM and the database like
// anybody's, so few are at work at once; and it ends while the credentials that
// opened it are still young.
const (
	streamWorkers = 8
	streamLife    = 5 * time.Minute
)

// IssueCertificates leaves out of the domain's batch what could not be told it. An
// order that the time was not enough for is UNAVAILABLE, and the others are still
// answered.
func (s certificates) IssueCertificates(ctx context.Context, req *signetv1.IssueCertificatesRequest) (*signetv1.IssueCertificatesResponse, error) {
	orders := req.GetOrders()
	results := make([]*signetv1.OrderResult, len(orders))
	var batch []ca.IssueRequest
	var places []int
	for i, o := range orders {
		r, err := issueRequest(ctx, o)
		if err != nil {
			results[i] = s.result(ctx, nil, err)
			continue
		}
		batch, places = append(batch, r), append(places, i)
	}
	if len(batch) > 0 || len(orders) == 0 {
		part, cancel := portion(ctx)
		defer cancel()
		issued, err := s.authority.IssueBatch(part, principal(ctx).Tenant, batch)
		if err != nil {
			return nil, err
		}
		for i := range issued {
			results[places[i]] = s.result(ctx, issuedCertificate(issued[i].Certificate), issued[i].Err)
		}
	}
	for i, r := range results {
		for _, v := range r.GetError().GetViolations() {
			if inner, ok := strings.CutPrefix(v.GetField(), "order"); ok {
				v.Field = fmt.Sprintf("orders[%d]%s", i, inner)
			}
		}
	}
	return &signetv1.IssueCertificatesResponse{Results: results}, nil
}

// IssueStream reads in one goroutine and works in a few: an order is read when
// one of them is free, and each is free again when its answer is on its way, so
// that gRPC's flow control holds back a caller who sends faster than it reads.
// When it returns, gRPC ends whatever still reads or writes.
func (s certificates) IssueStream(stream grpc.BidiStreamingServer[signetv1.IssueStreamRequest, signetv1.IssueStreamResponse]) error {
	f := &flow{certificates: s, stream: stream, orders: make(chan *signetv1.IssueStreamRequest)}
	taking, stop := context.WithTimeout(stream.Context(), s.server.streamLife)
	defer stop()
	defer context.AfterFunc(s.server.draining, stop)()
	go f.read(taking)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		f.work(taking)
	}()
	select {
	case <-answered:
	case <-taking.Done():
		// The orders that were taken have their time; a caller who does not read
		// the answers has no more than that.
		rest := time.NewTimer(defaultDeadline)
		defer rest.Stop()
		select {
		case <-answered:
		case <-rest.C:
			return errStreamOver
		}
	}
	if err := f.failed(); err != nil {
		return err
	}
	if taking.Err() != nil && !f.closed() {
		return errStreamOver
	}
	return nil
}

// flow is one stream.
type flow struct {
	certificates
	stream grpc.BidiStreamingServer[signetv1.IssueStreamRequest, signetv1.IssueStreamResponse]
	orders chan *signetv1.IssueStreamRequest // closed when there will be no more

	sending sync.Mutex // a stream has one sender at a time
	mu      sync.Mutex
	err     error // why the stream is broken
	eof     bool  // the caller has sent all
}

// read takes orders until there are no more.
func (f *flow) read(taking context.Context) {
	defer close(f.orders)
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
		case f.orders <- req:
		case <-taking.Done():
			return
		}
	}
}

// work answers orders until there are no more, or none are to be taken.
func (f *flow) work(taking context.Context) {
	var workers sync.WaitGroup
	for range streamWorkers {
		workers.Go(func() {
			for {
				select {
				case <-taking.Done():
					return
				case req, more := <-f.orders:
					if !more {
						return
					}
					f.answer(req)
				}
			}
		})
	}
	workers.Wait()
}

// answer serves one order. It has the time of a call of its own.
func (f *flow) answer(req *signetv1.IssueStreamRequest) {
	ctx, cancel := context.WithTimeout(f.stream.Context(), defaultDeadline)
	defer cancel()
	issued, err := f.safely(ctx, req)
	resp := &signetv1.IssueStreamResponse{Tag: req.GetTag(), Result: f.result(ctx, issued, err)}
	f.sending.Lock()
	defer f.sending.Unlock()
	if err := f.stream.Send(resp); err != nil {
		f.fail(err)
	}
}

func (f *flow) safely(ctx context.Context, req *signetv1.IssueStreamRequest) (_ *signetv1.IssuedCertificate, err error) {
	defer f.server.recovered(ctx, callOf(ctx), &err)
	if err := storable(req); err != nil {
		return nil, err
	}
	return f.issue(ctx, req.GetOrder())
}

// fail keeps the first reason.
func (f *flow) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

func (f *flow) failed() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *flow) closed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.eof
}

// result is an order's outcome as a caller may see it. What is not the caller's
// fault is logged like a call's.
func (s certificates) result(ctx context.Context, issued *signetv1.IssuedCertificate, err error) *signetv1.OrderResult {
	if err == nil {
		return &signetv1.OrderResult{Outcome: &signetv1.OrderResult_Issued{Issued: issued}}
	}
	c := callOf(ctx)
	st := status.Convert(told(err, c.id))
	if serverFault(st.Code()) && !errors.Is(ctx.Err(), context.Canceled) {
		s.server.c.Logger.LogAttrs(ctx, slog.LevelError, "order", slog.String("request_id", c.id), slog.String("method", c.method),
			slog.String("tenant", c.principal.Tenant.String()), slog.String("code", st.Code().String()), slog.String("error", err.Error()))
	}
	out := &signetv1.OrderError{Code: int32(st.Code()), Message: st.Message()}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			out.Reason = d.GetReason()
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				out.Violations = append(out.Violations, &signetv1.OrderViolation{Field: v.GetField(), Description: v.GetDescription()})
			}
		}
	}
	return &signetv1.OrderResult{Outcome: &signetv1.OrderResult_Error{Error: out}}
}
