package softhsm

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/secret"
)

// Names inside a token's folder.
const (
	confFile   = "softhsm2.conf"
	tokensDir  = "tokens"
	pinFile    = "pin"
	soPINFile  = "so-pin"
	moduleFile = "libsofthsm2.so" // a private copy, when there is one
	labelFile  = "label"          // written last: the token is whole
)

var (
	// ErrNotInstalled: the SoftHSM2 library is not on this machine.
	ErrNotInstalled = fault.New(fault.Unavailable, "SOFTHSM_NOT_INSTALLED",
		"SoftHSM2 is not installed: install the package softhsm2 (Debian, Ubuntu: apt-get install softhsm2) or set SOFTHSM2_MODULE")
	// ErrExists: the folder holds a token already.
	ErrExists = fault.New(fault.Conflict, "SOFTHSM_EXISTS", "the folder holds a SoftHSM2 token already")
	// ErrNoToken: the folder holds no whole token.
	ErrNoToken = fault.New(fault.NotFound, "SOFTHSM_NO_TOKEN", "the folder holds no SoftHSM2 token")
	// ErrExposed: a PIN file can be read by others.
	ErrExposed = fault.New(fault.Invalid, "SOFTHSM_EXPOSED", "a PIN file is open to other users")
)

// Token is a SoftHSM2 token in a folder of its own.
type Token struct {
	Dir    string // absolute
	Conf   string // DIR/softhsm2.conf
	Module string // the library to load; DIR/libsofthsm2.so after Isolate
	Label  string
	PIN    secret.Bytes
	SOPIN  secret.Bytes
}

// modulePaths are the places where distributions put the library.
var modulePaths = []string{
	"/usr/lib/softhsm/libsofthsm2.so",
	"/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib64/softhsm/libsofthsm2.so",
	"/usr/lib64/pkcs11/libsofthsm2.so",
	"/usr/lib64/libsofthsm2.so",
	"/usr/local/lib/softhsm/libsofthsm2.so",
	"/opt/homebrew/lib/softhsm/libsofthsm2.so",
}

// FindModule returns the library's path: SOFTHSM2_MODULE when set, else the
// first known place that has it, else ErrNotInstalled.
func FindModule() (string, error) {
	if p := os.Getenv("SOFTHSM2_MODULE"); p != "" {
		if _, err := os.Stat(p); err != nil {
			return "", fmt.Errorf("softhsm: %w: SOFTHSM2_MODULE: %w", ErrNotInstalled, err)
		}
		return filepath.Abs(p)
	}
	for _, p := range modulePaths {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("softhsm: %w", ErrNotInstalled)
}

// Create makes dir (0700) with softhsm2.conf, tokens/, and a token with random
// PINs in the 0600 files pin and so-pin. What an interrupted Create left is
// swept first; a whole token is ErrExists. The PINs pass through no argument
// list and no environment.
func Create(ctx context.Context, dir, label string) (*Token, error) {
	installed, err := FindModule()
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("softhsm: %w", err)
	}
	t := &Token{Dir: dir, Conf: filepath.Join(dir, confFile), Module: installed, Label: label}
	if _, err := os.Lstat(t.path(labelFile)); err == nil {
		return nil, fmt.Errorf("softhsm: %w: %s", ErrExists, dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("softhsm: %w", err)
	}
	if err := t.sweep(); err != nil {
		return nil, err
	}
	t.PIN, t.SOPIN = newPIN(), newPIN()
	if err := errors.Join(
		os.Mkdir(t.path(tokensDir), 0o700),
		os.WriteFile(t.Conf, conf(t.path(tokensDir)), 0o600),
		os.WriteFile(t.path(pinFile), t.PIN.Reveal(), 0o600),
		os.WriteFile(t.path(soPINFile), t.SOPIN.Reveal(), 0o600),
	); err != nil {
		return nil, fmt.Errorf("softhsm: %w", err)
	}
	// A private copy of the library initialises the token, because the
	// installed one may be in use by this process with another configuration.
	if err := t.Isolate(); err != nil {
		return nil, err
	}
	err = hsm.InitToken(ctx, hsm.InitConfig{Module: t.Module, Env: t.env(), Label: label, SOPIN: t.SOPIN, PIN: t.PIN})
	err = errors.Join(err, os.Remove(t.Module))
	t.Module = installed
	if err != nil {
		return nil, fmt.Errorf("softhsm: %w", err)
	}
	if err := os.WriteFile(t.path(labelFile), []byte(label), 0o600); err != nil {
		return nil, fmt.Errorf("softhsm: %w", err)
	}
	return t, nil
}

// Load finds the token that Create made in dir.
func Load(dir string) (*Token, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("softhsm: %w", err)
	}
	t := &Token{Dir: dir, Conf: filepath.Join(dir, confFile)}
	label, err := os.ReadFile(t.path(labelFile))
	if err != nil {
		return nil, fmt.Errorf("softhsm: %w: %w", ErrNoToken, err)
	}
	t.Label = string(label)
	if t.PIN, err = readPIN(t.path(pinFile)); err != nil {
		return nil, err
	}
	if t.SOPIN, err = readPIN(t.path(soPINFile)); err != nil {
		return nil, err
	}
	if _, err := os.Stat(t.path(moduleFile)); err == nil {
		t.Module = t.path(moduleFile)
		return t, nil
	}
	t.Module, err = FindModule()
	return t, err
}

