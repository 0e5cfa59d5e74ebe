package ceremony_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/lint"
	"github.com/signet-hsm/signet/ceremony"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/testtool"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

const planText = `
name: test
root:
  key: root
  generation: 2
  algorithm: P-384
  subject: {country: DE, organization: Bank, common_name: Bank Root 2}
  validity: 96h
issuer:
  key: issuer
  algorithm: Ed25519
  subject: {common_name: Bank Issuer}
  validity: 48h
`

func parse(t *testing.T, text string) ceremony.Plan {
	t.Helper()
	p, err := ceremony.Parse("plan.yaml", []byte(text))
	require.NoError(t, err)
	return p
}

func TestDevPlanRuns(t *testing.T) {
	t.Parallel()
	soft := softhsmtest.Create(t)
	token := softhsmtest.Open(t, soft.HSM())
	out := filepath.Join(t.TempDir(), "ca")
	plan := ceremony.DevPlan()
	result, err := ceremony.Run(t.Context(), token, plan, out)
	require.NoError(t, err)
	require.NoError(t, issuance.VerifyChain([][]byte{result.Issuer, result.Root}, time.Now()))
	require.Equal(t, "signet/1/_system/root/root/0", result.RootKey.String())
	require.Equal(t, "signet/1/_system/issuer/issuer/0", result.IssuerKey.String())
	require.Equal(t, [][]byte{result.Root}, readPEM(t, filepath.Join(out, ceremony.RootFile)))
	require.Equal(t, [][]byte{result.Issuer, result.Root}, readPEM(t, filepath.Join(out, ceremony.ChainFile)))

	issuer, err := x509.ParseCertificate(result.Issuer)
	require.NoError(t, err)
	key, err := token.Lookup(t.Context(), result.IssuerKey)
	require.NoError(t, err)
	require.True(t, key.Public.(*ecdsa.PublicKey).Equal(issuer.PublicKey))
	require.Equal(t, 87600*time.Hour-time.Second, issuer.NotAfter.Sub(issuer.NotBefore))

	text, err := os.ReadFile(filepath.Join(out, ceremony.TranscriptFile))
	require.NoError(t, err)
	last, err := ceremony.VerifyTranscript(bytes.NewReader(text))
	require.NoError(t, err)
	require.Equal(t, result.Transcript, last)
	require.NotContains(t, string(text), string(soft.PIN.Reveal()))
	require.NotContains(t, string(text), string(soft.SOPIN.Reveal()))
	require.Equal(t, []string{
		"begin", "key.intent", "key", "draft", "certificate", "file", "key.intent", "key", "draft", "certificate", "file", "end",
	}, events(t, text))
	for _, e := range entries(t, text) {
		if e.Event == "draft" {
			require.Equal(t, "zlint "+lint.Version+" and signet: no finding", e.Detail["lint"])
		}
	}
	begin := entries(t, text)[0].Detail
	require.Equal(t, soft.Label, begin["token"].(map[string]any)["Label"])
	require.NotEmpty(t, begin["token"].(map[string]any)["Serial"])
	require.Len(t, begin["moduleSha256"], 64)
	require.Len(t, begin["tool"].(map[string]any)["executableSha256"], 64)
}

// A second run refuses, whatever folder it is given, and changes nothing.
func TestASecondRunChangesNothing(t *testing.T) {
	t.Parallel()
	token := softhsmtest.New(t)
	parent := t.TempDir()
	out := filepath.Join(parent, "ca")
	plan := parse(t, planText)
	_, err := ceremony.Run(t.Context(), token, plan, out)
	require.NoError(t, err)
	before, keys := snapshot(t, parent), labels(t, token)
	require.Equal(t, []string{"signet/1/_system/issuer/issuer/0", "signet/1/_system/root/root/2"}, keys)

	other := strings.NewReplacer("key: issuer", "key: other").Replace(planText) // the root's label is taken
	free := strings.NewReplacer("key: issuer", "key: other", "generation: 2", "generation: 3").Replace(planText)
	for name, c := range map[string]struct {
		plan string
		out  string
		want error
	}{
		"same again":      {planText, out, ceremony.ErrLabel},
		"another folder":  {planText, filepath.Join(parent, "ca2"), ceremony.ErrLabel},
		"one label taken": {other, filepath.Join(parent, "ca2"), ceremony.ErrLabel},
		"folder exists":   {free, out, ceremony.ErrOutput},
		"file in the way": {free, filepath.Join(out, ceremony.RootFile), ceremony.ErrOutput},
		"no parent":       {free, filepath.Join(parent, "a", "b"), ceremony.ErrOutput},
	} {
		_, err := ceremony.Run(t.Context(), token, parse(t, c.plan), c.out)
		require.ErrorIs(t, err, c.want, name)
		require.Equal(t, before, snapshot(t, parent), name)
		require.Equal(t, keys, labels(t, token), name)
	}
}

