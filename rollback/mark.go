package rollback

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/uuid"
)

// mark is what a node knows of the database, outside of it.
type mark struct {
	Node uuid.UUID `json:"node"`
	Seq  int64     `json:"seq"` // the highest number that the database is known to have stored; 0: never beaten
	At   time.Time `json:"at"`  // when that was, by the database's clock
}

// markFile is the file that the mark is kept in. A lock on a file beside it, which
// the kernel gives up with the process, keeps two processes from using one.
type markFile struct {
	path string
	lock *os.File
}

// openMark reads the file, or makes the mark of a new node. The file itself
// appears with the first write.
func openMark(path string) (*markFile, mark, error) {
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, mark{}, fmt.Errorf("rollback: mark: %w", err)
	}
	f := &markFile{path, lock}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.close()
		return nil, mark{}, fmt.Errorf("rollback: mark %s is used by another process: each node needs its own", path)
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, mark{Node: uuid.New()}, nil
	}
	var m mark
	if err == nil {
		if err = json.Unmarshal(raw, &m); err == nil && (m.Node == uuid.Nil || m.Seq < 1) {
			err = errors.New("no mark in it")
		}
	}
	if err != nil {
		f.close()
		return nil, mark{}, fmt.Errorf("rollback: mark %s: %w (docs/restore.md tells when it may be removed)", path, err)
	}
	return f, m, nil
}

// write replaces the file: whatever happens, it holds the old mark or the new one.
func (f *markFile) write(m mark) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	dir := filepath.Dir(f.path)
	tmp, err := os.OpenFile(f.path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	_, err = tmp.Write(append(raw, '\n'))
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), f.path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (f *markFile) close() { _ = f.lock.Close() }
