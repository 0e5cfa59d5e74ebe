package ceremony

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// The events of a transcript.
const (
	eventBegin          = "begin"           // plan, tool, token
	eventResume         = "resume"          // taken up again after an interruption
	eventStep           = "step"            // a step begins
	eventCall           = "pkcs11"          // a call that changes the token, with its result
	eventTokenIntent    = "token.intent"    // a token is about to be initialised
	eventToken          = "token"           // it was
	eventPINIntent      = "pin.intent"      // a PIN is about to be set
	eventPIN            = "pin"             // it was
	eventSignOff        = "signoff"         // a custodian has verified a share and signs for it
	eventKeyIntent      = "key.intent"      // label and id of a key about to be made
	eventKey            = "key"             // it was made, read back and has signed
	eventKeyUse         = "key.use"         // an existing CA's key is taken into use
	eventKeyVerified    = "key.verified"    // a key was read back and has signed
	eventKeyDestroying  = "key.destroying"  // a key is about to be destroyed
	eventKeyDestroyed   = "key.destroyed"   // it was, and is not found any more
	eventBackupVerified = "backup.verified" // a backup was restored on the second token
	eventInventory      = "inventory"       // what is on the token
	eventDraft          = "draft"           // a certificate about to be signed
	eventCertificate    = "certificate"     // it was signed and verified
	eventRequest        = "request"         // a PKCS#10 request was signed
	eventCRLDraft       = "crl.draft"       // a CRL about to be signed
	eventCRL            = "crl"             // it was signed and verified
	eventFile           = "file"            // an output was written
	eventEnd            = "end"             // all steps are done; who signs
	eventSignature      = "signature"       // of the line that says end, by a new key or a person
	eventFailed         = "failed"
)

// maxLine is far above a line with a certificate.
const maxLine = 1 << 20

// entry is what a line says. Prev is the hash of the line before, so no line can
// be changed, moved or taken out without changing all that follow.
type entry struct {
	Seq    int            `json:"seq"` // from 1
	Time   time.Time      `json:"time"`
	Prev   string         `json:"prev"`           // 64 hex digits; zeros in the first
	Step   int            `json:"step,omitempty"` // of the plan, from 1
	Event  string         `json:"event"`
	Result string         `json:"result"` // ok or failed
	Detail map[string]any `json:"detail,omitempty"`
	hash   string         // of its line
}

// line is one line of the file: the entry's bytes and their SHA-256.
type line struct {
	Entry json.RawMessage `json:"entry"`
	Hash  string          `json:"hash"`
}

var noLine = strings.Repeat("0", 2*sha256.Size)

type transcript struct {
	file   *os.File
	now    func() time.Time
	seq    int
	prev   string
	before []entry           // of a transcript that is taken up again
	keys   map[string]string // SubjectPublicKeyInfo by label, in Base64
}

func (f *folder) transcript(now func() time.Time) (*transcript, error) {
	file, err := f.create(TranscriptFile)
	if err != nil {
		return nil, err
	}
	return &transcript{file: file, now: now, prev: noLine, keys: map[string]string{}}, nil
}

// resume opens a transcript that did not end, to go on with it. A last line that
// is not whole was never acted upon; it is cut off, and so said.
func (f *folder) resume(now func() time.Time) (*transcript, error) {
	path := f.at(TranscriptFile)
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOutput, err)
	}
	whole := content[:bytes.LastIndexByte(content, '\n')+1]
	list, err := readTranscript(bytes.NewReader(whole))
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: it has no line: remove the folder and run the plan anew", ErrTranscript)
	}
	if _, err := verifyEntries(list); err == nil {
		return nil, fmt.Errorf("%w: the ceremony has ended, there is nothing to resume", ErrOutput)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOutput, err)
	}
	if err := file.Truncate(int64(len(whole))); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("%w: %w", ErrOutput, err)
	}
	last := &list[len(list)-1]
	t := &transcript{file: file, now: now, seq: last.Seq, prev: last.hash, before: list, keys: map[string]string{}}
	for i := range list {
		t.learn(&list[i])
	}
	return t, nil
}

