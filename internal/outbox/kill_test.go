package outbox_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
)

const childVariable = "OUTBOX_CHILD_DATABASE"

// A process that is killed in the middle of a delivery leaves one job running
// and others waiting; its successor delivers all of them.
func TestKillAndRestartLosesNothing(t *testing.T) {
	t.Parallel()
	if url := os.Getenv(childVariable); url != "" {
		child(t, url)
		return
	}
	url := pgtest.URL(t)
	ctx := t.Context()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKillAndRestartLosesNothing$")
	cmd.Env = append(os.Environ(), childVariable+"="+url)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	seen := false
	for lines := bufio.NewScanner(out); !seen && lines.Scan(); {
		seen = strings.Contains(lines.Text(), "delivering")
	}
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	require.True(t, seen)

	db, err := pg.Open(ctx, url, pg.Options{MaxConns: 10})
	require.NoError(t, err)
	defer db.Close()
	var running, waiting int
	require.NoError(t, db.QueryRow(ctx, `select count(*) filter (where state = 'running'), count(*) filter (where state = 'available')
from river_job where kind = 'signet.delivery'`).Scan(&running, &waiting))
	require.Equal(t, []int{1, 4}, []int{running, waiting})
	// River takes a running job over when it is older than any attempt can be;
	// the test does not wait that long.
	_, err = db.Exec(ctx, `update river_job set attempted_at = attempted_at - interval '1 hour' where state = 'running'`)
	require.NoError(t, err)
	_, err = db.Exec(ctx, `delete from river_leader`) // nor for the dead leader's lease
	require.NoError(t, err)

	var s sink
	start(t, db, nil, s.consumer("one"))
	require.Eventually(t, func() bool { return s.count() == 5 }, 2*soon, 10*time.Millisecond)
	targets := map[string]bool{}
	for _, d := range s.got {
		targets[d.Target] = true
	}
	require.Len(t, targets, 5)
}

func child(t *testing.T, url string) {
	db, err := pg.Open(t.Context(), url, pg.Options{MaxConns: 10})
	require.NoError(t, err)
	s := sink{fail: func(context.Context, outbox.Delivery) error {
		fmt.Println("\ndelivering")
		time.Sleep(time.Minute) // to be killed
		return nil
	}}
	c := s.consumer("one")
	c.Workers = 1
	add(t, db, newOutbox(t, db), event("a,b,c,d,e"))
	start(t, db, nil, c)
	time.Sleep(time.Minute)
}
