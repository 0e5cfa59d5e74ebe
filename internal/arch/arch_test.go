package arch_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/signet-hsm/signet"

// layers lists which packages stand where; an import may only point to a
// smaller number, or stay inside one entry. The longest matching prefix counts.
// A new root package has to be entered here, which is the moment to ask where
// it belongs.
var layers = map[string]int{
	"fault":              0,
	"tenant":             10,
	"schema":             10,
	"internal/secret":    20,
	"internal/testvec":   20,
	"internal/testtool":  20,
	"internal/sweep":     20,
	"internal/obs":       21,
	"internal/conf":      21,
	"internal/pg":        22,
	"internal/pgcluster": 21,
	"internal/envelope":  23,
	"internal/outbox":    23,
	"internal/arch":      20,
	"internal/ownkey":    40,
	"internal/qr":        20,
	"internal/group":     20,
	"internal/filter":    20,
	"internal/egress":    21,
	"internal/linear":    20,
	"internal/load":      20,
	"hsm":                30,
	"otp":                30,
	"signature":          30,
	"ca/issuance":        30,
	"ca/lint":            31,
	"ca/profile":         32,
	"ca/revocation":      55,
	"access":             40,
	"audit":              35,
	"softhsm":            40,
	"rollback":           40,
	"app":                50,
	"ca":                 60,
	"registration":       60,
	"push":               70,
	"callback":           70,
	"token":              65,
	"ceremony":           80,
	"operation":          80,
	"api/signetv1":       90,
	"api/internal":       95,
	"api":                100,
	"client":             110,
	"benchmarks":         110,
	"cmd":                120,
}

// pure lists the packages that may import nothing but what stands here (and the
// listed packages of signet): an allow-list, because a deny-list once let
// net/http slip through.
var pure = map[string][]string{
	"fault":           {"errors"},
	"signature":       {"bytes", "cmp", "crypto/", "encoding", "encoding/", "errors", "fmt", "hash", "io", "log/slog", "math/big", "math/bits", "net/url", "slices", "sort", "strconv", "strings", "sync", "sync/atomic", "unicode/utf8", "unsafe", module + "/fault"},
	"otp":             {"bytes", "crypto/", "encoding", "encoding/", "errors", "fmt", "hash", "math", "math/big", "strconv", "strings", "time", module + "/fault"},
	"internal/filter": {"cmp", "fmt", "maps", "math/big", "slices", "strconv", "strings", "time", "unicode", "unicode/utf8", module + "/fault"},
	"ca/issuance":     {"bytes", "cmp", "crypto", "crypto/", "encoding", "encoding/", "errors", "fmt", "hash", "io", "math/big", "net/netip", "net/url", "slices", "sort", "strconv", "strings", "sync", "sync/atomic", "time", "unicode", "unicode/utf8", "golang.org/x/crypto/cryptobyte", "golang.org/x/crypto/cryptobyte/asn1", module + "/fault"},
}

// impure are members of allowed families that no pure package may use.
var impure = map[string]bool{"crypto/rand": true, "crypto/tls": true}

type pkg struct {
	dir   string // slash path below the root
	files []*ast.File
	names []string
}

func TestImportsPointDownwards(t *testing.T) {
	for _, p := range packages(t) {
		from, ok := layer(p.dir)
		require.True(t, ok, "package %q has no layer: enter it in internal/arch", p.dir)
		for _, imp := range imports(p) {
			rel, ours := strings.CutPrefix(imp, module+"/")
			if !ours {
				continue
			}
			to, ok := layer(rel)
			require.True(t, ok, "import %q has no layer", imp)
			require.True(t, to < from || entry(rel) == entry(p.dir),
				"%s (layer %d) must not import %s (layer %d)", p.dir, from, rel, to)
		}
	}
}

func TestPurePackagesImportOnlyWhatIsAllowed(t *testing.T) {
	seen := 0
	for _, p := range packages(t) {
		allowed, ok := pure[p.dir]
		if !ok {
			continue
		}
		seen++
		for _, imp := range imports(p) {
			good := false
			for _, a := range allowed {
				good = good || imp == a || strings.HasSuffix(a, "/") && strings.HasPrefix(imp, a)
			}
			require.True(t, good && !impure[imp], "pure package %s must not import %s", p.dir, imp)
		}
	}
	require.Equal(t, len(pure), seen, "a pure package is gone")
}

func TestEveryPackageHasItsDocGo(t *testing.T) {
	for _, p := range packages(t) {
		if p.dir == "tools" {
			continue
		}
		var docs []string
		for i, f := range p.files {
			if f.Doc != nil && len(strings.Fields(f.Doc.Text())) > 8 {
				docs = append(docs, p.names[i])
			}
		}
		if generated(p) {
			continue
		}
		require.Equal(t, []string{"doc.go"}, docs, "package %s: exactly one package comment, in doc.go", p.dir)
	}
}

// A plant in each test proves that the rules can fail.
func TestTheRulesCanFail(t *testing.T) {
	up, _ := layer("api/ast")
	down, _ := layer("hsm")
	require.Greater(t, up, down)
	require.NotEqual(t, entry("ca"), entry("ca/issuance"))
	require.Equal(t, entry("api/ast"), entry("api/powerauth/internal/spec"))
	_, ok := layer("utils")
	require.False(t, ok)
}

// entry is the longest prefix of dir that layers lists.
func entry(dir string) string {
	for d := dir; ; d = path.Dir(d) {
		if d == "." {
			return "?"
		}
		if _, ok := layers[d]; ok {
			return d
		}
	}
}

func layer(dir string) (int, bool) {
	n, ok := layers[entry(dir)]
	return n, ok
}

func imports(p pkg) []string {
	set := map[string]bool{}
	for _, f := range p.files {
		for _, i := range f.Imports {
			s, err := strconv.Unquote(i.Path.Value)
			if err == nil {
				set[s] = true
			}
		}
	}
	out := make([]string, 0, len(set))
	for s := range set {
		out = append(out, s)
	}
	sort.Strings(out)
	return out
}

func generated(p pkg) bool {
	for _, f := range p.files {
		if ast.IsGenerated(f) {
			return true
		}
	}
	return false
}

// packages parses every Go package of the repository, without its tests.
func packages(t *testing.T) []pkg {
	t.Helper()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	byDir := map[string]*pkg{}
	fset := token.NewFileSet()
	err = filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, file)
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			_, nested := os.Stat(filepath.Join(file, "go.mod"))
			if strings.HasPrefix(d.Name(), ".") && rel != "." || d.Name() == "testdata" || d.Name() == "bin" || nested == nil && rel != "." {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") || strings.HasSuffix(rel, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(fset, file, nil, parser.ParseComments|parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir := path.Dir(rel)
		p := byDir[dir]
		if p == nil {
			p = &pkg{dir: dir}
			byDir[dir] = p
		}
		p.files, p.names = append(p.files, f), append(p.names, path.Base(rel))
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, len(byDir), 10, "the walk found too little to be true")
	out := make([]pkg, 0, len(byDir))
	for _, p := range byDir {
		out = append(out, *p)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].dir < out[j].dir })
	return out
}
