// Package testtool finds the programs of others that tests hold our output
// against. Where one is missing its tests say that they are skipped and what to
// install; in CI they fail. It has no states and owns nothing; only tests import
// it. Safe for concurrent use.
package testtool
