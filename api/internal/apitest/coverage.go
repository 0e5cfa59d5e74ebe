package apitest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Operation is a row of docs/coverage.md, or an operation of a contract.
type Operation struct {
	ID, Method, Path string
	Served           bool
}

// Coverage reads the rows of docs/coverage.md whose id starts with one of the
// prefixes.
func Coverage(tb testing.TB, prefixes ...string) []Operation {
	tb.Helper()
	doc, err := os.ReadFile(filepath.Join(Root(tb), "docs", "coverage.md"))
	if err != nil {
		tb.Fatal(err)
	}
	var ops []Operation
	for _, line := range strings.Split(string(doc), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 6 || !hasPrefix(strings.TrimSpace(cells[1]), prefixes) {
			continue
		}
		op := Operation{ID: strings.TrimSpace(cells[1]), Method: strings.TrimSpace(cells[2]), Path: strings.TrimSpace(cells[3])}
		switch state := strings.TrimSpace(cells[4]); state {
		case "served":
			op.Served = true
		case "not yet":
		default:
			tb.Fatalf("docs/coverage.md: %s has state %q", op.ID, state)
		}
		ops = append(ops, op)
	}
	return ops
}

func hasPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}
