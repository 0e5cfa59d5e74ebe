package main

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ceremony": main})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	soft := softhsmtest.Create(t)
	plans, err := filepath.Abs("../../softhsm/plans")
	require.NoError(t, err)
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Setup: func(e *testscript.Env) error {
		e.Vars = append(e.Vars, "MODULE="+soft.Module, "CONF="+soft.Conf, "LABEL="+soft.Label, "TOKEN="+soft.Dir, "PLANS="+plans)
		return nil
	}})
}

// What operators run to practise with runs, on the plan that stands ready.
func TestPractice(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("ceremony") // testscript has put us there
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "practice")
	out, err := exec.CommandContext(t.Context(), "../../softhsm/scripts/ceremony.sh", dir, "../../softhsm/plans/root-issuer.yaml", program).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "intact: ")
	require.FileExists(t, filepath.Join(dir, "out", "transcript.html"))
}

// The program needs no database and no network: nothing of the kind is linked that
// it could call, and no line of the packages that it is made of dials or listens.
func TestNoDatabaseAndNoNetwork(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Standard,Dir,GoFiles,CgoFiles", ".").Output()
	require.NoError(t, err)
	forbidden := []string{"github.com/jackc/", "google.golang.org/grpc", "database/sql", "golang.org/x/crypto/ssh", "github.com/riverqueue/", "github.com/signet-hsm/signet/api", "github.com/signet-hsm/signet/internal/pg", "github.com/signet-hsm/signet/internal/egress"}
	dials := map[string][]string{
		"net":        {"Dial", "DialTimeout", "DialTCP", "DialUDP", "DialUnix", "DialIP", "Dialer", "Listen", "ListenPacket", "ListenTCP", "ListenUDP", "ListenUnix", "ListenConfig", "LookupHost", "LookupIP", "LookupAddr", "Resolver", "DefaultResolver"},
		"net/http":   {"Get", "Head", "Post", "PostForm", "Client", "DefaultClient", "Transport", "DefaultTransport", "ListenAndServe", "Server", "Serve"},
		"crypto/tls": {"Dial", "DialWithDialer", "Dialer", "Listen"},
		"net/rpc":    {"Dial", "DialHTTP"},
	}
	packages := 0
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath, Dir   string
			Standard          bool
			GoFiles, CgoFiles []string
		}
		err := d.Decode(&p)
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		for _, f := range forbidden {
			require.False(t, strings.HasPrefix(p.ImportPath, f), "%s is linked", p.ImportPath)
		}
		if p.Standard {
			continue
		}
		packages++
		for _, name := range append(p.GoFiles, p.CgoFiles...) {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			aliases := map[string]string{}
			for _, i := range file.Imports {
				path, err := strconv.Unquote(i.Path.Value)
				require.NoError(t, err)
				if dials[path] != nil {
					alias := path[strings.LastIndex(path, "/")+1:]
					if i.Name != nil {
						alias = i.Name.Name
					}
					require.NotEqual(t, ".", alias)
					aliases[alias] = path
				}
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					if x, ok := s.X.(*ast.Ident); ok && slices.Contains(dials[aliases[x.Name]], s.Sel.Name) {
						require.Fail(t, "a connection", "%s/%s uses %s.%s", p.ImportPath, name, x.Name, s.Sel.Name)
					}
				}
				return true
			})
		}
	}
	require.Greater(t, packages, 20, "the list found too little to be true")
}

// A PIN that is typed is neither echoed nor in the argument list or environment of
// the process, while it waits and while it works.
func TestPINAtTheTerminal(t *testing.T) {
	t.Parallel()
	soft := softhsmtest.Create(t)
	program, err := exec.LookPath("ceremony")
	require.NoError(t, err)
	config := filepath.Join(t.TempDir(), "hsm.yaml")
	require.NoError(t, os.WriteFile(config, []byte("module: "+soft.Module+"\nenv: {SOFTHSM2_CONF: "+soft.Conf+"}\ntoken_label: "+soft.Label+"\npin: {prompt: PIN}\n"), 0o600))
	cmd := exec.CommandContext(t.Context(), program, "inventory", "--hsm", config)
	tty, err := pty.Start(cmd)
	require.NoError(t, err)
	defer tty.Close()
	var seen bytes.Buffer
	for !strings.HasSuffix(seen.String(), "PIN: ") {
		_, err := io.CopyN(&seen, tty, 1)
		require.NoError(t, err, "%q", seen.String())
	}
	pin := string(soft.PIN.Reveal())
	_, err = tty.WriteString(pin)
	require.NoError(t, err)
	for _, name := range []string{"cmdline", "environ"} {
		content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), name))
		if name == "environ" && os.Geteuid() != 0 {
			require.ErrorIs(t, err, os.ErrPermission, "the program lets nobody but root look")
			continue
		}
		require.NoError(t, err)
		require.NotEmpty(t, content)
		require.NotContains(t, string(content), pin)
	}
	_, err = tty.WriteString("\n")
	require.NoError(t, err)
	_, _ = io.Copy(&seen, tty) // ends with EIO when the program has
	require.NoError(t, cmd.Wait(), "%s", seen.String())
	require.NotContains(t, seen.String(), pin)
}
