package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/broker/wire"
)

// FD is the number under which a worker inherits its socket.
const FD = 3

// closeWithin bounds the good end of a module.
const closeWithin = 5 * time.Second

// Main is the life of a worker of the given role; the result is its exit status.
// What it says on standard error the parent logs.
func Main(role string) int {
	// An interrupt at the terminal is for the parent, who drains and hangs up.
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	r, err := ParseRole(role)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	conn, err := inherited()
	if err != nil {
		fmt.Fprintln(os.Stderr, "worker: signet starts its workers itself:", err)
		return 2
	}
	if err := serve(conn, r); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// inherited takes the socket over, closed to whatever this process might start.
func inherited() (*net.UnixConn, error) {
	syscall.CloseOnExec(FD)
	f := os.NewFile(FD, "parent")
	if f == nil {
		return nil, os.ErrInvalid
	}
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(errors.New("not a unix socket"), c.Close())
	}
	return u, nil
}

func serve(conn *net.UnixConn, role Role) error {
	held := confine()
	in := wire.NewReader(conn)
	out, err := wire.NewWriter(conn)
	if err != nil {
		return err
	}
	if err := errors.Join(out.Send([]byte(wire.Preamble)), in.Preamble()); err != nil {
		return err
	}
	f, err := in.Next()
	if err != nil {
		return err
	}
	if f.Kind != wire.KindHello {
		return fmt.Errorf("worker: %w: kind 0x%02x before the hello", wire.ErrProtocol, uint8(f.Kind))
	}
	hello, err := wire.ParseHello(f.Body)
	if err != nil {
		return err
	}
	held = append(held, filterCalls(hello.Network)...)

	level := slog.LevelInfo
	if hello.Debug {
		level = slog.LevelDebug
	}
	s := newServer(role, out)
	s.log = slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	ended := make(chan error, 1)
	go func() { ended <- s.read(in) }() // ends with the socket, and with it the process
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	opened := make(chan error, 1)
	go func() { opened <- s.open(ctx, hello, held) }() // its end is waited for, or the process ends
	select {
	case err = <-opened:
	case err = <-ended: // the parent is gone: nobody is there to tell
		cancel()
		select { // a C_Login that is cut off may spoil the token (SoftHSM's file)
		case <-opened:
		case <-time.After(closeWithin):
		}
		return noEOF(err)
	}
	if err != nil {
		return errors.Join(err, out.Send(wire.AppendFailed(nil, 0, err)), conn.CloseWrite())
	}
	err = noEOF(<-ended)
	// A module that hangs must not keep the process.
	time.AfterFunc(closeWithin, func() { os.Exit(3) })
	return errors.Join(err, s.engine.Close())
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}

// open opens the token, starts the executors and tells the parent.
func (s *server) open(ctx context.Context, h wire.Hello, held []string) error {
	engine, err := hsm.OpenEngine(ctx, hsm.Config{
		Module: h.Module, Env: h.Env, InitArgs: h.InitArgs, Accept: h.Accept, TokenLabel: h.TokenLabel, TokenSerial: h.TokenSerial,
		PIN: s.pins.ask, LoggedIn: s.pins.used, Lanes: h.Lanes, Instances: h.Instances, SessionCopies: h.SessionCopies,
		Hang: h.Hang, KeepAlive: h.KeepAlive, Unguarded: true, Logger: s.log, Metrics: s.registry,
	})
	if err != nil {
		return err
	}
	s.engine = engine
	for range h.Lanes {
		go s.execute() // as long as the process
	}
	ready, err := wire.AppendJSON(nil, wire.KindReady, 0, wire.Ready{Missing: held})
	if err != nil {
		return err
	}
	if err := s.out.Send(ready); err != nil {
		return err
	}
	// Keys that are looked for one by one cost a search each. It need not work:
	// they are found all the same.
	go func() { _, _ = engine.Keys(ctx) }()
	return nil
}
