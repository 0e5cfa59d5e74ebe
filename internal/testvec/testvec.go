package testvec

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// Read returns the content of a vector file, named relative to the folder.
func Read(tb testing.TB, name string) []byte {
	tb.Helper()
	dir := os.Getenv("SIGNET_VECTORS")
	if dir == "" {
		_, self, _, _ := runtime.Caller(0)
		dir = filepath.Join(filepath.Dir(self), "..", "..", "..", "shared", "vectors")
	}
	b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	switch {
	case err == nil:
		return b
	case os.IsNotExist(err) && os.Getenv("CI") == "":
		tb.Skipf("no test vectors: set SIGNET_VECTORS to the folder that holds %s", name)
	default:
		tb.Fatalf("test vectors: %v", err)
	}
	return nil
}

// JSON decodes a vector file into a T.
func JSON[T any](tb testing.TB, name string) T {
	tb.Helper()
	var v T
	if err := json.Unmarshal(Read(tb, name), &v); err != nil {
		tb.Fatalf("test vectors: %s: %v", name, err)
	}
	return v
}
