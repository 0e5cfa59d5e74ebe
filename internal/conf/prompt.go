package conf

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/term"
)

// ask reads one line from the controlling terminal without echo. Not standard
// input: that may be a pipe, and what is typed there may be kept by whoever feeds
// it.
func ask(ctx context.Context, prompt string) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("prompt: no terminal to ask at: %w", err)
	}
	fd := int(tty.Fd())
	state, err := term.GetState(fd)
	if err == nil {
		err = hideEcho(fd)
	}
	if err != nil {
		_ = tty.Close()
		return nil, fmt.Errorf("prompt: %w", err)
	}
	_, _ = fmt.Fprintf(tty, "%s: ", prompt)
	type answer struct {
		line []byte
		err  error
	}
	done := make(chan answer, 1)
	// A read from a terminal can not be broken off. When ctx ends first, this
	// goroutine waits for a line that nobody takes, until the process ends, which is
	// what the end of ctx announces; the echo is put back at once.
	go func() {
		line, err := term.ReadPassword(fd)
		_ = term.Restore(fd, state)
		_, _ = fmt.Fprintln(tty)
		_ = tty.Close()
		done <- answer{line, err}
	}()
	select {
	case a := <-done:
		defer clear(a.line)
		switch {
		case a.err != nil:
			return nil, fmt.Errorf("prompt: %w", a.err)
		case len(a.line) == 0:
			return nil, errors.New("prompt: nothing was typed")
		case len(a.line) > maxSecret:
			return nil, fmt.Errorf("prompt: more than %d bytes", maxSecret)
		}
		return append([]byte(nil), a.line...), nil
	case <-ctx.Done():
		_ = term.Restore(fd, state)
		return nil, fmt.Errorf("prompt: %w", ctx.Err())
	}
}