func TestRunRefusesAPlanWithoutText(t *testing.T) {
	t.Parallel()
	token := softhsmtest.New(t)
	parsed := parse(t, planText)
	out := filepath.Join(t.TempDir(), "ca")
	_, err := ceremony.Run(t.Context(), token, ceremony.Plan{Name: parsed.Name, Root: parsed.Root, Issuer: parsed.Issuer}, out)
	require.ErrorIs(t, err, ceremony.ErrPlan)
	require.NoDirExists(t, out)
	require.Empty(t, labels(t, token))
	// A change after the review is seen as well, if it does harm.
	parsed.Root.Algorithm = hsm.RSA2048
	_, err = ceremony.Run(t.Context(), token, parsed, out)
	require.ErrorIs(t, err, ceremony.ErrPlan)
}

// A ceremony that fails on the way says so in its transcript, and the next one
// does not touch what is left.
func TestAFailureIsOnRecord(t *testing.T) {
	t.Parallel()
	token := softhsmtest.New(t)
	parent := t.TempDir()
	out := filepath.Join(parent, "ca")
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	clock := func() time.Time {
		if calls++; calls == 5 { // the line of the root's key
			cancel()
		}
		return time.Now()
	}
	_, err := ceremony.Start(ctx, token, parse(t, planText), out, clock)
	require.ErrorIs(t, err, ceremony.ErrStep)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, fault.Internal, fault.KindOf(err))
	text, err := os.ReadFile(filepath.Join(out, ceremony.TranscriptFile))
	require.NoError(t, err)
	got := events(t, text)
	require.Equal(t, []string{"begin", "key.intent", "key"}, got[:3])
	require.Equal(t, "failed", got[len(got)-1])
	_, err = ceremony.VerifyTranscript(bytes.NewReader(text))
	require.ErrorIs(t, err, ceremony.ErrTranscript)
	require.NoFileExists(t, filepath.Join(out, ceremony.ChainFile))

	before := labels(t, token)
	require.Contains(t, before, "signet/1/_system/root/root/2")
	_, err = ceremony.Run(t.Context(), token, parse(t, planText), filepath.Join(parent, "again"))
	require.ErrorIs(t, err, ceremony.ErrLabel)
	require.Equal(t, before, labels(t, token))
}

func TestEveryAlgorithm(t *testing.T) {
	t.Parallel()
	token := softhsmtest.New(t)
	dir := t.TempDir()
	for i, alg := range []string{"P-256", "P-384", "RSA-3072", "Ed25519"} {
		text := strings.NewReplacer("Ed25519", alg, "P-384", alg, "key: ", "key: k"+string(rune('a'+i))).Replace(planText)
		result, err := ceremony.Run(t.Context(), token, parse(t, text), filepath.Join(dir, alg))
		require.NoError(t, err, alg)
		require.NoError(t, issuance.VerifyChain([][]byte{result.Issuer, result.Root}, time.Now()))
	}
}

func TestOpenSSLAcceptsTheCeremony(t *testing.T) {
	t.Parallel()
	openssl := testtool.OpenSSL(t)
	out := filepath.Join(t.TempDir(), "ca")
	_, err := ceremony.Run(t.Context(), softhsmtest.New(t), parse(t, planText), out)
	require.NoError(t, err)
	text, err := exec.CommandContext(t.Context(), openssl, "verify", "-x509_strict", "-CAfile",
		filepath.Join(out, ceremony.RootFile), filepath.Join(out, ceremony.ChainFile)).CombinedOutput()
	require.NoError(t, err, "%s", text)
}

func TestPlanRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string][2]string{
		"unknown field":       {"name: test", "nmae: test"},
		"no name":             {"name: test", "name: ''"},
		"no root":             {"root:", "rooot:"},
		"no key":              {"key: root", "key: ''"},
		"slash in a key":      {"key: root", "key: a/b"},
		"negative generation": {"generation: 2", "generation: -1"},
		"unknown algorithm":   {"algorithm: P-384", "algorithm: P-521"},
		"small RSA":           {"algorithm: P-384", "algorithm: RSA-2048"},
		"no algorithm":        {"algorithm: P-384", "algorithm: ''"},
		"no unit":             {"validity: 96h", "validity: 96"},
		"split second":        {"validity: 96h", "validity: 96h1ns"},
		"too short":           {"validity: 48h", "validity: 1h"},
		"a century":           {"validity: 96h", "validity: 876000h"},
		"issuer lives longer": {"validity: 48h", "validity: 97h"},
		"no common name":      {"common_name: Bank Issuer", "organization: Bank"},
		"bad country":         {"country: DE", "country: Germany"},
		"bad name":            {"common_name: Bank Issuer", `common_name: "a\tb"`},
		"equal subjects":      {"{common_name: Bank Issuer}", "{country: DE, organization: Bank, common_name: Bank Root 2}"},
		"serial number":       {"common_name: Bank Issuer", "common_name: x, serial_number: y"},
		"empty":               {planText, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, planText, change[0])
			text := strings.Replace(planText, change[0], change[1], 1)
			p, err := ceremony.Parse("plan.yaml", []byte(text))
			if err == nil { // found by the rehearsal, which needs no token state
				token := softhsmtest.New(t)
				out := filepath.Join(t.TempDir(), "ca")
				_, err = ceremony.Run(t.Context(), token, p, out)
				require.NoDirExists(t, out)
				require.Empty(t, labels(t, token))
			}
			require.ErrorIs(t, err, ceremony.ErrPlan)
		})
	}
	_, err := ceremony.Load(filepath.Join(t.TempDir(), "none.yaml"))
	require.ErrorIs(t, err, ceremony.ErrPlan)
}

func TestPlanHashIsThatOfTheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "plan.yaml")
	require.NoError(t, os.WriteFile(path, []byte(planText), 0o600))
	loaded, err := ceremony.Load(path)
	require.NoError(t, err)
	parsed := parse(t, planText)
	require.Equal(t, parsed.Hash(), loaded.Hash())
	changed := parse(t, planText+"# reviewed\n")
	require.NotEqual(t, parsed.Hash(), changed.Hash())
}

func TestTranscriptTampering(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "ca")
	_, err := ceremony.Run(t.Context(), softhsmtest.New(t), parse(t, planText), out)
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(out, ceremony.TranscriptFile))
	require.NoError(t, err)
	lines := strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n")
	lines[len(lines)-1] += "\n"
	join := func(l ...string) string { return strings.Join(l, "") }
	require.Equal(t, string(text), join(lines...))
	for name, bad := range map[string]string{
		"nothing":        "",
		"cut tail":       join(lines[:len(lines)-1]...),
		"cut head":       join(lines[1:]...),
		"line taken out": join(append(append([]string{}, lines[:3]...), lines[4:]...)...),
		"lines swapped":  join(append([]string{lines[0], lines[2], lines[1]}, lines[3:]...)...),
		"line twice":     join(append([]string{lines[0], lines[0]}, lines[1:]...)...),
		"after the end":  join(append(append([]string{}, lines...), lines[len(lines)-1])...),
		"half a line":    string(text[:len(text)-1]),
		"edited":         strings.Replace(string(text), `"result":"ok"`, `"result":"Ok"`, 1),
		"other spelling": strings.Replace(string(text), `{"entry"`, `{ "entry"`, 1),
		"key twice":      strings.Replace(string(text), `{"entry"`, `{"hash":"","entry"`, 1),
	} {
		_, err := ceremony.VerifyTranscript(strings.NewReader(bad))
		require.ErrorIs(t, err, ceremony.ErrTranscript, name)
	}
	step := 1 // each byte is under its line's hash, so that some of each line stand for all
	if os.Getenv("SIGNET_LONG") == "" {
		step = 61
	}
	for i := 0; i < len(text); i += step {
		flipped := bytes.Clone(text)
		flipped[i] ^= 1
		_, err := ceremony.VerifyTranscript(bytes.NewReader(flipped))
		require.ErrorIs(t, err, ceremony.ErrTranscript, "byte %d", i)
	}
}

func FuzzVerifyTranscript(f *testing.F) {
	f.Add([]byte(`{"entry":{"seq":1,"time":"2026-01-02T03:04:05Z","prev":"` + strings.Repeat("0", 64) + `","event":"begin","result":"ok"},"hash":"x"}` + "\n"))
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		last, err := ceremony.VerifyTranscript(bytes.NewReader(text))
		if err != nil {
			require.ErrorIs(t, err, ceremony.ErrTranscript)
			return
		}
		require.True(t, bytes.HasSuffix(text, []byte(`"hash":"`+last+"\"}\n")))
	})
}

func readPEM(t *testing.T, path string) (certs [][]byte) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		require.Equal(t, "CERTIFICATE", block.Type)
		certs = append(certs, block.Bytes)
	}
	return certs
}

type entry struct {
	Event  string
	Detail map[string]any
}

func entries(t *testing.T, text []byte) (out []entry) {
	t.Helper()
	for l := range strings.Lines(string(text)) {
		var v struct{ Entry entry }
		require.NoError(t, json.Unmarshal([]byte(l), &v))
		out = append(out, v.Entry)
	}
	return out
}

func events(t *testing.T, text []byte) (out []string) {
	t.Helper()
	for _, e := range entries(t, text) {
		if e.Event != "step" && e.Event != "signature" {
			out = append(out, e.Event)
		}
	}
	return out
}

func labels(t *testing.T, token *hsm.Token) (out []string) {
	t.Helper()
	keys, err := token.Keys(t.Context(), func(hsm.Ref) bool { return true })
	require.NoError(t, err)
	for _, k := range keys {
		out = append(out, k.Ref.String())
	}
	slices.Sort(out)
	return out
}

// snapshot maps the paths below dir to their content.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			out[path] = "folder"
			return err
		}
		text, err := os.ReadFile(path)
		out[path] = string(text)
		return err
	}))
	return out
}
