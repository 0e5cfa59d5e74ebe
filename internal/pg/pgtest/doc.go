// Package pgtest gives tests real PostgreSQL databases, cheap enough for one per
// test.
//
// The first call of a test binary starts a private cluster in memory (/dev/shm,
// else the temporary directory) through pgcluster and migrates a template; each
// New or URL copies it. The copy holds all tables of schema/ and the tenants
// "alpha" and "beta", so that every test can try its names on a twin. The
// cluster ends with the binary, by whatever way that ends, and its folder goes.
//
// With SIGNET_TEST_DATABASE, a superuser's URL of a running server, the copies
// are made there and dropped after each test. Without PostgreSQL a test fails
// and names the package to install; it never skips.
//
// A package that checks for leaked goroutines calls Main in its TestMain.
//
// States: one cluster per process, started at first use. Owns: the folder and
// databases named signet_*. Callers: tests only. Safe for parallel tests.
package pgtest
