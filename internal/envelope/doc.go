// Package envelope seals secrets that live in database rows.
//
// It promises that a sealed value opens only in the very place it was sealed
// for (tenant, table, column, row), and only while the HSM's key-encryption key
// exists: copied to another row, column or tenant, or with one bit changed, it is
// ErrCorrupt. Equal plaintexts give different blobs. An outage of HSM or database
// is fault.ErrUnavailable and never a verdict; tenants whose key was unwrapped
// before keep working through it.
//
// Keys, top down: the KEK, which never leaves the HSM; a DEK per tenant, 32
// random bytes sealed by the KEK, made on first use, unwrapped once per process;
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
// data is "signet/dek/1" and the encoding of its tenant and version. Golden tests
// hold these bytes. (Rationale: reliability rules for rows, NIST SP 800-38D 8.3.)
//
// States: a DEK version exists or does not, and is never changed. Owns: table
// dek. Callers: domains, outside of transactions: the first use of a tenant asks
// the HSM and takes a connection of its own. A Keyring is safe for concurrent use.
package envelope
