package pgtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/pgcluster"
	"github.com/signet-hsm/signet/schema"
	"github.com/signet-hsm/signet/tenant"
)

// server is where the databases are made: a private cluster or the given server.
type server struct {
	url      string // superuser, any database
	nonce    string // tells apart binaries with one pid on a shared server
	strategy string // of create database
	admin    *pgxpool.Pool
	cluster  *pgcluster.Cluster // nil on a given server
	reaper   *reaper

	templateMu   sync.Mutex
	templateName string
}

func startServer() (_ *server, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s := &server{nonce: strings.ToLower(rand.Text()[:6])}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	if s.url = os.Getenv("SIGNET_TEST_DATABASE"); s.url == "" {
		if err := s.startCluster(ctx); err != nil {
			return nil, err
		}
	}
	s.admin, err = pg.Open(ctx, s.url, pg.Options{MaxConns: 4, AppName: "pgtest admin", StatementTimeout: time.Minute})
	if err != nil {
		return nil, err
	}
	var version int
	if err := s.admin.QueryRow(ctx, `select current_setting('server_version_num')::int`).Scan(&version); err != nil {
		return nil, err
	}
	// Copying files in memory takes 9 ms where logging each page, the default since
	// version 15, takes 22. It asks for a checkpoint, which a server of others
	// should be spared.
	if s.cluster != nil && version >= 150000 {
		s.strategy = " strategy file_copy"
	}
	return s, nil
}

func (s *server) startCluster(ctx context.Context) error {
	dir, err := os.MkdirTemp("/dev/shm", "signet-pgtest-")
	if err != nil { // no such file system here
		dir, err = os.MkdirTemp("", "signet-pgtest-")
	}
	if err != nil {
		return err
	}
	if s.reaper, err = startReaper(dir); err != nil {
		_ = os.RemoveAll(dir)
		return err
	}
	s.cluster, err = pgcluster.Start(ctx, pgcluster.Config{Dir: dir, Settings: map[string]string{
		"max_connections": "300",
		"autovacuum":      "off", // databases live for seconds
		"max_wal_size":    "4GB", // no checkpoints in the middle of a test
	}})
	if err != nil {
		return err
	}
	s.url = s.cluster.URL()
	return nil
}

func (s *server) stop() {
	if s.admin != nil {
		s.admin.Close()
	}
	if s.cluster != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.cluster.Stop(ctx)
	}
	if s.reaper != nil {
		s.reaper.finish()
	}
}

// drop removes a test's database. Force ends what the test left connected: a
// leak of the test's, shown by its own goroutine check, not here.
func (s *server) drop(tb testing.TB, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := s.admin.Exec(ctx, "drop database if exists "+name+" with (force)"); err != nil {
		tb.Errorf("pgtest: %v", err)
	}
}

// template returns the name of the migrated database to copy, making it on the
// first call. The name is the hash of the migrations. Binaries that share a
// server may make it at once: each builds under a name of its own, and the first
// to rename has made it.
func (s *server) template(ctx context.Context) (string, error) {
	s.templateMu.Lock()
	defer s.templateMu.Unlock()
	if s.templateName != "" {
		return s.templateName, nil
	}
	sum, err := schemaSum()
	if err != nil {
		return "", err
	}
	final := "signet_template_" + sum
	var exists bool
	err = s.admin.QueryRow(ctx, `select exists (select from pg_database where datname = $1)`, final).Scan(&exists)
	if err != nil {
		return "", err
	}
	if !exists {
		building := final + "_" + s.nonce
		if _, err := s.admin.Exec(ctx, "create database "+building+" template template0"+s.strategy); err != nil {
			return "", err
		}
		if err := fill(ctx, withDatabase(s.url, building)); err != nil {
			return "", err
		}
		_, err := s.admin.Exec(ctx, "alter database "+building+" rename to "+final)
		var pgErr *pgconn.PgError
		// duplicate_database, or the index behind it in a close race: another binary
		// was first.
		if errors.As(err, &pgErr) && (pgErr.Code == "42P04" || pgErr.Code == "23505") {
			_, err = s.admin.Exec(ctx, "drop database "+building)
		}
		if err != nil {
			return "", err
		}
	}
	s.templateName = final
	return final, nil
}

// fill migrates and seeds. The pool must be closed after: a database in use can
// not be copied.
func fill(ctx context.Context, url string) error {
	pool, err := pg.Open(ctx, url, pg.Options{MaxConns: 2, AppName: "pgtest template"})
	if err != nil {
		return err
	}
	defer pool.Close()
	if _, err := pg.Migrate(ctx, pool); err != nil {
		return err
	}
	for _, t := range []tenant.ID{Alpha, Beta} {
		if err := tenant.Ensure(ctx, pool, t); err != nil {
			return err
		}
	}
	return nil
}

// schemaSum identifies the set of migrations and of seeded rows.
func schemaSum() (string, error) {
	h := sha256.New()
	names, err := fs.Glob(schema.FS, "*.sql")
	if err != nil {
		return "", err
	}
	for _, name := range names {
		b, err := fs.ReadFile(schema.FS, name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n%s", filepath.Base(name), len(b), b)
	}
	fmt.Fprintf(h, "%s %s", Alpha, Beta)
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}
