package hsm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// privateCopy copies the module's file into a new folder of ours (0700), so that
// the dynamic loader takes it for another library: with state, locks and, where
// there is one, a connection of its own. The copy is read back and must have the
// original's hash. remove takes folder and file away, which may be done as soon as
// the library is loaded.
func privateCopy(path string) (copied string, remove func(), err error) {
	dir, err := os.MkdirTemp("", "signet-hsm-")
	if err != nil {
		return "", nil, fmt.Errorf("hsm: copy the module: %w: %w", ErrConfig, err)
	}
	remove = func() { _ = os.RemoveAll(dir) }
	copied = filepath.Join(dir, filepath.Base(path))
	if err := copyVerified(path, copied); err != nil {
		remove()
		return "", nil, fmt.Errorf("hsm: copy the module: %w: %w", ErrConfig, err)
	}
	return copied, remove, nil
}

func copyVerified(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o500)
	if err != nil {
		return err
	}
	want := sha256.New()
	_, err = io.Copy(io.MultiWriter(dst, want), src)
	if err = errors.Join(err, dst.Close()); err != nil {
		return err
	}
	back, err := os.Open(to)
	if err != nil {
		return err
	}
	defer back.Close()
	got := sha256.New()
	if _, err := io.Copy(got, back); err != nil {
		return err
	}
	if string(got.Sum(nil)) != string(want.Sum(nil)) {
		return errors.New("the copy differs from the module")
	}
	return nil
}
