package powerauth

import (
	"context"
	"fmt"
	"time"
)

// InboxMessage is a message to this device's user; all their devices share it.
type InboxMessage struct {
	ID      string `json:"id"`
	Subject string `json:"subject"`
	Summary string `json:"summary"`
	Body    string `json:"body"` // empty in a list
	Type    string `json:"type"` // "text" or "html", which is for the app to clean
	Read    bool   `json:"read"`
	Created Time   `json:"timestampCreated"`
}

// Time is a time as the mobile token API writes it, to the second.
type Time struct{ time.Time }

const mobileTime = `"2006-01-02T15:04:05-0700"`

// UnmarshalJSON reads that form only.
func (t *Time) UnmarshalJSON(b []byte) (err error) {
	t.Time, err = time.Parse(mobileTime, string(b))
	return err
}

// InboxPage says which messages to list.
type InboxPage struct {
	Number int  // from 0, the newest
	Size   int  // 1 to 500; 0 is 100
	Unread bool // only those
}

const pathInbox = "/api/inbox/"

// InboxCount tells how many messages are unread.
func (d *Device) InboxCount(ctx context.Context, t Token) (int, error) {
	var out objectResponse[struct {
		Unread int `json:"countUnread"`
	}]
	if err := d.byToken(ctx, t, pathInbox+"count", nil, &out); err != nil {
		return 0, fmt.Errorf("count inbox: %w", err)
	}
	return out.Object.Unread, nil
}

// Inbox lists messages without their bodies, newest first.
func (d *Device) Inbox(ctx context.Context, t Token, p InboxPage) ([]InboxMessage, error) {
	if p.Size == 0 {
		p.Size = 100
	}
	var out objectResponse[[]InboxMessage]
	if err := d.byToken(ctx, t, pathInbox+"message/list", struct {
		Page   int  `json:"page"`
		Size   int  `json:"size"`
		Unread bool `json:"onlyUnread"`
	}{p.Number, p.Size, p.Unread}, &out); err != nil {
		return nil, fmt.Errorf("list inbox: %w", err)
	}
	return out.Object, nil
}

// InboxMessage fetches one message with its body, which does not mark it as read.
func (d *Device) InboxMessage(ctx context.Context, t Token, id string) (InboxMessage, error) {
	var out objectResponse[InboxMessage]
	if err := d.byToken(ctx, t, pathInbox+"message/detail", map[string]string{"id": id}, &out); err != nil {
		return InboxMessage{}, fmt.Errorf("show message: %w", err)
	}
	return out.Object, nil
}

// ReadInbox marks a message as read; again changes nothing.
func (d *Device) ReadInbox(ctx context.Context, t Token, id string) error {
	var out objectResponse[struct{}]
	if err := d.byToken(ctx, t, pathInbox+"message/read", map[string]string{"id": id}, &out); err != nil {
		return fmt.Errorf("read message: %w", err)
	}
	return nil
}

// ReadAllInbox marks all messages as read.
func (d *Device) ReadAllInbox(ctx context.Context, t Token) error {
	var out objectResponse[struct{}]
	if err := d.byToken(ctx, t, pathInbox+"message/read-all", nil, &out); err != nil {
		return fmt.Errorf("read all messages: %w", err)
	}
	return nil
}
