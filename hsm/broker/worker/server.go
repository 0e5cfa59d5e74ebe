package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/broker/wire"
)

// server does what the frames ask.
type server struct {
	role     Role
	out      *wire.Writer
	log      *slog.Logger
	pins     *pins
	registry *prometheus.Registry
	engine   hsm.Engine // set before the first job is executed

	jobs chan *job
	pool sync.Pool

	mu   sync.RWMutex
	refs map[string]hsm.Ref // labels seen, so that a call does not parse one
}

// maxRefs bounds the labels that are remembered.
const maxRefs = 4096

// job is one request with the memory that it needs.
type job struct {
	frame   []byte // the request's body
	request wire.Request
	arrived time.Time
	out     []byte
}

func newServer(role Role, out *wire.Writer) *server {
	return &server{
		role: role, out: out, pins: newPINs(out), registry: prometheus.NewRegistry(),
		jobs: make(chan *job, wire.MaxInFlight), refs: map[string]hsm.Ref{},
		pool: sync.Pool{New: func() any { return new(job) }},
	}
}

// read takes frames until the parent hangs up or breaks a rule.
func (s *server) read(in *wire.Reader) error {
	for {
		f, err := in.Next()
		if err != nil {
			return err
		}
		switch {
		case f.IsRequest():
			j := s.pool.Get().(*job)
			j.frame, j.arrived = append(j.frame[:0], f.Body...), time.Now()
			f.Body = j.frame
			if err := wire.ParseRequest(f, &j.request); err != nil {
				return err
			}
			select {
			case s.jobs <- j:
			default:
				return fmt.Errorf("worker: %w: more than %d requests at once", wire.ErrProtocol, wire.MaxInFlight)
			}
		case f.Kind == wire.KindPIN:
			if err := s.pins.deliver(f); err != nil {
				return err
			}
		case f.Kind == wire.KindStats:
			if err := s.stats(f.ID); err != nil {
				return err
			}
		default:
			return fmt.Errorf("worker: %w: kind 0x%02x", wire.ErrProtocol, uint8(f.Kind))
		}
	}
}

// execute runs jobs one after the other; there are as many executors as lanes.
func (s *server) execute() {
	for j := range s.jobs {
		s.do(j)
		clear(j.frame)
		clear(j.out)
		s.pool.Put(j)
	}
}

func (s *server) do(j *job) {
	ctx, cancel := context.Background(), context.CancelFunc(func() {})
	if j.request.Timeout > 0 {
		ctx, cancel = context.WithDeadline(ctx, j.arrived.Add(j.request.Timeout))
	}
	out, err := s.run(ctx, &j.request, wire.Begin(j.out[:0], wire.KindOK, j.request.ID))
	cancel()
	if err == nil && len(out) > wire.MaxFrame {
		err = fmt.Errorf("worker: %w: an answer of %d bytes", hsm.ErrRefused, len(out))
	}
	if err != nil {
		out = wire.AppendFailed(j.out[:0], j.request.ID, err)
	}
	j.out = out
	// An error means that the parent is gone, which the reader sees as well.
	_ = s.out.Send(wire.End(out, 0))
}

// run appends the result of one operation.
func (s *server) run(ctx context.Context, r *wire.Request, dst []byte) ([]byte, error) {
	if r.Op == hsm.OpKeys || r.Op == hsm.OpCheck || r.Op == hsm.OpInfo || r.Op == hsm.OpRandom {
		return s.runKeyless(ctx, r, dst)
	}
	ref, err := s.ref(r.Label)
	if err != nil {
		return nil, err
	}
	if err := s.role.allows(r.Op, ref); err != nil {
		return nil, err
	}
	key := hsm.Key{Ref: ref, ID: r.KeyID, Print: r.Print}
	switch r.Op {
	case hsm.OpSign:
		return s.engine.Sign(ctx, key, r.Mechanism, dst, r.Data)
	case hsm.OpMAC:
		return s.engine.MAC(ctx, key, dst, r.Data)
	case hsm.OpSeal:
		if len(r.AAD) == 0 {
			return nil, fmt.Errorf("worker: %w: sealing needs associated data", hsm.ErrUnsupported)
		}
		return s.engine.Seal(ctx, key, dst, r.Data, r.AAD)
	case hsm.OpUnseal:
		return s.engine.Unseal(ctx, key, dst, r.Data, r.AAD)
	case hsm.OpAgree:
		return s.engine.Agree(ctx, key, dst, r.Data)
	case hsm.OpFind:
		return appendInfo(dst)(s.engine.Find(ctx, ref))
	case hsm.OpGenerate:
		if r.KeyID == ([16]byte{}) {
			return nil, fmt.Errorf("worker: %w: a new key needs an id", hsm.ErrUnsupported)
		}
		return appendInfo(dst)(s.engine.Generate(ctx, ref, hsm.Algorithm(r.Algorithm), r.KeyID))
	case hsm.OpDestroy:
		return dst, s.engine.Destroy(ctx, ref)
	}
	return nil, fmt.Errorf("worker: %w: %s", hsm.ErrUnsupported, r.Op)
}

func (s *server) runKeyless(ctx context.Context, r *wire.Request, dst []byte) ([]byte, error) {
	switch r.Op {
	case hsm.OpRandom:
		at := len(dst)
		dst = slices.Grow(dst, r.Size)[:at+r.Size]
		return dst, s.engine.Random(ctx, dst[at:])
	case hsm.OpKeys:
		found, err := s.engine.Keys(ctx)
		if err != nil {
			return nil, err
		}
		return wire.AppendKeys(dst, found)
	case hsm.OpCheck:
		return dst, s.engine.Check(ctx)
	}
	info, err := s.engine.Info(ctx)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(info)
	return append(dst, b...), err
}

func appendInfo(dst []byte) func(hsm.KeyInfo, error) ([]byte, error) {
	return func(k hsm.KeyInfo, err error) ([]byte, error) {
		if err != nil {
			return nil, err
		}
		return wire.AppendKeyInfo(dst, k)
	}
}

// ref reads a label, or remembers having read it.
func (s *server) ref(label []byte) (hsm.Ref, error) {
	s.mu.RLock()
	r, known := s.refs[string(label)]
	s.mu.RUnlock()
	if known {
		return r, nil
	}
	r, err := hsm.ParseRef(string(label))
	if err != nil {
		return r, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.refs) >= maxRefs {
		clear(s.refs)
	}
	s.refs[string(label)] = r
	return r, nil
}

// stats answers with the metrics of the engine in this process.
func (s *server) stats(id uint64) error {
	families, err := s.registry.Gather()
	if err != nil {
		return s.out.Send(wire.AppendFailed(nil, id, err))
	}
	body, err := wire.AppendFamilies(wire.Begin(nil, wire.KindOK, id), families)
	if err != nil {
		return s.out.Send(wire.AppendFailed(nil, id, err))
	}
	if len(body) > wire.MaxFrame {
		return errors.New("worker: too many metrics")
	}
	return s.out.Send(wire.End(body, 0))
}
