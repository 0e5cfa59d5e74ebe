package apitest

import (
	"os"
	"path/filepath"
	"testing"
)

// Root finds the repository: the folder above the test's with go.mod.
func Root(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for d := dir; d != filepath.Dir(d); d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d
		}
	}
	tb.Fatalf("no go.mod above %s", dir)
	return ""
}
