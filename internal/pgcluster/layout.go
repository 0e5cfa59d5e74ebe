package pgcluster

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// maxSocketPath is what sun_path holds besides its final NUL (unix(7)).
const maxSocketPath = 107

// layout is the folder on disk and how the server's user gets at it.
type layout struct {
	dir       string // absolute
	socketDir string // as clients name it
	who       *account
	open      []*os.File // descriptors handed to the server; see childPath
}

func (l *layout) path(name string) string { return filepath.Join(l.dir, name) }
func (l *layout) data() string            { return l.path("data") }

func makeLayout(dir string, who *account) (layout, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return layout{}, err
	}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return layout{}, err
	}
	// The real path: the orphan search compares working directories, and a link
	// may point elsewhere by the next start.
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return layout{}, err
	}
	l := layout{dir: abs, who: who}
	// A cluster keeps the user it was made for: installing the package later adds
	// the user postgres, which must not lock out a cluster made for nobody.
	if st, err := os.Stat(l.data()); err == nil && who != nil {
		if sys := st.Sys().(*syscall.Stat_t); sys.Uid != 0 {
			l.who = &account{uid: int(sys.Uid), gid: int(sys.Gid), name: strconv.Itoa(int(sys.Uid))}
		}
	}
	return l, nil
}

// clusterVersion is the major version of the cluster in the folder, 0 when
// there is none.
func (l *layout) clusterVersion() (int, error) {
	b, err := os.ReadFile(filepath.Join(l.data(), "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Lstat(l.data()); err == nil {
			return 0, fmt.Errorf("%s exists but is no PostgreSQL cluster", l.data())
		}
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || major < 10 {
		return 0, fmt.Errorf("%s: PG_VERSION is %q", l.data(), strings.TrimSpace(string(b)))
	}
	return major, nil
}

// prepareSocket makes the socket's folder, private to the server's user.
func (l *layout) prepareSocket() error {
	l.socketDir = l.path("run")
	if len(socketFile(l.socketDir)) > maxSocketPath {
		// Named after the folder, so that every start uses the same one.
		sum := sha256.Sum256([]byte(l.dir))
		name := fmt.Sprintf("signet-pg-%d-%s", os.Geteuid(), hex.EncodeToString(sum[:6]))
		l.socketDir = filepath.Join(os.TempDir(), name)
		if len(socketFile(l.socketDir)) > maxSocketPath {
			l.socketDir = filepath.Join("/tmp", name)
		}
	}
	if err := os.Mkdir(l.socketDir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	// The temporary directory is open to all: take no folder, and follow no link,
	// that somebody else laid there.
	st, err := os.Lstat(l.socketDir)
	if err != nil {
		return err
	}
	uid := int(st.Sys().(*syscall.Stat_t).Uid)
	if !st.IsDir() || (uid != os.Geteuid() && (l.who == nil || uid != l.who.uid)) {
		return fmt.Errorf("%s is not a folder of ours: remove it", l.socketDir)
	}
	if err := os.Chmod(l.socketDir, 0o700); err != nil {
		return err
	}
	return l.who.own(l.socketDir)
}

func socketFile(dir string) string {
	return filepath.Join(dir, ".s.PGSQL."+strconv.Itoa(socketPort))
}

// childPath is how the server is told of a folder. As root it is a descriptor
// reached through /proc/self/fd: the server's user needs no right on the parents
// then, so a data folder under /root works and our folder stays closed to it.
// n counts the descriptors of one child from 0 in calling order.
func (l *layout) childPath(path string, n int) (string, *os.File, error) {
	if l.who == nil {
		return path, nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", nil, err
	}
	l.open = append(l.open, f)
	return "/proc/self/fd/" + strconv.Itoa(3+n), f, nil
}

// close releases what the layout holds; the short socket folder goes too.
func (l *layout) close() {
	for _, f := range l.open {
		_ = f.Close()
	}
	l.open = nil
	if l.socketDir != "" && l.socketDir != l.path("run") {
		_ = os.Remove(l.socketDir)
	}
}
