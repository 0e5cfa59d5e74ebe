package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/broker/wire"
	"github.com/signet-hsm/signet/internal/secret"
)

// loginWithin bounds C_Login; the worker that takes longer is killed, because its
// login may still happen.
const loginWithin = 30 * time.Second

// gate gives the PIN to one worker at a time and waits for what comes of it, so
// that a PIN that is refused is tried by nobody else.
type gate struct {
	source func(context.Context) (secret.Bytes, error)
	turn   chan struct{} // holds one value from the PIN to the end of its login

	mu      sync.Mutex
	refused error
}

func newGate(source func(context.Context) (secret.Bytes, error)) *gate {
	return &gate{source: source, turn: make(chan struct{}, 1)}
}

// refusal is the error that all have got once the PIN was refused.
func (g *gate) refusal() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.refused
}

// pin asks the source; the caller wipes what it gets.
func (g *gate) pin(ctx context.Context) (secret.Bytes, error) {
	pin, err := g.source(ctx)
	if err != nil {
		return pin, fmt.Errorf("hsm: read the PIN: %w: %w", fault.ErrUnavailable, err)
	}
	if pin.Len() > wire.MaxPIN {
		pin.Wipe()
		return secret.Bytes{}, fmt.Errorf("hsm: %w: the PIN has more than %d bytes", hsm.ErrConfig, wire.MaxPIN)
	}
	return pin, nil
}

// serve answers one worker's question.
func (g *gate) serve(b *Broker, l *link, id uint64) {
	select {
	case g.turn <- struct{}{}:
		defer func() { <-g.turn }()
	case <-l.gone:
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, loginWithin)
	defer cancel()
	var pin secret.Bytes
	err := g.refusal()
	if err == nil {
		pin, err = g.pin(ctx)
	}
	select { // what an earlier login of this worker may have left
	case <-l.logins:
	default:
	}
	frame := wire.AppendPIN(make([]byte, 0, wire.HeaderLen+wire.MaxPIN+1), id, pin.Reveal(), err)
	serr := l.out.Send(frame)
	clear(frame)
	pin.Wipe()
	if err != nil || serr != nil {
		return
	}
	select {
	case failure := <-l.logins:
		g.heard(b, failure)
	case <-l.gone:
		// A worker whose login failed says so and ends: both may be here at once, and
		// what it said must not be missed, or the next worker tries the PIN again.
		<-l.ended
		select {
		case failure := <-l.logins:
			g.heard(b, failure)
		default:
		}
	case <-ctx.Done():
		if b.ctx.Err() == nil { // else the worker is on its way to a good end
			l.kill("login takes too long")
		}
	}
}

// heard notes how a login ended.
func (g *gate) heard(b *Broker, failure hsm.Failure) {
	err := failure.Err()
	if !errors.Is(err, hsm.ErrPIN) {
		return
	}
	g.mu.Lock()
	g.refused = err
	g.mu.Unlock()
	b.log.LogAttrs(b.ctx, slog.LevelError, "hsm: THE PIN IS REFUSED; no worker tries it again until signet is started anew", slog.Any("cause", err))
}
