// Package secret holds key material and passwords in a type that no printer,
// logger or encoder can spell.
//
// Bytes formats, logs and marshals as "[redacted]"; the content leaves only by
// Reveal, which is easy to find in review. Wipe overwrites it. The package owns
// no state; a Bytes is as safe for concurrent use as the slice it holds.
package secret
