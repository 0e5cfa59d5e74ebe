// Package envelope seals secrets that live in database rows.
//
// It promises that a sealed value opens only in the very place it was sealed
// for (tenant, table, column, row), and only while the HSM's key-encryption key
// exists: copied to another row, column or tenant, or with one bit changed, it is
// ErrCorrupt. Equal plaintexts give different blobs. An outage of HSM or database
// is fault.ErrUnavailable and never a verdict; tenants whose key was unwrapped
// before keep working through it.
//
// Keys, top down: the KEK, which never leaves the HSM; a DEK per tenant and table,
// 32 random bytes sealed by the KEK, made on first use, unwrapped once per process;
// a row key, HKDF-SHA256(DEK, place), which encrypts with AES-256-GCM. A key per
// row keeps the bound of 2^32 random nonces per key out of reach, however many
// rows a tenant has.
//
// A blob is
//
//	0x01 | DEK version, 4 bytes big endian | nonce, 12 bytes | ciphertext | tag, 16 bytes
//
// and the place is encoded as
//
//	0x01 | DEK version | for each of tenant, table, column, row: length, 4 bytes | text
//
// which is both HKDF's info and GCM's associated data; a DEK's own associated
// data is "signet/dek/2" and the encoding of its version, tenant and table; one from
// before there were tables' keys seals for all of its tenant and has "signet/dek/1"
// without a table. Versions count per tenant, so a blob names its DEK without the
// table. Golden tests hold these bytes. (Rationale: reliability rules for rows, NIST SP 800-38D 8.3.)
//
// States of a DEK and of a KEK: ADDED -> PRIMARY -> RETIRING -> RETIRED -> gone. There
// is one PRIMARY DEK for each tenant and table, and one PRIMARY KEK. A Rotation adds a
// key, opens it, makes it PRIMARY, seals anew what the old one sealed in batches that
// are each one commit, and retires the old one when a whole pass finds nothing. At
// every moment, through crashes too, every value opens: a blob names its DEK and a
// DEK its KEK. The cost is one look at the database every Options.Refresh.
//
// Owns: tables dek and kek; the sealed columns are their domains', which describe
// them as Columns. Callers: domains, outside of transactions: the first use of a tenant asks
// the HSM and takes a connection of its own. A Keyring is safe for concurrent use.
package envelope
