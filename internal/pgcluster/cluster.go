package pgcluster

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	superuser = "signet"
	// socketPort names the socket file only; nothing listens on TCP. Not 5432, so
	// that no tool started in run/ by accident takes it for the system's server.
	socketPort = 5433
	// startLimit bounds a start for callers whose ctx has no deadline; crash
	// recovery of a large cluster is the slow case.
	startLimit = 60 * time.Second
)

// Config says where and how a cluster runs.
type Config struct {
	// Dir is the cluster's folder; made (0700) when missing.
	Dir string
	// Logger gets one line per start, stop and repair; nil discards.
	Logger *slog.Logger
	// Durable commits survive a crash of the machine. False trades that for speed
	// (fsync, full_page_writes and synchronous_commit off): tests only.
	Durable bool
	// Settings are further server settings, e.g. {"max_connections": "200"}; they
	// win over ours.
	Settings map[string]string

	// binDirs replaces the search for programs (tests).
	binDirs []string
}

// Cluster is a running private server.
type Cluster struct {
	url    string
	log    *slog.Logger
	proc   *process
	lock   *os.File
	layout layout

	stopOnce sync.Once
	stopErr  error
}

// Start returns when the server takes connections. It makes the cluster on first
// use and, after an unclean end, stops what is left of the last server first.
// ctx bounds the start only, not the life of the cluster.
func Start(ctx context.Context, c Config) (_ *Cluster, err error) {
	if c.Dir == "" {
		return nil, errors.New("pgcluster: Config.Dir is empty")
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	cl := &Cluster{log: c.Logger}
	if cl.log == nil {
		cl.log = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("pgcluster: %w", err)
			if cl.proc != nil {
				stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
				defer cancel()
				_ = cl.proc.stop(stop, c.Durable)
			}
			cl.layout.close()
			if cl.lock != nil {
				_ = cl.lock.Close()
			}
		}
	}()

	began := time.Now()
	who, err := serverUser()
	if err != nil {
		return nil, err
	}
	if cl.layout, err = makeLayout(c.Dir, who); err != nil {
		return nil, err
	}
	l := &cl.layout
	if cl.lock, err = takeLock(ctx, l.path("lock")); err != nil {
		return nil, err
	}
	major, err := l.clusterVersion()
	if err != nil {
		return nil, err
	}
	bin, err := findBinaries(ctx, c.binDirs, major)
	if err != nil {
		return nil, err
	}
	if err = l.prepareSocket(); err != nil {
		return nil, err
	}
	first := major == 0
	var password string
	if first {
		if password, err = initCluster(ctx, l, bin, c.Durable); err != nil {
			return nil, err
		}
	} else {
		if password, err = readPassword(l.path("password")); err != nil {
			return nil, err
		}
		if err = clearOrphan(ctx, l, cl.log); err != nil {
			return nil, err
		}
	}
	if cl.proc, err = launch(l, bin, c); err != nil {
		return nil, err
	}
	if err = cl.proc.waitReady(ctx, l); err != nil {
		return nil, err
	}
	cl.url = clusterURL(l.socketDir, password)
	cl.log.Info("postgresql started", "version", bin.version, "dir", l.dir, "new", first,
		"pid", cl.proc.pid, "took", time.Since(began).Round(time.Millisecond))
	return cl, nil
}

// URL names the cluster's database (initdb's "postgres") for pgx and psql. It
// carries the password, so it is a secret.
func (c *Cluster) URL() string { return c.url }

// PID is the postmaster's process id.
func (c *Cluster) PID() int { return c.proc.pid }

// Done closes when the server has ended, by Stop or by itself.
func (c *Cluster) Done() <-chan struct{} { return c.proc.done }

// Err is nil while the server runs and after a Stop, else it wraps ErrCrashed
// and names the log.
func (c *Cluster) Err() error {
	select {
	case <-c.proc.done:
		return c.proc.verdict()
	default:
		return nil
	}
}

// Stop ends the server and returns when it is gone: open sessions are closed and
// a checkpoint is written; when ctx ends first, it is ended at once and the next
// start recovers from the log. Further calls return the first one's result.
func (c *Cluster) Stop(ctx context.Context) error {
	c.stopOnce.Do(func() {
		began := time.Now()
		c.stopErr = c.proc.stop(ctx, true)
		c.layout.close()
		if err := c.lock.Close(); c.stopErr == nil {
			c.stopErr = err
		}
		c.log.Info("postgresql stopped", "dir", c.layout.dir, "took", time.Since(began).Round(time.Millisecond))
	})
	return c.stopErr
}

func clusterURL(socketDir, password string) string {
	q := url.Values{"host": {socketDir}, "port": {strconv.Itoa(socketPort)}, "sslmode": {"disable"}}
	// libpq and pgx read a plus sign as itself.
	query := strings.ReplaceAll(q.Encode(), "+", "%20")
	u := url.URL{Scheme: "postgres", User: url.UserPassword(superuser, password), Path: "/postgres", RawQuery: query}
	return u.String()
}

func newPassword() string {
	b := make([]byte, 24)
	_, _ = rand.Read(b) // never fails: crypto/rand.Read aborts the program instead
	return base64.RawURLEncoding.EncodeToString(b)
}

func readPassword(file string) (string, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%w: %s", ErrPassword, file)
	}
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(string(b), "\n"), nil
}

// writeNew creates file, which must not exist, with content on disk before the
// name is.
func writeNew(file string, content []byte) error {
	tmp := filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+".new")
	_ = os.Remove(tmp)
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, file)
}
