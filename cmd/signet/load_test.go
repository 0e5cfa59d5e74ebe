package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLoadDrivesAnInstallation(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	dev := start(t, devArgs(dir, "--no-tour")...)
	dev.until(t, `Ctrl-C stops`)
	envFile, phones := filepath.Join(dir, "dev.env"), filepath.Join(dir, "phones")
	env, err := readEnv(envFile)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), "POST", env["SIGNET_REST"]+"/v2/tenants/"+env["SIGNET_TENANT"]+"/signers", strings.NewReader(`{"name":"load"}`))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+env["SIGNET_TOKEN_ADMIN_WRITE"])
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusCreated, resp.StatusCode)

	run := func(want int, args ...string) (loadReport, string) {
		t.Helper()
		out := filepath.Join(t.TempDir(), "load.json")
		p := start(t, append([]string{"load", "--env", envFile, "--concurrency", "4", "--json", out}, args...)...)
		require.Equal(t, want, p.wait(t), p.out)
		raw, err := os.ReadFile(out)
		require.NoError(t, err, p.out)
		var r loadReport
		require.NoError(t, json.Unmarshal(raw, &r))
		return r, p.out.String()
	}
	// A count over gRPC, each kind; the phones are kept.
	r, out := run(0, "--duration", "0", "--count", "70", "--mix", "verify=3,token=2,otp=1,issue=1", "--devices", "6", "--devices-dir", phones)
	require.Contains(t, out, "6 phones activated, 0 found")
	require.EqualValues(t, 70, r.OK, out)
	require.Zero(t, r.Wrong+r.Refused+r.Failed, out)
	for _, kind := range loadKinds {
		require.NotZero(t, r.Kinds[kind].OK, kind)
		require.Positive(t, r.Kinds[kind].Times.P50)
	}
	st, err := os.Stat(filepath.Join(phones, "phone-000005.json"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm())

	// At a rate over REST, with the kept phones, whose counters go on.
	r, out = run(0, "--api", "rest", "--duration", "2s", "--rate", "40", "--mix", "verify=3,token=2,otp=1,issue=1", "--devices-dir", phones)
	require.Contains(t, out, "0 phones activated, 4 found")
	require.Zero(t, r.Wrong+r.Refused+r.Failed, out)
	require.Greater(t, r.OK, int64(20))
	require.LessOrEqual(t, r.OK, int64(81))

	// Ctrl-C ends it well, and takes its phones away.
	p := start(t, "load", "--env", envFile, "--concurrency", "2", "--duration", "5m")
	p.until(t, `[1-9]\d* ok  0 wrong`)
	require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	require.Zero(t, p.wait(t), p.out)
	require.Contains(t, p.out.String(), "calls answered well in")

	// An installation that answers wrongly is found out.
	at, err := url.Parse(env["SIGNET_REST"])
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(at)
	proxy.ModifyResponse = func(r *http.Response) error {
		raw, err := io.ReadAll(r.Body)
		raw = bytes.Replace(raw, []byte(`"signatureValid":true`), []byte(`"signatureValid":null`), 1) // as long
		r.Body = io.NopCloser(bytes.NewReader(raw))
		return err
	}
	liar := httptest.NewServer(proxy)
	defer liar.Close()
	raw, err := os.ReadFile(envFile)
	require.NoError(t, err)
	envFile = filepath.Join(dir, "liar.env")
	require.NoError(t, os.WriteFile(envFile, []byte(strings.Replace(string(raw), env["SIGNET_REST"], liar.URL, 1)), 0o600))
	r, out = run(1, "--api", "rest", "--duration", "0", "--count", "8", "--mix", "verify=1,token=1")
	require.Contains(t, out, "answered wrongly")
	require.NotZero(t, r.Wrong)
	require.NotZero(t, r.OK)
}

func TestLoadRefusesWhatCanNotBe(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--api", "soap"},
		{"--mix", "verify"},
		{"--mix", "dance=1"},
		{"--mix", "verify=-1"},
		{"--mix", "verify=0"},
		{"--concurrency", "0"},
		{"--concurrency", "9", "--devices", "8"},
		{"--duration", "0"},
		{"--rate", "-1"},
		{"--cert", "x"},
		{"--ca", "nowhere"},
		{}, // no address
		{"too", "many"},
	} {
		p := start(t, append([]string{"load"}, args...)...)
		require.Equal(t, 2, p.wait(t), "%s: %s", args, p.out)
	}
}
