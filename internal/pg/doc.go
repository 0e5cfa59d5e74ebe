// Package pg opens, migrates and uses the PostgreSQL database for the packages
// that own tables.
//
// It promises: a pool with limits on everything (Open), a schema that is whole
// and never newer than the binary (Migrate, Pending, Check), transactions that
// are repeated when PostgreSQL asks for it (InTx), and errors told apart the way
// the domains need it: Unavailable for an outage, IsUnique for a lost race. It
// holds no SQL of a domain. The database is named by a URL alone; PG*
// environment variables and service files are ignored.
//
// States: none but the pool's. Owns: tables goose_db_version and goose_lock.
// Callers: every domain and cmd/signet; tests use pgtest. All functions are safe
// for concurrent use.
package pg
