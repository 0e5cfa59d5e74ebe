package testtool

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// Find returns the path of a program; packages are those of Debian that have it.
func Find(tb testing.TB, name, packages string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		require.Empty(tb, os.Getenv("CI"), "%s is needed in CI: apt-get install %s", name, packages)
		tb.Skipf("SKIP: %s is not installed (apt-get install %s)", name, packages)
	}
	return path
}

// OpenSSL is Find for openssl.
func OpenSSL(tb testing.TB) string {
	tb.Helper()
	return Find(tb, "openssl", "openssl")
}
