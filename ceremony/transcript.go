package ceremony

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// The events of a transcript, in the order in which they may come.
const (
	eventBegin       = "begin"       // plan, tool, token
	eventKeyIntent   = "key.intent"  // label and id of a key about to be made
	eventKey         = "key"         // it was made and has signed
	eventKeyUse      = "key.use"     // the existing root's key is taken into use
	eventDraft       = "draft"       // a certificate about to be signed
	eventCertificate = "certificate" // it was signed and verified
	eventCRLDraft    = "crl.draft"   // a CRL about to be signed
	eventCRL         = "crl"         // it was signed and verified
	eventFile        = "file"        // an output was written
	eventEnd         = "end"
	eventFailed      = "failed"
)

// maxLine is far above a line with a certificate.
const maxLine = 1 << 20

// entry is what a line says. Prev is the hash of the line before, so no line can
// be changed, moved or taken out without changing all that follow.
type entry struct {
	Seq    int            `json:"seq"` // from 1
	Time   time.Time      `json:"time"`
	Prev   string         `json:"prev"` // 64 hex digits; zeros in the first
	Event  string         `json:"event"`
	Result string         `json:"result"` // ok or failed
	Detail map[string]any `json:"detail,omitempty"`
}

// line is one line of the file: the entry's bytes and their SHA-256.
type line struct {
	Entry json.RawMessage `json:"entry"`
	Hash  string          `json:"hash"`
}

var noLine = strings.Repeat("0", 2*sha256.Size)

type transcript struct {
	file *os.File
	now  func() time.Time
	seq  int
	prev string
}

func (f *folder) transcript(now func() time.Time) (*transcript, error) {
	file, err := f.create(TranscriptFile)
	if err != nil {
		return nil, err
	}
	return &transcript{file: file, now: now, prev: noLine}, nil
}

// add writes one line and returns when it is on the disk: what comes next may
// change the token.
func (t *transcript) add(event, result string, detail map[string]any) error {
	raw, err := json.Marshal(entry{Seq: t.seq + 1, Time: t.now().UTC(), Prev: t.prev, Event: event, Result: result, Detail: detail})
	if err != nil {
		return fmt.Errorf("transcript: %w", err)
	}
	sum := sha256.Sum256(raw)
	hash := hex.EncodeToString(sum[:])
	text, err := json.Marshal(line{raw, hash})
	if err != nil {
		return fmt.Errorf("transcript: %w", err)
	}
	if _, err := t.file.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("transcript: %w", err)
	}
	if err := t.file.Sync(); err != nil {
		return fmt.Errorf("transcript: %w", err)
	}
	t.seq, t.prev = t.seq+1, hash
	return nil
}

func (t *transcript) last() string { return t.prev }

func (t *transcript) close() { _ = t.file.Close() }

// VerifyTranscript reads a transcript to its end and returns the hash of its
// last line, which is to be compared with the one written down at the ceremony:
// only that tells an intact transcript from one made anew. It fails with
// ErrTranscript on the first line that does not follow from the one before, on
// any other spelling of a line than ours, and when the ceremony did not end well.
func VerifyTranscript(r io.Reader) (last string, err error) {
	bad := func(n int, format string, a ...any) error {
		return fmt.Errorf("%w: line %d: %s", ErrTranscript, n, fmt.Sprintf(format, a...))
	}
	prev, final := noLine, ""
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	lines.Split(wholeLines)
	n := 1
	for ; lines.Scan(); n++ {
		text := lines.Bytes()
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			return "", bad(n, "not JSON")
		}
		if same, err := json.Marshal(l); err != nil || !bytes.Equal(same, text) {
			return "", bad(n, "not written by this tool")
		}
		sum := sha256.Sum256(l.Entry)
		if l.Hash != hex.EncodeToString(sum[:]) {
			return "", bad(n, "its hash is wrong")
		}
		var e entry
		if err := json.Unmarshal(l.Entry, &e); err != nil {
			return "", bad(n, "not an entry")
		}
		switch {
		case e.Seq != n || e.Prev != prev:
			return "", bad(n, "does not follow the line before")
		case (e.Event == eventBegin) != (n == 1):
			return "", bad(n, "event %q out of place", e.Event)
		case final == eventEnd || final == eventFailed:
			return "", bad(n, "comes after the end")
		}
		prev, final = l.Hash, e.Event
	}
	if err := lines.Err(); err != nil {
		return "", bad(n, "%v", err)
	}
	if final != eventEnd {
		return "", fmt.Errorf("%w: the ceremony did not end well (last event %q)", ErrTranscript, final)
	}
	return prev, nil
}

// wholeLines is bufio.ScanLines without its mercy: a line ends with one newline,
// also the last.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return 0, nil, errors.New("not a whole line")
	}
	return 0, nil, nil
}
