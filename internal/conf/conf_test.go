package conf_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/signet-hsm/signet/internal/conf"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type sample struct {
	REST struct {
		Address string `yaml:"address"`
		Port    uint16 `yaml:"port"`
	} `yaml:"rest"`
	Lifetime conf.Duration     `yaml:"lifetime"`
	PIN      conf.SecretSource `yaml:"pin"`
	Realms   []struct {
		Issuer string `yaml:"issuer"`
	} `yaml:"realms"`
	Labels map[string]string `yaml:"labels"`
	Debug  bool              `yaml:"debug"`
}

func (s *sample) Validate() error {
	if s.REST.Port == 1 {
		return errors.New("rest.port: 1 is taken")
	}
	return nil
}

func TestLoad(t *testing.T) {
	t.Parallel()
	file := write(t, "signet.yaml", 0o644, `
# a comment
rest:
  address: "[::1]"
  port: 8443
lifetime: 160h
pin: {file: /run/pin}
realms:
  - issuer: https://idp/realms/alpha
labels: {a: b}
`)
	c, err := conf.Load[sample](file)
	require.NoError(t, err)
	require.Equal(t, "[::1]", c.REST.Address)
	require.EqualValues(t, 8443, c.REST.Port)
	require.Equal(t, 160*time.Hour, c.Lifetime.Std())
	require.Equal(t, "/run/pin", c.PIN.File)
	require.Len(t, c.Realms, 1)
}

func write(t *testing.T, name string, mode os.FileMode, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(file, []byte(content), mode))
	require.NoError(t, os.Chmod(file, mode)) // past the umask
	return file
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ in, want string }{
		"unknown key":         {"debug: true\nprot: 8443", "f.yaml:2:1: unknown field \"prot\"\n    prot\n    ^"},
		"unknown nested key":  {"rest:\n  prot: 8443", "f.yaml:2:3: unknown field \"prot\"\n      prot\n      ^"},
		"unknown in a list":   {"realms:\n- issuer: a\n- isuer: b", "f.yaml:3:3: unknown field \"isuer\""},
		"mis-cased key":       {"Debug: true", "f.yaml:1:1: unknown field \"Debug\""},
		"Go's name":           {"REST: {}", "f.yaml:1:1: unknown field"},
		"duplicate key":       {"debug: true\ndebug: false", "f.yaml:2:1: mapping key \"debug\" already defined at [1:1]\n    debug\n    ^"},
		"duplicate in a map":  {"labels:\n  a: b\n  a: c", "f.yaml:3:3: mapping key \"a\" already defined"},
		"wrong type":          {"debug: perhaps", "f.yaml:1:8: "},
		"old-style boolean":   {"debug: yes", "f.yaml:1:8: "},
		"negative port":       {"rest: {port: -1}", "f.yaml:1:14: "},
		"port too large":      {"rest: {port: 65536}", "f.yaml:1:14: "},
		"fractional port":     {"rest: {port: 84.5}", "f.yaml:1:14: fractions"},
		"not a number":        {"rest: {port: .nan}", "f.yaml:1:14: fractions"},
		"octal port":          {"rest: {port: 010}", "f.yaml:1:14: write numbers in plain decimal"},
		"hexadecimal port":    {"rest: {port: 0x10}", "f.yaml:1:14: write numbers in plain decimal"},
		"grouped port":        {"rest: {port: 8_443}", "f.yaml:1:14: "},
		"text for a struct":   {"rest: 8443", "f.yaml:1:7: "},
		"list for a struct":   {"rest: [8443]", "f.yaml:1:7: "},
		"two documents":       {"debug: true\n---\ndebug: false", "f.yaml:3:"},
		"anchor":              {"labels: &x {a: b}", "f.yaml:1:9: anchors"},
		"alias":               {"labels: {a: &x b, c: *x}", "f.yaml:1:13: anchors"},
		"merge key":           {"labels:\n  <<: {a: b}", "f.yaml:2:3: anchors"},
		"tag":                 {"debug: !!bool true", "f.yaml:1:8: anchors"},
		"empty":               {"", "f.yaml: the file is empty"},
		"comments only":       {"# nothing\n", "f.yaml: the file is empty"},
		"syntax":              {"debug: [", "f.yaml:1:"},
		"tab":                 {"rest:\n\tport: 1", "f.yaml:2:"},
		"bare number":         {"lifetime: 160", "f.yaml:1:11: want a duration such as"},
		"no duration":         {"lifetime: 160x", "f.yaml:1:11: \"160x\" is no duration"},
		"validate":            {"rest: {port: 1}", "f.yaml: rest.port: 1 is taken"},
		"too large":           {"# " + strings.Repeat("x", 1<<20), "f.yaml: larger than"},
		"secret without both": {"pin: {}", "f.yaml:1:6: a secret needs file, fd, credential or prompt"},
		"secret with both":    {"pin: {file: x, fd: 3}", "a secret has one of file, fd, credential and prompt"},
		"negative fd":         {"pin: {fd: -1}", "fd -1 is no descriptor"},
		"secret in the open":  {"pin: hunter2", "f.yaml:1:6: "},
		"unknown in a secret": {"pin: {fiel: x}", "f.yaml:1:7: unknown field \"fiel\""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := conf.Parse[sample]("f.yaml", []byte(tc.in))
			require.Error(t, err)
			require.Contains(t, err.Error(), tc.want)
			require.Zero(t, got)
		})
	}
}

// A refused key may carry a password; the message must end before it.
func TestTheExcerptEndsWithTheRefusedWord(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		"databse: postgres://u:hunter2@h/d",
		"database_url: x\ndatabase_url: hunter2",
		"rest: {databse: hunter2}",
		"pin: {fiel: hunter2}",
		"x: hunter2\n---\ny: hunter2",
	} {
		_, err := conf.Parse[sample]("f.yaml", []byte(in))
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hunter2", in)
	}
}

func TestMissingFile(t *testing.T) {
	t.Parallel()
	_, err := conf.Load[sample](filepath.Join(t.TempDir(), "none.yaml"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestDurationText(t *testing.T) {
	t.Parallel()
	b, err := conf.Duration(90 * time.Second).MarshalText()
	require.NoError(t, err)
	require.Equal(t, "1m30s", string(b))
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "rest:\n  address: a\n  port: 1\n", "debug: true\n---\n", "a: &x [*x, *x]", "? x\n: y", "- - - -",
		"lifetime: 1h", "pin: {fd: 3}", "labels: {a: b, a: c}", "\"\\u0000\": |\n  x\n", "{", "x: >-\n", "\t", "%YAML 1.2\n---\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := conf.Parse[sample]("f.yaml", b)
		if err != nil {
			require.Zero(t, c)
			require.True(t, strings.HasPrefix(err.Error(), "f.yaml:"), err)
		}
	})
}
