package grpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/signet-hsm/signet/api/signetv1"
)

// What bounds many checks in one call. Those at work at once share the domain's
// commits, so more of them cost the database little; what is beyond waits its turn.
const (
	maxChecks    = 256
	checksAtOnce = 64
)

// batch judges checks, those with one key (nil or "": without one) in their order.
// What the call's time is not enough for is UNAVAILABLE, and the others are still
// answered.
func batch[C, R proto.Message](ctx context.Context, s *Server, checks []C, key func(C) string, judge func(context.Context, C) R) ([]R, error) {
	if len(checks) == 0 || len(checks) > maxChecks {
		return nil, bad("checks", fmt.Sprintf("must have 1 to %d elements", maxChecks))
	}
	part, cancel := portion(ctx)
	defer cancel()
	results := make([]R, len(checks))
	each(checks, key, func(i int) {
		results[i] = judge(part, checks[i])
		numbered(results[i], "check", fmt.Sprintf("checks[%d]", i))
	})
	return results, nil
}

// each works on the items, a bounded number at once.
func each[C any](items []C, key func(C) string, work func(i int)) {
	heads := make([]int, 0, len(items)) // of chains of one key
	next := make([]int, len(items))     // 0: none, as the first item follows nobody
	last := map[string]int{}
	for i, item := range items {
		k := ""
		if key != nil {
			k = key(item)
		}
		if before, chained := last[k]; chained && k != "" {
			next[before] = i
		} else {
			heads = append(heads, i)
		}
		last[k] = i
	}
	var taken atomic.Int64
	var workers sync.WaitGroup
	for range min(checksAtOnce, len(heads)) {
		workers.Go(func() {
			for {
				h := int(taken.Add(1)) - 1
				if h >= len(heads) {
					return
				}
				work(heads[h])
				for i := next[heads[h]]; i != 0; i = next[i] {
					work(i)
				}
			}
		})
	}
	workers.Wait()
}

// weight is how many calls a request counts for: a batch for what it has at work.
func weight(req any) int {
	n := 1
	switch r := req.(type) {
	case *signetv1.VerifySignaturesRequest:
		n = len(r.GetChecks())
	case *signetv1.VerifyTokensRequest:
		n = len(r.GetChecks())
	case *signetv1.VerifyOfflineOtpsRequest:
		n = len(r.GetChecks())
	}
	return min(n, checksAtOnce)
}

// one serves an item of many: a check that its caller may make, whose texts can be
// kept, and whose panic is its own.
func one[V any](ctx context.Context, s *Server, check proto.Message, verify func(context.Context) (V, error)) (V, *signetv1.CheckError) {
	v, err := func() (v V, err error) {
		defer s.recovered(ctx, callOf(ctx), &err)
		if err := ctx.Err(); err != nil {
			return v, err
		}
		if !check.ProtoReflect().IsValid() {
			return v, missing("check")
		}
		if field := within("check", unclean(check)); field != "" {
			return v, bad(field, hintNUL)
		}
		return verify(ctx)
	}()
	if err != nil {
		return v, s.itemError(ctx, "check", err)
	}
	return v, nil
}

// itemError is why an item of many has no outcome, as a caller may see it. What is
// not the caller's fault is logged like a call's.
func (s *Server) itemError(ctx context.Context, what string, err error) *signetv1.CheckError {
	c := callOf(ctx)
	st := status.Convert(told(err, c.id))
	if serverFault(st.Code()) && !errors.Is(ctx.Err(), context.Canceled) {
		s.c.Logger.LogAttrs(ctx, slog.LevelError, what, slog.String("request_id", c.id), slog.String("method", c.method.name),
			slog.String("tenant", c.principal.Tenant.String()), slog.String("code", st.Code().String()), slog.String("error", err.Error()))
	}
	out := &signetv1.CheckError{Code: int32(st.Code()), Message: st.Message()}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			out.Reason = d.GetReason()
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				out.Violations = append(out.Violations, &signetv1.CheckViolation{Field: v.GetField(), Description: v.GetDescription()})
			}
		}
	}
	return out
}

// numbered names the item of a batch that a violation is of.
func numbered(result any, item, place string) {
	failed, ok := result.(interface{ GetError() *signetv1.CheckError })
	if !ok {
		return
	}
	for _, v := range failed.GetError().GetViolations() {
		if inner, ok := strings.CutPrefix(v.GetField(), item); ok {
			v.Field = place + inner
		}
	}
}
