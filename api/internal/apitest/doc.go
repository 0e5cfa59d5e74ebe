// Package apitest holds the checks that every dialect's tests share: the sentinels
// of a package by reading its source, a dialect's contract and its verdicts, and
// the table of docs/coverage.md. Callers: tests only.
package apitest
