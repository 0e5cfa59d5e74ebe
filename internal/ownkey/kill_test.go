package ownkey_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/hsmtest/faultmodule"
	"github.com/signet-hsm/signet/internal/ownkey"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/softhsm"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

const (
	childURL    = "SIGNET_OWNKEY_DATABASE"
	childDir    = "SIGNET_OWNKEY_TOKEN"
	childModule = "SIGNET_OWNKEY_MODULE"
)

// 31: SIGKILL at a random PKCS#11 call while the installation's own keys are made,
// or what an earlier kill left is swept; 200 times in the long form. Afterwards
// every key is there once, under its recorded id, and the token holds nothing else.
func TestFault31_KilledInBootstrap(t *testing.T) {
	t.Parallel()
	kills := 8
	if os.Getenv("SIGNET_LONG") != "" {
		kills = 200
	}
	url := pgtest.URL(t)
	db, err := pg.Open(t.Context(), url, pg.Options{MaxConns: 2})
	require.NoError(t, err)
	t.Cleanup(db.Close)
	st, module := softhsmtest.Faulty(t)
	expire := func() {
		_, err := db.Exec(t.Context(), `update own_key set until = now() where state = 'MAKING'`)
		require.NoError(t, err)
	}
	random := rand.New(rand.NewPCG(31, 4))
	for range kills {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFault31Child$")
		cmd.Env = append(os.Environ(), childURL+"="+url, childDir+"="+st.Dir, childModule+"="+module.Path)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		said := bufio.NewScanner(out)
		require.True(t, said.Scan())
		require.Equal(t, "ready", said.Text())
		f := module.Inject(faultmodule.Rule{After: random.IntN(100), Times: 1, Do: faultmodule.Kill, Late: random.IntN(2) == 0})
		for said.Scan() {
			t.Log(said.Text())
		}
		require.ErrorContains(t, cmd.Wait(), "killed")
		f.Stop()
		expire()
	}

	token := softhsmtest.Open(t, st.HSM())
	var left int
	require.NoError(t, db.QueryRow(t.Context(), `select count(*) from own_key where state = 'MAKING'`).Scan(&left))
	settle(t, db, token)
	rows, err := db.Query(t.Context(), `select name, key_id from own_key`)
	require.NoError(t, err)
	want := map[softhsmtest.Object]int{}
	var name string
	var id []byte
	_, err = pgx.ForEachRow(rows, []any{&name, &id}, func() error {
		halves := 1
		if r, err := hsm.ParseRef(name); err == nil && r.Role == hsm.RoleAudit {
			halves = 2
		}
		want[softhsmtest.Object{Label: name, ID: [16]byte(id)}] = halves
		return nil
	})
	require.NoError(t, err)
	there, stubs := softhsmtest.Objects(t, st)
	got := map[softhsmtest.Object]int{}
	for _, o := range there {
		got[o]++
	}
	require.Equal(t, want, got)
	require.NotEmpty(t, want)
	t.Logf("%d kills: %d keys, of which %d were made anew at the end; %d files that SoftHSM left without a class", kills, len(want), left, stubs)
}

// settle makes what is not finished.
func settle(t *testing.T, db ownkey.DB, token *hsm.Token) {
	t.Helper()
	for {
		var name string
		err := db.QueryRow(t.Context(), `select name from own_key where state = 'MAKING' order by name limit 1`).Scan(&name)
		if errors.Is(err, pgx.ErrNoRows) {
			return
		}
		require.NoError(t, err)
		ref, err := hsm.ParseRef(name)
		require.NoError(t, err)
		require.NoError(t, ownkey.Maker{DB: db, HSM: token}.Ensure(t.Context(), ref, algorithm(ref)))
	}
}

func algorithm(ref hsm.Ref) hsm.Algorithm {
	if ref.Role == hsm.RoleAudit {
		return hsm.P256
	}
	return hsm.AES256
}

// TestFault31Child finishes what was left and makes keys, until it is killed.
func TestFault31Child(t *testing.T) {
	if os.Getenv(childURL) == "" {
		return // not a child
	}
	st, err := softhsm.Load(os.Getenv(childDir))
	require.NoError(t, err)
	c := st.HSM()
	c.Module = os.Getenv(childModule)
	token, err := hsm.Open(context.Background(), c)
	require.NoError(t, err)
	db, err := pg.Open(t.Context(), os.Getenv(childURL), pg.Options{MaxConns: 2})
	require.NoError(t, err)
	fmt.Println("ready")
	settle(t, db, token)
	for {
		ref := kek
		if rand.IntN(2) == 0 {
			ref = audit
		}
		ref.Generation = rand.IntN(1 << 30)
		require.NoError(t, ownkey.Maker{DB: db, HSM: token}.Ensure(t.Context(), ref, algorithm(ref)))
	}
}
