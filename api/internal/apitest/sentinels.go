package apitest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Sentinels returns the exported Err* variables of the package in dir (below the
// repository's root) and the reason each was made with.
func Sentinels(tb testing.TB, dir string) map[string]string {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(Root(tb), dir, "*.go"))
	if err != nil || len(files) == 0 {
		tb.Fatalf("no Go files in %s: %v", dir, err)
	}
	found := map[string]string{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			tb.Fatal(err)
		}
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, s := range g.Specs {
				sentinel(tb, s.(*ast.ValueSpec), found)
			}
		}
	}
	return found
}

func sentinel(tb testing.TB, v *ast.ValueSpec, found map[string]string) {
	tb.Helper()
	for i, name := range v.Names {
		if !strings.HasPrefix(name.Name, "Err") {
			continue
		}
		reason := ""
		if i < len(v.Values) {
			reason = firstText(v.Values[i])
		}
		if reason == "" {
			tb.Fatalf("%s is declared in a way this test can not read", name.Name)
		}
		found[name.Name] = reason
	}
}

// firstText is the first string argument of a call: fault.New(kind, REASON, ...).
func firstText(e ast.Expr) string {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return ""
	}
	for _, a := range call.Args {
		if lit, ok := a.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil {
				return s
			}
		}
	}
	return ""
}

// RequireRows fails for each sentinel of the packages without a row.
func RequireRows(tb testing.TB, rows map[string]bool, dirs ...string) {
	tb.Helper()
	for _, dir := range dirs {
		for name, reason := range Sentinels(tb, dir) {
			if !rows[reason] {
				tb.Errorf("%s.%s (%s) has no row", dir, name, reason)
			}
		}
	}
}
