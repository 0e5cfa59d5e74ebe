package pgcluster_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/signet-hsm/signet/internal/pgcluster"
)

func TestMain(m *testing.M) {
	if os.Getenv("PGCLUSTER_TEST_CHILD") != "" {
		child()
		return
	}
	code := m.Run()
	if template.dir != "" {
		_ = os.RemoveAll(template.dir)
	}
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// template is a cluster that was started and stopped once: most tests are about
// what comes after initdb, which takes most of a second.
var template struct {
	once sync.Once
	dir  string
	err  error
}

// used returns a copy of a folder that has been used before.
func used(t testing.TB) string {
	t.Helper()
	template.once.Do(func() {
		if template.dir, template.err = os.MkdirTemp(base(), "pgcluster-template-"); template.err != nil {
			return
		}
		cl, err := pgcluster.Start(context.Background(), pgcluster.Config{Dir: template.dir})
		if err == nil {
			err = cl.Stop(context.Background())
		}
		template.err = err
	})
	require.NoError(t, template.err)
	dir := folder(t)
	out, err := exec.Command("cp", "-a", template.dir+"/.", dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return dir
}

// base is a file system in memory, where there is one.
func base() string {
	if _, err := os.Stat("/dev/shm"); err != nil {
		return ""
	}
	return "/dev/shm"
}

// folder is a place for clusters that the server's user may reach, in memory.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(base(), "pgcluster-test-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func start(t testing.TB, c pgcluster.Config) *pgcluster.Cluster {
	t.Helper()
	cl, err := pgcluster.Start(context.Background(), c)
	require.NoError(t, err)
	t.Cleanup(func() { stop(t, cl) })
	return cl
}

func stop(t testing.TB, cl *pgcluster.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	require.NoError(t, cl.Stop(ctx))
}

// ask runs one statement over a connection of its own.
func ask(t testing.TB, cl *pgcluster.Cluster, sql string) string {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(cl.URL())
	require.NoError(t, err)
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer pool.Close()
	var s string
	require.NoError(t, pool.QueryRow(t.Context(), sql).Scan(&s))
	return s
}

func TestFirstAndSecondStart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(folder(t), "not", "there", "yet")
	c := pgcluster.Config{Dir: dir, Durable: true}
	cl := start(t, c)
	require.Equal(t, "on", ask(t, cl, "show fsync"))
	require.Equal(t, "on", ask(t, cl, "show synchronous_commit"))
	require.Empty(t, ask(t, cl, "show listen_addresses"))
	require.Equal(t, "100", ask(t, cl, "show max_connections"))
	require.Equal(t, "UTF8", ask(t, cl, "show server_encoding"))
	require.Equal(t, "ä", ask(t, cl, "select lower('Ä')"))
	run(t, cl, "create table kept (n int)", "insert into kept values (42)")
	stop(t, cl)
	require.NoError(t, cl.Err())
	<-cl.Done()
	stop(t, cl) // a second Stop is the first one's result

	again := start(t, c)
	require.Equal(t, "42", ask(t, again, "select n::text from kept"))
	require.Equal(t, cl.URL(), again.URL())
	require.NoFileExists(t, filepath.Join(dir, "postgres.log.1"))
	log, err := os.ReadFile(filepath.Join(dir, "postgres.log"))
	require.NoError(t, err)
	require.NotContains(t, string(log), "not properly shut down")
}

func run(t testing.TB, cl *pgcluster.Cluster, statements ...string) {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), cl.URL())
	require.NoError(t, err)
	defer pool.Close()
	for _, s := range statements {
		_, err := pool.Exec(t.Context(), s)
		require.NoError(t, err, s)
	}
}

func TestThrowAwayClustersSkipTheDisk(t *testing.T) {
	t.Parallel()
	cl := start(t, pgcluster.Config{Dir: folder(t), Settings: map[string]string{"max_connections": "17"}})
	for _, name := range []string{"fsync", "full_page_writes", "synchronous_commit"} {
		require.Equal(t, "off", ask(t, cl, "show "+name))
	}
	require.Equal(t, "17", ask(t, cl, "show max_connections"))
}

// The folder gives nothing to other users, and the database nothing to those
// who do not know the password.
func TestNobodyElseGetsIn(t *testing.T) {
	t.Parallel()
	dir := used(t)
	cl := start(t, pgcluster.Config{Dir: dir})
	for name, mode := range map[string]os.FileMode{
		".": 0o700 | os.ModeDir, "data": 0o700 | os.ModeDir, "run": 0o700 | os.ModeDir, "password": 0o600, "postgres.log": 0o600, "lock": 0o600,
	} {
		st, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, mode, st.Mode(), name)
	}
	hba, err := os.ReadFile(filepath.Join(dir, "data", "pg_hba.conf"))
	require.NoError(t, err)
	for line := range strings.Lines(string(hba)) {
		if f := strings.Fields(line); len(f) > 0 && !strings.HasPrefix(f[0], "#") {
			require.Equal(t, "scram-sha-256", f[len(f)-1])
		}
	}
	cfg, err := pgxpool.ParseConfig(cl.URL())
	require.NoError(t, err)
	cfg.ConnConfig.Password = "wrong"
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer pool.Close()
	require.ErrorContains(t, pool.Ping(t.Context()), "28P01")
	password, err := os.ReadFile(filepath.Join(dir, "password"))
	require.NoError(t, err)
	cmdline, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(cl.PID()), "cmdline"))
	require.NoError(t, err)
	require.NotContains(t, string(cmdline), strings.TrimSpace(string(password)))
}

