package main

import (
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/testtool"
	"github.com/signet-hsm/signet/signature"
)

// tool runs a program of PostgreSQL on the site's database.
func (s *site) tool(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), testtool.Find(t, name, "postgresql"), args...).CombinedOutput()
	require.NoError(t, err, "%s: %s", name, out)
}

// restoreDump drops the database under whoever uses it and makes it of the dump.
func (s *site) restoreDump(t *testing.T, dump string) {
	t.Helper()
	u, err := url.Parse(s.cluster.URL())
	require.NoError(t, err)
	name := strings.TrimPrefix(u.Path, "/")
	admin := *u
	admin.Path = "/template1"
	conn, err := pgx.Connect(t.Context(), admin.String())
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	quoted := pgx.Identifier{name}.Sanitize()
	_, err = conn.Exec(t.Context(), "drop database if exists "+quoted+" with (force)")
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "create database "+quoted+" template template0")
	require.NoError(t, err)
	s.tool(t, "pg_restore", "--exit-on-error", "-d", u.String(), dump)
}

// captured is traffic that somebody recorded.
type captured struct {
	signatures []verifyBody
	token      map[string]any
}

// accepted sends everything once more and counts what is believed.
func (c captured) accepted(t *testing.T, n *siteNode) (valid, held int) {
	t.Helper()
	ask := func(path string, body any) {
		var res struct{ SignatureValid, TokenValid bool }
		status, err := n.call(t.Context(), "POST", path, body, &res)
		require.NoError(t, err)
		require.Contains(t, []int{200, 500}, status)
		switch {
		case status == 500:
			held++
		case res.SignatureValid || res.TokenValid:
			valid++
		}
	}
	for _, s := range c.signatures {
		ask("/v2/signature/verify", s)
	}
	ask("/v2/token/verify", c.token)
	return valid, held
}

// Fault 15: yesterday's dump is restored, and what was sent since is sent again.
func TestRestoredDumpAcceptsNothingTwice(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	unguarded, err := os.ReadFile(s.config)
	require.NoError(t, err)
	s.write(t, "unguarded.yaml", string(unguarded))
	l, err := net.Listen("tcp", "127.0.0.1:0") // where the phone finds the node after its restart
	require.NoError(t, err)
	require.NoError(t, l.Close())
	s.write(t, "signet.yaml", strings.Replace(string(unguarded), "rest: 127.0.0.1:0", "rest: "+l.Addr().String(), 1)+
		"rollback: {mark: "+s.path("rollback.mark")+"}\n")
	n := s.serve(t)
	d := s.activeDevice(t, "carol", n, n)
	token, err := d.CreateToken(t.Context(), signature.PossessionKnowledge)
	require.NoError(t, err)

	dump := s.path("dump")
	s.tool(t, "pg_dump", "-Fc", "-f", dump, s.cluster.URL())
	time.Sleep(1500 * time.Millisecond) // a beat
	var traffic captured
	for range 30 {
		traffic.signatures = append(traffic.signatures, signed(t, d))
	}
	header, err := d.TokenHeader(token)
	require.NoError(t, err)
	traffic.token = map[string]any{"authHeader": header}
	valid, held := traffic.accepted(t, n)
	require.Equal(t, 31, valid)
	require.Zero(t, held)

	// What it would be without a guard.
	s.restoreDump(t, dump)
	guarded := s.config
	s.config = s.path("unguarded.yaml")
	blind := s.serve(t)
	valid, _ = traffic.accepted(t, blind)
	require.Equal(t, 31, valid, "this traffic is worth recording")
	require.NoError(t, blind.proc.cmd.Process.Kill())
	s.config = guarded

	// The node that ran all the time has no connection left, and finds out with the next.
	s.restoreDump(t, dump)
	valid, held = traffic.accepted(t, n)
	require.Equal(t, []int{0, 31}, []int{valid, held})
	_, err = d.Status(t.Context())
	require.Error(t, err, "a phone learns no state of yesterday")
	n.proc.until(t, `was set back in time`)
	require.NoError(t, n.proc.cmd.Process.Kill())
	n.proc.wait(t)

	// So does one that starts on it, from its mark alone.
	s.restoreDump(t, dump)
	n = s.serve(t)
	n.proc.until(t, `was set back in time`)
	valid, held = traffic.accepted(t, n)
	require.Equal(t, []int{0, 31}, []int{valid, held})

	s.verb(t, 0, "rollback", "status")
	s.verb(t, 2, "rollback", "release", "--advance", "64")
	s.verb(t, 1, "rollback", "release", "--all", "--advance", "0")
	s.verb(t, 0, "rollback", "release", "--tenant", "demo", "--advance", "64")
	s.verb(t, 1, "rollback", "release", "--all", "--advance", "64")
	require.Eventually(t, func() bool {
		_, err := d.Status(t.Context()) // it follows the counter
		return err == nil
	}, 20*time.Second, 100*time.Millisecond)
	var res verifyResult
	status, err := n.call(t.Context(), "POST", "/v2/signature/verify", signed(t, d), &res)
	require.NoError(t, err)
	require.Equal(t, 200, status)
	require.Equal(t, verifyResult{true, "ACTIVE", 5}, res)
	valid, held = traffic.accepted(t, n)
	require.Equal(t, []int{0, 1}, []int{valid, held}, "tokens of before stay held by their time")
}
