package ceremony

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
)

// folder is where the outputs go. Everything in it is created by us, once.
type folder struct {
	path string
	dir  *os.File
}

func newFolder(path string) (*folder, error) {
	// Mkdir is the check: it fails when anything of that name is there.
	if err := os.Mkdir(path, 0o755); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOutput, err)
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOutput, err)
	}
	return &folder{path, dir}, nil
}

// oldFolder opens the folder of a ceremony that is taken up again.
func oldFolder(path string) (*folder, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOutput, err)
	}
	return &folder{path, dir}, nil
}

func (f *folder) close() { _ = f.dir.Close() }

func (f *folder) at(name string) string { return filepath.Join(f.path, name) }

func (f *folder) read(name string) ([]byte, error) { return os.ReadFile(f.at(name)) }

// create makes a file that must not exist, and makes its name durable.
func (f *folder) create(name string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(f.path, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	if err := f.dir.Sync(); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// write makes a file with this content, whole or not at all: it is written under
// another name and linked to its own, which fails when that is taken. again: the
// ceremony was interrupted, and a file that has this very content is ours.
func (f *folder) write(name string, content []byte, again bool) error {
	draft := "." + name + ".part"
	if again {
		if old, err := f.read(name); err == nil && bytes.Equal(old, content) {
			return nil
		}
		_ = os.Remove(f.at(draft))
	}
	file, err := f.create(draft)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = os.Link(f.at(draft), f.at(name))
	}
	if errors.Is(err, os.ErrExist) {
		err = fmt.Errorf("%w: %w", ErrOutput, err)
	}
	return errors.Join(err, os.Remove(f.at(draft)), f.dir.Sync())
}

func pemOf(certs ...[]byte) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	return out
}

// toolInfo says which program this is. The hash of the executable counts; the
// version is what it claims.
func toolInfo() map[string]string {
	info := map[string]string{"go": runtime.Version()}
	if b, ok := debug.ReadBuildInfo(); ok {
		info["module"], info["version"] = b.Main.Path, b.Main.Version
	}
	if path, err := os.Executable(); err == nil {
		info["executableSha256"] = fileHash(path)
	}
	return info
}

// fileHash is SHA-256 in hex, or why there is none.
func fileHash(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return "unknown: " + err.Error()
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "unknown: " + err.Error()
	}
	return hex.EncodeToString(h.Sum(nil))
}
