package conf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/signet-hsm/signet/internal/secret"
)

// maxSecret bounds a secret; PINs, passwords and pepper keys are far shorter.
const maxSecret = 64 << 10

// SecretSource says where a secret is. Exactly one field is set.
type SecretSource struct {
	// File is a path, relative to the working directory. The file must be a
	// regular one of ours or root's, closed to group and others (0600 or 0400).
	File string `yaml:"file"`
	// FD is the number of a descriptor inherited from the parent: a pipe, a socket
	// or a file, read to its end once and remembered.
	FD *int `yaml:"fd"`
	// Credential is the name of a systemd credential of the unit
	// (LoadCredential=, SetCredentialEncrypted=): a file in $CREDENTIALS_DIRECTORY.
	Credential string `yaml:"credential"`
	// Prompt is what to ask for at the terminal of the process, without echo: "PIN
	// of token root". Asked once and remembered.
	Prompt string `yaml:"prompt"`
}

// IsZero reports whether nothing is set: an optional secret that was left out.
func (s SecretSource) IsZero() bool { return s == SecretSource{} }

// Validate checks that one field is set, without touching what it names.
func (s SecretSource) Validate() error {
	set := 0
	for _, is := range []bool{s.File != "", s.FD != nil, s.Credential != "", s.Prompt != ""} {
		if is {
			set++
		}
	}
	switch {
	case set == 0:
		return errors.New("a secret needs file, fd, credential or prompt")
	case set > 1:
		return errors.New("a secret has one of file, fd, credential and prompt")
	case s.FD != nil && *s.FD < 0:
		return fmt.Errorf("fd %d is no descriptor", *s.FD)
	case strings.ContainsAny(s.Credential, "/\x00") || s.Credential == "." || s.Credential == "..":
		return fmt.Errorf("credential %q is a path: a credential has a name only", s.Credential)
	case strings.ContainsFunc(s.Prompt, unicode.IsControl):
		return errors.New("prompt must be one line of plain text")
	}
	return nil
}

// UnmarshalYAML implements yaml.NodeUnmarshaler, so that a wrong source is
// refused with its line, long before the secret is needed.
func (s *SecretSource) UnmarshalYAML(node ast.Node) error {
	type plain SecretSource
	var p plain
	if err := yaml.NodeToValue(node, &p, yaml.Strict()); err != nil {
		return err
	}
	if err := SecretSource(p).Validate(); err != nil {
		return &nodeError{node.GetToken(), err.Error()}
	}
	*s = SecretSource(p)
	return nil
}

// Read returns the secret without its trailing newline, if it has one. The
// caller may Wipe it: each call returns a copy of its own. A file is read each
// time, so that a rotated secret is found. An empty secret is an error. No error
// tells anything of the content.
func (s SecretSource) Read(ctx context.Context) (secret.Bytes, error) {
	if err := s.Validate(); err != nil {
		return secret.Bytes{}, fmt.Errorf("conf: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return secret.Bytes{}, fmt.Errorf("conf: secret: %w", err)
	}
	var b []byte
	var err error
	switch {
	case s.FD != nil:
		b, err = remembered.read(*s.FD, func() ([]byte, error) { return drain(ctx, *s.FD) })
	case s.Prompt != "":
		b, err = remembered.read(s.Prompt, func() ([]byte, error) { return ask(ctx, s.Prompt) })
	case s.Credential != "":
		b, err = readCredential(s.Credential)
	default:
		b, err = readFile(s.File)
	}
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("conf: secret: %w", err)
	}
	return secret.New(b), nil
}

func readFile(path string) ([]byte, error) {
	// Non-blocking: a named pipe without a writer would hold us for ever. The
	// check is made on what was opened, so nothing can be put in its place.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if perm := st.Mode().Perm(); perm&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o, open to others: chmod 600", path, perm)
	}
	if uid := int(st.Sys().(*syscall.Stat_t).Uid); uid != os.Geteuid() && uid != 0 {
		return nil, fmt.Errorf("%s belongs to uid %d, neither ours nor root", path, uid)
	}
	return readSecret(f, path)
}

// readSecret reads to the end, into one buffer that is wiped: no half-grown
// copies of the secret stay on the heap.
func readSecret(r io.Reader, name string) ([]byte, error) {
	buf := make([]byte, maxSecret+1)
	defer clear(buf)
	n, err := io.ReadFull(r, buf)
	switch {
	case err == nil:
		return nil, fmt.Errorf("%s holds more than %d bytes", name, maxSecret)
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	b := buf[:n]
	if rest, ok := bytes.CutSuffix(b, []byte("\n")); ok {
		b, _ = bytes.CutSuffix(rest, []byte("\r"))
	}
	if len(b) == 0 {
		return nil, fmt.Errorf("%s is empty", name)
	}
	return bytes.Clone(b), nil
}

// readCredential reads one of systemd's files. The unit's manager made folder and
// file for this service alone, so who may read them is not judged here.
func readCredential(name string) ([]byte, error) {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("credential %s: CREDENTIALS_DIRECTORY is not set: add LoadCredential=%s:/path to the unit", name, name)
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("credential %s is not a regular file", name)
	}
	return readSecret(f, "credential "+name)
}

// memory holds what can be asked for once only: a pipe gives its content once, a
// person is asked once, while the HSM's PIN is needed at each login. A failure of
// a descriptor is remembered as well: the number is closed by then and may soon be
// another file's.
type memory struct {
	mu     sync.Mutex // held while one is read: a second reader waits for the result
	result map[any]recollection
}

type recollection struct {
	content []byte
	err     error
}

var remembered = memory{result: map[any]recollection{}}

func (m *memory) read(key any, source func() ([]byte, error)) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.result[key]
	if !ok {
		r.content, r.err = source()
		if _, asked := key.(string); !asked || r.err == nil { // a person may be asked again
			m.result[key] = r
		}
	}
	return bytes.Clone(r.content), r.err
}

// Forget wipes what was read from descriptors and prompts. A program that logs in
// once calls it then; a descriptor that is read again after it is an error.
func Forget() {
	remembered.mu.Lock()
	defer remembered.mu.Unlock()
	for key, r := range remembered.result {
		clear(r.content)
		if _, asked := key.(string); asked {
			delete(remembered.result, key)
			continue
		}
		remembered.result[key] = recollection{err: fmt.Errorf("fd %v was read and forgotten", key)}
	}
}

func drain(ctx context.Context, fd int) ([]byte, error) {
	name := fmt.Sprintf("fd %d", fd)
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFREG:
	case syscall.S_IFIFO, syscall.S_IFSOCK:
		// So that the wait can end with ctx: the parent may never write.
		if err := syscall.SetNonblock(fd, true); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	default:
		return nil, fmt.Errorf("%s is not a pipe, socket or file", name)
	}
	f := os.NewFile(uintptr(fd), name)
	defer func() { _ = f.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	b, err := readSecret(f, name)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", err, ctx.Err())
	}
	return b, err
}
