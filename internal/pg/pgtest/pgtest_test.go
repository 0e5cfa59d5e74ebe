package pgtest_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/internal/pgcluster"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestEachTestHasADatabaseOfItsOwn(t *testing.T) {
	t.Parallel()
	for i := range 3 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			pool := pgtest.New(t)
			require.Equal(t, []string{"_system", "alpha", "beta"}, names(t, pool, `select id from tenant order by id`))
			_, err := pool.Exec(t.Context(), `insert into tenant (id) values ('gamma')`)
			require.NoError(t, err)
			require.NoError(t, pg.Check(t.Context(), pool))
		})
	}
	child(t)
}

func names(t *testing.T, db *pgxpool.Pool, sql string) []string {
	t.Helper()
	rows, err := db.Query(t.Context(), sql)
	require.NoError(t, err)
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return out
}

func TestEmptyURLHasNoTables(t *testing.T) {
	t.Parallel()
	pool, err := pg.Open(t.Context(), pgtest.EmptyURL(t), pg.Options{})
	require.NoError(t, err)
	defer pool.Close()
	require.Empty(t, names(t, pool, `select tablename::text from pg_tables where schemaname = 'public'`))
}

const childVariable = "PGTEST_CHILD"

// child makes this binary end in a way of the parent's choice.
func child(t *testing.T) {
	how := os.Getenv(childVariable)
	if how == "" {
		return
	}
	pgtest.New(t)
	dir, postmaster := pgtest.Where()
	fmt.Println("\ncluster", dir, postmaster)
	switch how {
	case "panic":
		go func() { panic("in a goroutine: no cleanup runs") }()
	case "exit":
		os.Exit(1)
	}
	time.Sleep(time.Minute) // to be killed
}

// However a test binary ends, its server ends and its folder goes.
func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"kill", "panic", "exit"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestEachTestHasADatabaseOfItsOwn$")
			cmd.Env = append(os.Environ(), childVariable+"="+how, "SIGNET_TEST_DATABASE=")
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			var dir string
			var postmaster int
			for lines := bufio.NewScanner(out); lines.Scan(); {
				if n, _ := fmt.Sscanf(lines.Text(), "cluster %s %d", &dir, &postmaster); n == 2 {
					break
				}
			}
			require.DirExists(t, dir)
			if how == "kill" {
				require.NoError(t, cmd.Process.Kill())
			}
			require.Error(t, cmd.Wait())
			require.Eventually(t, func() bool {
				_, err := os.Stat(dir)
				stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", postmaster))
				return os.IsNotExist(err) && !strings.Contains(string(stat), "postgres")
			}, 10*time.Second, 20*time.Millisecond)
		})
	}
}

// Two binaries at once on a server that was given: one template, and every
// test's database dropped.
func TestGivenServer(t *testing.T) {
	t.Parallel()
	cl, err := pgcluster.Start(t.Context(), pgcluster.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	defer func() { require.NoError(t, cl.Stop(context.WithoutCancel(t.Context()))) }()

	cmds := make([]*exec.Cmd, 2)
	outs := make([]strings.Builder, 2)
	for i := range cmds {
		cmds[i] = exec.Command(os.Args[0], "-test.run=^TestEachTestHasADatabaseOfItsOwn$", "-test.v")
		cmds[i].Env = append(os.Environ(), "SIGNET_TEST_DATABASE="+cl.URL())
		cmds[i].Stdout, cmds[i].Stderr = &outs[i], &outs[i]
		require.NoError(t, cmds[i].Start())
	}
	for i := range cmds {
		require.NoError(t, cmds[i].Wait(), "%s", &outs[i])
		require.Contains(t, outs[i].String(), "PASS: TestEachTestHasADatabaseOfItsOwn")
	}
	pool, err := pg.Open(t.Context(), cl.URL(), pg.Options{MaxConns: 1})
	require.NoError(t, err)
	defer pool.Close()
	left := names(t, pool, `select datname::text from pg_database where datname like 'signet%'`)
	require.Len(t, left, 1)
	require.Regexp(t, `^signet_template_[0-9a-f]{16}$`, left[0])
}

// BenchmarkNew is what a test pays for its pool, closing and dropping included.
func BenchmarkNew(b *testing.B) {
	pgtest.New(b)
	for b.Loop() {
		b.Run("one", func(b *testing.B) { pgtest.New(b) })
	}
}