func TestStartAfterThePostmasterWasKilled(t *testing.T) {
	t.Parallel()
	dir := used(t)
	c := pgcluster.Config{Dir: dir, Durable: true}
	cl := start(t, c)
	run(t, cl, "create table kept (n int)", "insert into kept values (42)")
	require.NoError(t, syscall.Kill(cl.PID(), syscall.SIGKILL))
	select {
	case <-cl.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the crash went unnoticed")
	}
	require.ErrorIs(t, cl.Err(), pgcluster.ErrCrashed)
	require.ErrorContains(t, cl.Err(), "postgres.log")
	stop(t, cl)
	require.ErrorIs(t, cl.Err(), pgcluster.ErrCrashed) // stopping later does not excuse it

	again := start(t, c)
	require.Equal(t, "42", ask(t, again, "select n::text from kept"))
}

func TestOneFolderOneOwner(t *testing.T) {
	t.Parallel()
	dir := used(t)
	cl := start(t, pgcluster.Config{Dir: dir})
	_, err := pgcluster.Start(t.Context(), pgcluster.Config{Dir: dir})
	require.ErrorIs(t, err, pgcluster.ErrInUse)
	require.Equal(t, "1", ask(t, cl, "select '1'"))
}

func TestTwoClustersBesideEachOther(t *testing.T) {
	t.Parallel()
	parent := folder(t)
	a := start(t, pgcluster.Config{Dir: filepath.Join(parent, "a")})
	b := start(t, pgcluster.Config{Dir: filepath.Join(parent, "b")})
	run(t, a, "create table only_a ()")
	require.Equal(t, "0", ask(t, b, "select count(*)::text from pg_tables where tablename = 'only_a'"))
	require.NotEqual(t, a.URL(), b.URL())
	stop(t, a)
	require.Equal(t, "1", ask(t, b, "select '1'"))
}

// A stale postmaster.pid whose number belongs to some other program by now, here
// to a shell of the server's own user: PostgreSQL alone would refuse to start.
func TestStalePidFileWithAReusedPid(t *testing.T) {
	t.Parallel()
	dir := used(t)
	c := pgcluster.Config{Dir: dir}
	bystander := sleeper(t, filepath.Join(dir, "data"))
	pidFile := filepath.Join(dir, "data", "postmaster.pid")
	content := strconv.Itoa(bystander.Process.Pid) + "\n" + filepath.Join(dir, "data") + "\n1\n5433\n\n\n0 0\nready   \n"
	require.NoError(t, os.WriteFile(pidFile, []byte(content), 0o600))
	again := start(t, c)
	require.Equal(t, "1", ask(t, again, "select '1'"))
	require.NoError(t, bystander.Process.Signal(syscall.Signal(0)), "the bystander was hit")
}

func TestFirstStartBeginsAgainAfterAnInterruption(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "data.new-1", "base"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "password"), []byte("of the first try\n"), 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond) // in the middle of initdb
	defer cancel()
	_, err := pgcluster.Start(ctx, pgcluster.Config{Dir: dir})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	cl := start(t, pgcluster.Config{Dir: dir})
	require.Equal(t, "1", ask(t, cl, "select '1'"))
	left, err := filepath.Glob(filepath.Join(dir, "*.new*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestLongPath(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	for range 4 {
		dir = filepath.Join(dir, strings.Repeat("long", 12))
	}
	require.Greater(t, len(dir), 200)
	cl := start(t, pgcluster.Config{Dir: dir})
	require.Equal(t, "1", ask(t, cl, "select '1'"))
	sockets, err := filepath.Glob(filepath.Join(os.TempDir(), "signet-pg-*", ".s.PGSQL.*"))
	require.NoError(t, err)
	require.NotEmpty(t, sockets)
	st, err := os.Stat(filepath.Dir(sockets[0]))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), st.Mode().Perm())
	stop(t, cl)
	require.NotContains(t, list(t, os.TempDir()), filepath.Base(filepath.Dir(sockets[0])))
}

