// Package arch holds no code: its tests read the repository's own source and
// fail when an import points upward, a package lacks its doc.go, or a pure
// package imports what it may not. The sources are parsed in this process, so
// that the test cache sees every file it depends on.
package arch
