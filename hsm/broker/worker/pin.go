package worker

import (
	"context"
	"sync"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/broker/wire"
	"github.com/signet-hsm/signet/internal/secret"
)

// pins asks the parent for the PIN, one login at a time, and tells it what came
// of the login: the parent is the one who knows how often it was tried.
type pins struct {
	out  *wire.Writer
	turn chan struct{} // holds one value from ask to used

	mu     sync.Mutex
	id     uint64 // of the last question
	open   bool   // it has no answer yet
	memory locked
	answer chan error // one value, for the open question
}

func newPINs(out *wire.Writer) *pins {
	return &pins{out: out, turn: make(chan struct{}, 1), memory: newLocked(wire.MaxPIN), answer: make(chan error, 1)}
}

// ask is the PIN source of the engine. What it returns holds until used.
func (p *pins) ask(ctx context.Context) (pin secret.Bytes, err error) {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return pin, context.Cause(ctx)
	}
	id := p.question()
	if err = p.out.Send(wire.Append(nil, wire.Frame{Kind: wire.KindAskPIN, ID: id})); err == nil {
		select {
		case err = <-p.answer:
		case <-ctx.Done():
			p.giveUp()
			err = context.Cause(ctx)
			p.report(id, err) // all workers wait for this one's turn to end
		}
	}
	if err != nil {
		p.memory.wipe()
		<-p.turn
		return pin, err
	}
	return secret.New(p.memory.bytes()), nil
}

func (p *pins) question() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.answer: // to a question that was given up
	default:
	}
	p.id++
	p.open = true
	return p.id
}

func (p *pins) giveUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = false
}

// used hears how C_Login ended.
func (p *pins) used(err error) {
	p.memory.wipe()
	p.mu.Lock()
	id := p.id
	p.mu.Unlock()
	p.report(id, err)
	<-p.turn
}

// report tells the parent; when it is gone there is nobody to tell.
func (p *pins) report(id uint64, err error) {
	b := wire.Begin(nil, wire.KindLogin, id)
	_ = p.out.Send(wire.End(wire.AppendFailure(b, hsm.FailureOf(err)), 0))
}

// deliver takes the parent's answer off the wire. One to a question that was given
// up is nobody's.
func (p *pins) deliver(f wire.Frame) error {
	pin, failure, err := wire.ParsePIN(f.Body)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.open || f.ID != p.id {
		return nil
	}
	p.open = false
	p.memory.set(pin)
	p.answer <- failure.Err()
	return nil
}
