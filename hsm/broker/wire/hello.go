package wire

import (
	"bytes"
	"encoding/json"
	"time"
)

// Hello is what a worker is told once, before anything else. The PIN is not in
// it: a worker asks for it each time it has to log in, so that the parent decides
// how often a PIN is tried by all its workers together.
type Hello struct {
	Module        string            `json:"module"`
	Env           map[string]string `json:"env,omitempty"`
	InitArgs      string            `json:"init_args,omitempty"`
	Accept        []string          `json:"accept,omitempty"`
	TokenLabel    string            `json:"token_label,omitempty"`
	TokenSerial   string            `json:"token_serial,omitempty"`
	Lanes         int               `json:"lanes"`
	Instances     int               `json:"instances,omitempty"`
	SessionCopies bool              `json:"session_copies,omitempty"`
	Hang          time.Duration     `json:"hang,omitempty"`
	KeepAlive     time.Duration     `json:"keep_alive,omitempty"`
	// Network keeps the worker's right to open sockets.
	Network bool `json:"network,omitempty"`
	Debug   bool `json:"debug,omitempty"` // log at level debug
}

// AppendHello appends the frame.
func AppendHello(dst []byte, h Hello) ([]byte, error) { return AppendJSON(dst, KindHello, 0, h) }

// ParseHello is the inverse of AppendHello; a name that is not known is refused.
func ParseHello(body []byte) (Hello, error) {
	var h Hello
	err := ParseJSON(body, &h)
	return h, err
}

// AppendJSON appends a frame for one of the few cold messages.
func AppendJSON(dst []byte, k Kind, id uint64, v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return Append(dst, Frame{Kind: k, ID: id, Body: b}), nil
}

// ParseJSON reads one value, strictly.
func ParseJSON(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return violation("%v", err)
	}
	if d.More() {
		return violation("more than one JSON value")
	}
	return nil
}

// Ready is what a worker tells when its token is open.
type Ready struct {
	Missing []string `json:"missing,omitempty"` // protections that this machine did not grant
}
