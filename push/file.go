package push

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/signet-hsm/signet/internal/outbox"
)

// File records pushes as JSON lines, for development.
type File struct {
	mu sync.Mutex // one line at a time
	f  *os.File
}

// OpenFile opens the record at path, for appending; its mode is 0600, since
// pushes have personal data.
func OpenFile(path string) (*File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("push: record: %w", err)
	}
	return &File{f: f}, nil
}

// Close closes the record.
func (f *File) Close() error { return f.f.Close() }

// Recorded is one line. The device's token is not in it.
type Recorded struct {
	At           time.Time      `json:"at"`
	ID           string         `json:"id"`
	Tenant       string         `json:"tenant"`
	App          string         `json:"app"`
	User         string         `json:"user,omitempty"`
	Registration string         `json:"registration"`
	Platform     Platform       `json:"platform,omitempty"` // "" when the device has told no token
	Silent       bool           `json:"silent"`
	Title        string         `json:"title,omitempty"`
	Body         string         `json:"body,omitempty"`
	Sound        string         `json:"sound,omitempty"`
	Extras       map[string]any `json:"extras"`
}

func (p *Pusher) record(e outbox.Event, registration string, dev *device, n Note) error {
	line := Recorded{
		At: p.now(), ID: n.ID.String(), Tenant: e.Tenant.String(), App: e.App, User: e.User, Registration: registration,
		Silent: n.Silent, Title: n.Title, Body: n.Body, Sound: n.Sound, Extras: n.Extras,
	}
	if dev != nil {
		line.Platform = dev.at
	}
	raw, err := json.Marshal(line)
	if err != nil {
		return outbox.Permanent(fmt.Errorf("push: record: %w", err))
	}
	f := p.c.Record
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.f.Write(append(raw, '\n')); err != nil {
		if errors.Is(err, os.ErrClosed) {
			return outbox.Permanent(fmt.Errorf("push: record: %w", err))
		}
		return fmt.Errorf("push: record: %w", err)
	}
	p.count("file", "sent")
	return nil
}