// ended is the line that says end, of a transcript that was cut off after it.
func (t *transcript) ended() *entry {
	for i := range t.before {
		if t.before[i].Event == eventEnd {
			return &t.before[i]
		}
	}
	return nil
}

// learn remembers the public keys that the transcript has.
func (t *transcript) learn(e *entry) {
	if e.Event != eventKey {
		return
	}
	label, _ := e.Detail["label"].(string)
	if spki, err := bytesOf(e.Detail["spki"]); err == nil {
		t.keys[label] = base64.StdEncoding.EncodeToString(spki)
	}
}

func (t *transcript) key(label string) string { return t.keys[label] }

// add writes one line and returns when it is on the disk: what comes next may
// change the token.
func (t *transcript) add(step int, event, result string, detail map[string]any) error {
	e := entry{Seq: t.seq + 1, Time: t.now().UTC(), Prev: t.prev, Step: step, Event: event, Result: result, Detail: detail}
	raw, err := json.Marshal(e)
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
	t.learn(&e)
	return nil
}

func (t *transcript) last() string { return t.prev }

func (t *transcript) close() { _ = t.file.Close() }

// readTranscript reads lines as long as each follows from the one before and is
// spelled as we spell it. ErrTranscript names the first that does not.
func readTranscript(r io.Reader) (list []entry, err error) {
	bad := func(n int, format string, a ...any) error {
		return fmt.Errorf("%w: line %d: %s", ErrTranscript, n, fmt.Sprintf(format, a...))
	}
	prev, before := noLine, ""
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	lines.Split(wholeLines)
	n := 1
	for ; lines.Scan(); n++ {
		text := lines.Bytes()
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			return nil, bad(n, "not JSON")
		}
		if same, err := json.Marshal(l); err != nil || !bytes.Equal(same, text) {
			return nil, bad(n, "not written by this tool")
		}
		sum := sha256.Sum256(l.Entry)
		if l.Hash != hex.EncodeToString(sum[:]) {
			return nil, bad(n, "its hash is wrong")
		}
		var e entry
		if err := json.Unmarshal(l.Entry, &e); err != nil {
			return nil, bad(n, "not an entry")
		}
		ended := before == eventEnd || before == eventSignature
		switch {
		case e.Seq != n || e.Prev != prev:
			return nil, bad(n, "does not follow the line before")
		case (e.Event == eventBegin) != (n == 1):
			return nil, bad(n, "event %q out of place", e.Event)
		case before == eventFailed && e.Event != eventResume:
			return nil, bad(n, "comes after the failure")
		case ended != (e.Event == eventSignature):
			return nil, bad(n, "event %q out of place: after the end come signatures only, and before it none", e.Event)
		}
		e.hash = l.Hash
		list = append(list, e)
		prev, before = l.Hash, e.Event
	}
	if err := lines.Err(); err != nil {
		return nil, bad(n, "%v", err)
	}
	return list, nil
}

// VerifyTranscript reads a transcript to its end and returns the hash of its last
// line, which is to be compared with the one written down at the ceremony: a
// transcript without signatures can be made anew by anybody, and one with them by
// all who signed it. ErrTranscript: a line that does not follow from the one before
// or is spelled otherwise, a ceremony that did not end well, a signature that is
// missing, wrong or nobody's.
func VerifyTranscript(r io.Reader) (last string, err error) {
	list, err := readTranscript(r)
	if err != nil {
		return "", err
	}
	return verifyEntries(list)
}

func verifyEntries(list []entry) (last string, err error) {
	final := ""
	if len(list) > 0 {
		final = list[len(list)-1].Event
	}
	if final != eventEnd && final != eventSignature {
		return "", fmt.Errorf("%w: the ceremony did not end well (last event %q)", ErrTranscript, final)
	}
	if err := verifyBegin(&list[0]); err != nil {
		return "", err
	}
	if err := verifySignatures(list); err != nil {
		return "", err
	}
	return list[len(list)-1].hash, nil
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