func list(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// As root the server runs as somebody else, who need not be able to enter the
// parents: here a folder like /root.
func TestRootUnderAClosedParent(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root drops its rights")
	}
	closed := filepath.Join(folder(t), "closed")
	require.NoError(t, os.Mkdir(closed, 0o700))
	c := pgcluster.Config{Dir: filepath.Join(closed, "data folder"), Durable: true}
	cl := start(t, c)
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(cl.PID()), "status"))
	require.NoError(t, err)
	require.NotContains(t, string(status), "\nUid:\t0\t")
	require.Contains(t, string(status), "\nGroups:\t \n")
	run(t, cl, "create table kept (n int)", "insert into kept values (42)", "checkpoint")
	// A backend that crashes makes the postmaster start everything anew: the
	// folder must be found again then as well.
	pid, err := strconv.Atoi(ask(t, cl, "select pid::text from pg_stat_activity where backend_type = 'checkpointer'"))
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	require.Eventually(t, func() bool {
		pool, err := pgxpool.New(t.Context(), cl.URL())
		require.NoError(t, err)
		defer pool.Close()
		var n int
		return pool.QueryRow(t.Context(), "select n from kept").Scan(&n) == nil && n == 42
	}, 20*time.Second, 50*time.Millisecond)
	stop(t, cl)
	require.Equal(t, "42", ask(t, start(t, c), "select n::text from kept"))
}

func TestSettingsOfTheUserAreIgnored(t *testing.T) {
	// Not parallel: it sets the process's environment.
	for k, v := range map[string]string{
		"PGDATA": "/nonexistent", "PGPORT": "1", "PGHOST": "/nonexistent", "PGUSER": "nobody", "PGPASSWORD": "wrong",
		"PGDATABASE": "none", "PGSSLMODE": "verify-full", "PGTZ": "Asia/Tokyo", "TZ": "Asia/Tokyo", "LC_ALL": "none", "LANG": "none",
		"PGTARGETSESSIONATTRS": "standby",
	} {
		t.Setenv(k, v)
	}
	cl := start(t, pgcluster.Config{Dir: folder(t)})
	cfg, err := pgxpool.ParseConfig(cl.URL())
	require.NoError(t, err)
	require.Equal(t, "signet", cfg.ConnConfig.User)
	delete(cfg.ConnConfig.RuntimeParams, "timezone") // pgx's own reading of PGTZ
	cfg.ConnConfig.ValidateConnect = nil
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer pool.Close()
	var zone string
	require.NoError(t, pool.QueryRow(t.Context(), "show timezone").Scan(&zone))
	require.Equal(t, "UTC", zone)
	env, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(cl.PID()), "environ"))
	require.NoError(t, err)
	for variable := range strings.SplitSeq(string(env), "\x00") {
		require.False(t, strings.HasPrefix(variable, "PG"), variable)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	_, err := pgcluster.Start(ctx, pgcluster.Config{})
	require.ErrorContains(t, err, "Dir is empty")

	dir := folder(t)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "data"), 0o700))
	_, err = pgcluster.Start(ctx, pgcluster.Config{Dir: dir})
	require.ErrorContains(t, err, "is no PostgreSQL cluster")

	require.NoError(t, os.WriteFile(filepath.Join(dir, "data", "PG_VERSION"), []byte("11\n"), 0o600))
	_, err = pgcluster.Start(ctx, pgcluster.Config{Dir: dir})
	require.ErrorIs(t, err, pgcluster.ErrVersion)
	require.ErrorContains(t, err, "postgresql-11")

	good := used(t)
	require.NoError(t, os.Remove(filepath.Join(good, "password")))
	_, err = pgcluster.Start(ctx, pgcluster.Config{Dir: good})
	require.ErrorIs(t, err, pgcluster.ErrPassword)

	// A start that fails names PostgreSQL's own words and leaves nothing running.
	_, err = pgcluster.Start(ctx, pgcluster.Config{Dir: used(t), Settings: map[string]string{"shared_buffers": "many"}})
	require.ErrorContains(t, err, "shared_buffers")

	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = pgcluster.Start(cancelled, pgcluster.Config{Dir: folder(t)})
	require.ErrorIs(t, err, context.Canceled)
}

func TestLogIsSetAside(t *testing.T) {
	t.Parallel()
	dir := used(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "postgres.log"), make([]byte, 8<<20+1), 0o600))
	start(t, pgcluster.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	st, err := os.Stat(filepath.Join(dir, "postgres.log.1"))
	require.NoError(t, err)
	require.EqualValues(t, 8<<20+1, st.Size())
}

// Stop must not wait for sessions, and must end the server when its time is up.
func TestStopWithOpenSessionsAndNoTime(t *testing.T) {
	t.Parallel()
	c := pgcluster.Config{Dir: used(t), Durable: true}
	cl := start(t, c)
	pool, err := pgxpool.New(t.Context(), cl.URL())
	require.NoError(t, err)
	defer pool.Close()
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	began := time.Now()
	stop(t, cl)
	require.Less(t, time.Since(began), 5*time.Second)

	cl, err = pgcluster.Start(t.Context(), c)
	require.NoError(t, err)
	now, cancel := context.WithCancel(context.Background())
	cancel()
	err = cl.Stop(now)
	<-cl.Done()
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, cl.Err())
	start(t, c)
}
