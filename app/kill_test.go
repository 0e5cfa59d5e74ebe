package app_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/hsmtest/faultmodule"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/softhsm"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
	"github.com/signet-hsm/signet/tenant"
)

const (
	childURL    = "SIGNET_APP_DATABASE"
	childDir    = "SIGNET_APP_TOKEN"
	childModule = "SIGNET_APP_MODULE"
)

var killKEK = hsm.Ref{Tenant: tenant.System.String(), Role: hsm.RoleKEK, Name: "kek"}

// registryOn is a registry on a token that is open.
func registryOn(t *testing.T, db *pgxpool.Pool, token *hsm.Token) *app.Registry {
	t.Helper()
	kek, err := token.AEAD(t.Context(), killKEK)
	require.NoError(t, err)
	log, err := audit.New(audit.Config{DB: db})
	require.NoError(t, err)
	r, err := app.New(app.Config{DB: db, HSM: token, Envelope: envelope.New(db, kek, envelope.Options{}), Audit: log, Metrics: prometheus.NewRegistry()})
	require.NoError(t, err)
	return r
}

// 31: SIGKILL at a random PKCS#11 call while applications are made and their master
// keys rotated, 200 times in the long form. Afterwards, when what was begun is
// asked for once more, each key is there under the id of its row, both halves, and
// the token holds nothing else.
func TestFault31_KilledWithMasterKeys(t *testing.T) {
	t.Parallel()
	kills := 6
	if os.Getenv("SIGNET_LONG") != "" {
		kills = 200
	}
	url := pgtest.URL(t)
	db, err := pg.Open(t.Context(), url, pg.Options{MaxConns: 2})
	require.NoError(t, err)
	t.Cleanup(db.Close)
	st, module := softhsmtest.Faulty(t)
	first, err := hsm.Open(t.Context(), st.HSM())
	require.NoError(t, err)
	_, err = first.Generate(t.Context(), killKEK, hsm.AES256, [16]byte{1})
	require.NoError(t, err)
	require.NoError(t, first.Close())
	age := func() { // as if a while had passed
		for _, table := range []string{"app", "app_master"} {
			_, err := db.Exec(t.Context(), `update `+table+` set created_at = now() - interval '1 hour' where state = 'CREATING'`)
			require.NoError(t, err)
		}
	}
	random := rand.New(rand.NewPCG(31, 5))
	for range kills {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFault31Child$")
		cmd.Env = append(os.Environ(), childURL+"="+url, childDir+"="+st.Dir, childModule+"="+module.Path)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		said := bufio.NewScanner(out)
		require.True(t, said.Scan())
		require.Equal(t, "ready", said.Text())
		f := module.Inject(faultmodule.Rule{After: random.IntN(120), Times: 1, Do: faultmodule.Kill, Late: random.IntN(2) == 0})
		for said.Scan() {
			t.Log(said.Text())
		}
		require.ErrorContains(t, cmd.Wait(), "killed")
		f.Stop()
		age()
	}

	token := softhsmtest.Open(t, st.HSM())
	left := finish(t, db, registryOn(t, db, token))
	rows, err := db.Query(t.Context(), `select id, 0, master_id from app union all select app_id, generation, key_id from app_master`)
	require.NoError(t, err)
	want := map[softhsmtest.Object]int{{Label: killKEK.String(), ID: [16]byte{1}}: 1}
	var name string
	var generation int
	var id uuid.UUID
	_, err = pgx.ForEachRow(rows, []any{&name, &generation, &id}, func() error {
		ref := hsm.Ref{Tenant: "alpha", Role: hsm.RoleMaster, Name: name, Generation: generation}
		want[softhsmtest.Object{Label: ref.String(), ID: id}] = 2
		return nil
	})
	require.NoError(t, err)
	there, stubs := softhsmtest.Objects(t, st)
	got := map[softhsmtest.Object]int{}
	for _, o := range there {
		got[o]++
	}
	require.Equal(t, want, got)
	require.Greater(t, len(want), 1)
	t.Logf("%d kills: %d master keys, of which %d were finished at the end; %d files that SoftHSM left without a class", kills, len(want)-1, left, stubs)
}

// finish asks once more for what was begun, and tells how much that was.
func finish(t *testing.T, db *pgxpool.Pool, r *app.Registry) (n int) {
	t.Helper()
	names := func(sql string) []string {
		rows, err := db.Query(t.Context(), sql)
		require.NoError(t, err)
		list, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		n += len(list)
		return list
	}
	for _, name := range names(`select id from app where state = 'CREATING'`) {
		_, _, err := r.Create(t.Context(), alpha, app.CreateParams{ID: name})
		require.NoError(t, err)
	}
	for _, name := range names(`select app_id from app_master where state = 'CREATING'`) {
		_, err := r.RotateMaster(t.Context(), alpha, app.RotateParams{App: name})
		require.NoError(t, err)
	}
	return n
}

// TestFault31Child finishes what was left, and makes and rotates keys until it is
// killed.
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
	r := registryOn(t, db, token)
	fmt.Println("ready")
	finish(t, db, r)
	for {
		name := fmt.Sprintf("app%x", rand.Uint64())
		_, _, err := r.Create(t.Context(), alpha, app.CreateParams{ID: name})
		require.NoError(t, err)
		_, err = r.RotateMaster(t.Context(), alpha, app.RotateParams{App: name})
		require.NoError(t, err)
	}
}
