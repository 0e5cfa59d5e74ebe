package main

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// Every key that seals something is replaced while a node serves, and in the end
// destroyed; devices notice nothing, until the tenant is erased.
func TestKeysAreReplacedUnderARunningNode(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.serve(t)
	d := s.activeDevice(t, "alice", n, n)
	verify := func(n *siteNode) {
		t.Helper()
		var res verifyResult
		status, err := n.call(t.Context(), "POST", "/v2/signature/verify", signed(t, d), &res)
		require.NoError(t, err)
		require.Equal(t, 200, status)
		require.True(t, res.SignatureValid)
	}
	keys := func(want int, args ...string) string {
		t.Helper()
		p := start(t, append(append([]string{"keys"}, args...), "-c", s.config)...)
		require.Equal(t, want, p.wait(t), p.out)
		return p.out.String()
	}
	verify(n)
	require.Regexp(t, `[2-9] data keys replaced`, keys(0, "rotate-data", "--tenant", "demo"))
	require.Contains(t, keys(0, "rotate-data", "--tenant", "_system"), "1 data keys replaced")
	verify(n)
	s.activeDevice(t, "bob", n, n)
	require.Regexp(t, `signet/1/_system/kek/[a-z]+/1 seals \d+ data keys`, keys(0, "rotate-kek"))
	verify(n)
	require.Regexp(t, `demo +registration +\d+ +RETIRING`, keys(0, "status"))

	// As if the days had passed: what is old goes, in the HSM too.
	conn, err := pgx.Connect(t.Context(), s.cluster.URL())
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	everyColumn(t, conn)
	_, err = conn.Exec(t.Context(), `update dek set state = 'RETIRED' where state = 'RETIRING'`)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `update kek set state_at = state_at - interval '1 hour'`)
	require.NoError(t, err)
	require.Regexp(t, `\d data keys removed\n(?s).*kek/[a-z]+/0 destroyed`, keys(0, "retire", "--keep", "0s", "--destroy-kek"))
	second := s.serve(t)
	verify(second)
	s.activeDevice(t, "carol", second, n)

	keys(2, "erase", "--tenant", "demo", "--confirm", "dem")
	verify(second)
	require.Regexp(t, `\d data keys of demo erased`, keys(0, "erase", "--tenant", "demo", "--confirm", "demo"))
	third := s.serve(t)
	status, err := third.call(t.Context(), "POST", "/v2/signature/verify", signed(t, d), nil)
	require.NoError(t, err)
	require.Equal(t, 500, status, "no verdict")
}

// everyColumn holds the list of sealed columns against the schema: one that the
// rotation does not know would become unreadable.
func everyColumn(t *testing.T, db *pgx.Conn) {
	t.Helper()
	rows, err := db.Query(t.Context(), `select table_name, count(*) from information_schema.columns
		where table_schema = 'public' and data_type = 'bytea' and (column_name like '%sealed%' or column_name like '%seed%')
		and table_name <> 'dek' group by table_name`)
	require.NoError(t, err)
	want := map[string]int{}
	for rows.Next() {
		var table string
		var n int
		require.NoError(t, rows.Scan(&table, &n))
		want[table] = n
	}
	require.NoError(t, rows.Err())
	require.NotEmpty(t, want)
	got := map[string]int{}
	for _, c := range sealedColumns() {
		got[c.Table]++
		for _, after := range []string{"", "00000000-0000-0000-0000-000000000001"} {
			if c.Table == "access_pepper" || c.Table == "app_version" {
				after = ""
			}
			_, err := db.Exec(t.Context(), c.Page, "demo", after, 1)
			require.NoError(t, err, c.Page)
		}
	}
	require.Equal(t, want, got)
}
