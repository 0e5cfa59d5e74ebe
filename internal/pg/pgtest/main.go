package pgtest

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// Main runs a package's tests, stops the cluster and then fails the binary if a
// goroutine is left:
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
func Main(m *testing.M, options ...goleak.Option) {
	code := m.Run()
	Stop()
	if code == 0 {
		if err := goleak.Find(options...); err != nil {
			fmt.Fprintf(os.Stderr, "pgtest: leaked goroutines: %v\n", err)
			code = 1
		}
	}
	os.Exit(code)
}