// Isolate gives the token a copy of the library: a process that loads two copies
// has two SoftHSMs that share nothing, so tests in parallel never meet.
func (t *Token) Isolate() error {
	src, err := os.Open(t.Module)
	if err != nil {
		return fmt.Errorf("softhsm: %w", err)
	}
	defer src.Close()
	dst, err := os.OpenFile(t.path(moduleFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
	if err != nil {
		return fmt.Errorf("softhsm: %w", err)
	}
	_, err = io.Copy(dst, src)
	if err = errors.Join(err, dst.Close()); err != nil {
		return fmt.Errorf("softhsm: copy the module: %w", err)
	}
	t.Module = t.path(moduleFile)
	return nil
}

// HSM returns what hsm.Open needs to open this token.
func (t *Token) HSM() hsm.Config {
	return hsm.Config{
		Module: t.Module, Env: t.env(), TokenLabel: t.Label,
		PIN: func(context.Context) (secret.Bytes, error) { return secret.New(bytes.Clone(t.PIN.Reveal())), nil },
	}
}

// Destroy removes what Create made, keys and all, and the folder when nothing
// else is in it. Close the hsm.Token first.
func (t *Token) Destroy() error {
	if _, err := os.Lstat(t.path(confFile)); err != nil {
		return fmt.Errorf("softhsm: %w: %w", ErrNoToken, err)
	}
	if err := t.sweep(); err != nil {
		return err
	}
	if left, err := os.ReadDir(t.Dir); err != nil || len(left) > 0 {
		return nil //nolint:nilerr // not ours to remove
	}
	return os.Remove(t.Dir)
}

// sweep removes the names we own, the mark of a whole token first.
func (t *Token) sweep() error {
	for _, name := range []string{labelFile, moduleFile, pinFile, soPINFile, tokensDir, confFile} {
		if err := os.RemoveAll(t.path(name)); err != nil {
			return fmt.Errorf("softhsm: %w", err)
		}
	}
	return nil
}

func (t *Token) path(name string) string { return filepath.Join(t.Dir, name) }

func (t *Token) env() map[string]string { return map[string]string{"SOFTHSM2_CONF": t.Conf} }

// conf is the whole configuration. Log level ERROR: DEBUG costs a third of the
// signatures.
func conf(tokens string) []byte {
	return fmt.Appendf(nil, "directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", tokens)
}

// newPIN has 128 bits and the alphabet every PIN pad knows.
func newPIN() secret.Bytes { return secret.New([]byte(rand.Text())) }

func readPIN(path string) (secret.Bytes, error) {
	f, err := os.Open(path)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("softhsm: %w: %w", ErrNoToken, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("softhsm: %w", err)
	}
	if info.Mode()&fs.ModePerm&0o077 != 0 {
		return secret.Bytes{}, fmt.Errorf("softhsm: %w: %s has mode %v", ErrExposed, path, info.Mode())
	}
	b, err := io.ReadAll(io.LimitReader(f, 256))
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("softhsm: %w", err)
	}
	return secret.New(b), nil
}
